"""Threads that other work makes slower than one are told of, and left as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recipes.chain.command import devices
from recipes.chain.command.devices import launch

ADVICE = "8 threads are slower here than one, as on cores that are shared"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers tried, on eight cores that another command is using."""
    before, numbers = torch.get_num_threads(), list[int]()

    def seconds(number: int) -> float:
        numbers.append(number)
        torch.set_num_threads(number)
        return float(number)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "_seconds", seconds)
    torch.set_num_threads(8)
    yield numbers
    torch.set_num_threads(before)


def test_slower_threads_are_told_of_and_stay(
    busy: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(1, accelerator="cpu").device.type == "cpu"
    assert capsys.readouterr().out.startswith(ADVICE)
    assert sorted(busy) == [1, 8]
    assert torch.get_num_threads() == 8


def test_nothing_is_said_where_they_are_no_slower(
    busy: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "_seconds", lambda number: 1 / number)
    launch(1, accelerator="cpu")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("way", ["variable", "one thread"])
def test_where_the_user_has_said_it_or_there_is_one_nothing_is_tried(
    busy: list[int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "variable":
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
    else:
        torch.set_num_threads(1)
    launch(1, accelerator="cpu")
    assert busy == []


def test_the_time_of_a_number_is_measured_by_it() -> None:
    before = torch.get_num_threads()
    try:
        assert devices._seconds(1) > 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
