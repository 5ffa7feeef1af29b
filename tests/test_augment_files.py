"""A file is whole or absent, whoever writes it, and a folder is one run's or refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from augment.files import claim, read_record, write_bytes

RECORD = {"steps": 4, "sizes": (8, 16)}


def test_two_writers_of_one_path_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "a.png", os.replace

    def delayed(source: Path, target: Path) -> None:
        """Between the first writer's content and its name, another writes the whole file."""
        monkeypatch.setattr(os, "replace", replace)
        write_bytes(path, b"second")
        replace(source, target)

    monkeypatch.setattr(os, "replace", delayed)
    write_bytes(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_stood_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_bytes(path, b"whole")

    def full(source: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(path, b"half")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_is_claimed_once_and_again_by_the_same_record(tmp_path: Path) -> None:
    path = tmp_path / "new" / "below" / "settings.json"
    for _ in range(2):
        assert claim(path, RECORD) == {"steps": 4, "sizes": [8, 16]} == read_record(path)
    with pytest.raises(ValueError, match=r"another run \(steps 4, now 5\); give another folder$"):
        claim(path, {**RECORD, "steps": 5})
    with pytest.raises(ValueError, match=r"another run \(seed None, now 1\)"):
        claim(path, {**RECORD, "seed": 1})


@pytest.mark.parametrize("below", [".", "x", "x/y"])
def test_a_file_where_a_folder_should_be_is_refused_and_left_alone(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"is a file or lies below one; give a folder$"):
        claim(tmp_path / "file" / below / "settings.json", RECORD)
    assert (tmp_path / "file").read_text() == "mine"


def test_results_without_a_record_are_someone_else_s(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds 0\.png but no settings\.json.*give another fold"):
        claim(tmp_path / "settings.json", RECORD, results=["1.png", "0.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]


@pytest.mark.parametrize("content", [b"", b"mine", b"[1]", b'{"a": ', b"\xff\x00", b"[" * 10**5])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    calls: list[Any] = [lambda: read_record(path), lambda: claim(path, RECORD)]
    for call in calls:
        with pytest.raises(ValueError, match=r"settings\.json is damaged or not a record; give"):
            call()
    assert path.read_bytes() == content


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"settings\.json is missing; give a folder"):
        read_record(tmp_path / "settings.json")
