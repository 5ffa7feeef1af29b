"""Command lines made of dataclasses: how values are written, what help shows, what is refused."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only
from recipe_doubles import pythons_own_signals

from recipes.celeba_augment import main as celeba_augment
from recipes.chain.command.command_line import parse, run


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part."""

    steps: int = 5
    """Steps of the part."""
    fast: bool = False
    """Whether it is fast."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    Further words.
    """

    real: Path
    """Folder of real images."""
    sets: list[Path]
    """Folders of generated images."""
    rates: list[int] = field(default_factory=lambda: [1, 2])
    """Rates to compare."""
    skip_bad: bool = False
    """Leave out what does not decode. Otherwise it stops."""
    preset: str = "small"
    """Where settings start from."""
    part: Part = field(default_factory=Part)
    """A part of it."""


PRESETS = {"small": {"part.steps": 2}, "large": {"part.steps": 90}}


def test_words_lists_and_switches() -> None:
    found = parse(Settings, ["a", "b", "c", "--rates", "3", "4", "--skip_bad", "--part.fast"])
    assert (found.real, found.sets) == (Path("a"), [Path("b"), Path("c")])
    assert found.rates == [3, 4]
    assert found.skip_bad
    assert found.part == Part(fast=True)
    assert parse(Settings, ["a", "b", "--rates=[5]", "--skip_bad=false"]).rates == [5]


def test_the_command_line_is_above_the_file_and_the_file_above_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("rates: [7]\npart: {fast: true}\n")
    words = ["a", "b", f"--config={file}"]
    found = parse(Settings, words, presets=PRESETS)
    assert (found.rates, found.part) == ([7], Part(steps=2, fast=True))
    assert parse(Settings, [*words, "--preset=large"], presets=PRESETS).part.steps == 90
    file.write_text("preset: large\npart: {steps: 3}\n")
    assert parse(Settings, words, presets=PRESETS).part.steps == 3
    assert parse(Settings, [*words, "--part.steps=4"], presets=PRESETS).part.steps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "sets"),
        (["a", "b", "--nope=1"], "--nope"),
        (["a", "b", "--rates", "few"], "few"),
        (["a", "b", "--part.steps=few"], "few"),
        (["a", "b", "--part.fast=1"], "--part.fast"),
        (["a", "b", "--config=absent.yaml"], "absent.yaml"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], message: str) -> None:
    skip = {"part.fast"} if "--part.fast=1" in arguments else set()
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        parse(Settings, arguments, skip=skip)
    assert "\n" not in str(refused.value)


def test_help_shows_the_fields_names_the_groups_and_says_how_to_see_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = {}
    for topic in ("", "part", "all"):
        with pytest.raises(SystemExit) as ended:
            parse(Settings, ["--help", *([topic] if topic else [])])
        assert ended.value.code == 0
        shown[topic] = capsys.readouterr().out
    assert "REAL SETS" in shown[""]
    assert "What is measured." in shown[""]
    assert "Rates to compare ([1, 2])" in shown[""]
    assert "--part.*" in shown[""]
    assert "--part.steps" not in shown[""]
    assert "--help NAME" in shown[""]
    assert "--part.steps" in shown["part"]
    assert "--rates" not in shown["part"]
    assert "--part.steps" in shown["all"]
    assert "--rates" in shown["all"]


def test_help_of_the_main_job_fits_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        celeba_augment(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100


def test_a_refused_command_ends_with_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ValueError("x is 1;\n give 2")

    def lose() -> None:
        raise PermissionError(13, "Permission denied", "/there")

    with pytest.raises(SystemExit, match=r"^error: x is 1; give 2$") as ended:
        run(refuse)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: x is 1; give 2\n"
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)  # which alone may meet it
    with pytest.raises(SystemExit, match=r"^error: .*/there"):
        run(lose)
    assert re.fullmatch(r"rank 1: error: .*/there.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_one_line(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    with pythons_own_signals():
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            run(lambda: os.kill(os.getpid(), number))
        assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert ended.value.code == status
    printed = capsys.readouterr().err
    assert printed == f"stopped by {number.name}; the same command continues\n"


def test_a_signal_that_comes_while_objects_are_cleared_away_is_not_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Cleared:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def main() -> None:
        Cleared()
        time.sleep(30)

    started = time.monotonic()
    with pythons_own_signals(), pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 130
    assert time.monotonic() - started < 20
    assert capsys.readouterr().err == "stopped by SIGINT; the same command continues\n"


def test_an_ignored_signal_stays_ignored() -> None:
    with pythons_own_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run(lambda: os.kill(os.getpid(), signal.SIGINT))
