"""Whole files, claimed folders, sealed results, and waiting for another process."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import classify.files
from classify.files import claim, done_once, held, is_sealed, seal, share_out, write_bytes

RECORD = {"config": {"lr": 0.1, "augmentation": {"flip": True}}, "seed": 0, "out": "a.b"}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_bytes(file, b"first")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[:2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_work_may_use_a_folder_again(tmp_path: Path) -> None:
    claim(tmp_path / "new" / "record.json", {**RECORD, "names": ("a", "b")})
    claim(tmp_path / "new" / "record.json", {**RECORD, "names": ("a", "b")})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({**RECORD, "seed": 1}, "seed is 0 there and 1 now"),
        (
            {**RECORD, "config": {"lr": 0.1, "augmentation": {"flip": False}}},
            "config.augmentation.flip is true there and false now",
        ),
        ({**RECORD, "half": True, "seed": 1}, "seed is 0 there and 1 now, half is null there and"),
        ({**RECORD, "half": True}, "half is null there and true now"),
    ],
)
def test_other_work_is_refused_by_every_difference(
    tmp_path: Path, other: dict[str, object], difference: str
) -> None:
    claim(tmp_path / "record.json", RECORD)
    with pytest.raises(ValueError, match=f"record.json is of other work: {difference}.*; give"):
        claim(tmp_path / "record.json", other)


@pytest.mark.parametrize("below", ["file/record.json", "file/deeper/record.json"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="/file is a file, where a folder has to be; give another"):
        claim(tmp_path / below, RECORD)


def test_what_others_left_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()  # hidden files say nothing
    (tmp_path / "scores.csv").touch()
    with pytest.raises(ValueError, match=r"holds scores\.csv but no record\.json.*; give another"):
        claim(tmp_path / "record.json", RECORD)
    assert not (tmp_path / "record.json").exists()


def test_a_seal_holds_as_long_as_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1,2")
    (tmp_path / "b").write_text("")
    assert not is_sealed(tmp_path, ["a", "b"])
    seal(tmp_path, ["a", "b"])
    assert is_sealed(tmp_path, ["a", "b"])
    assert not is_sealed(tmp_path, ["a", "c"])
    (tmp_path / "a").write_text("1,")
    assert not is_sealed(tmp_path, ["a", "b"])


def test_what_is_held_is_held_by_one_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(2):
        with held(path) as first, held(path) as second:
            assert (first, second) == (True, False)
        assert not path.exists()


def test_what_others_are_at_is_left_to_them_until_they_have_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classify.files, "_POLL_SECONDS", 0.0)
    busy, tried = ["b", "b", "c"], []

    def attempt(piece: str) -> bool:
        tried.append(piece)
        if piece in busy:
            busy.remove(piece)
            return False
        return True

    share_out(["a", "b", "c"], attempt)
    assert tried == ["a", "b", "c", "b", "c", "b"]


def test_work_is_done_once_and_by_another_process_if_one_stops_before_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock, result, begun = tmp_path / "new" / ".lock", tmp_path / "result", []

    def work() -> None:
        begun.append(len(begun))
        result.touch()

    with ExitStack() as other:
        lock.parent.mkdir()
        other.enter_context(held(lock))
        monkeypatch.setattr(time, "sleep", lambda _: other.close())  # it ends, and nothing is done
        done_once(lock, result.exists, work)
    done_once(lock, result.exists, work)
    assert begun == [0]
    assert not lock.exists()


def test_work_that_another_process_has_done_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock, result = tmp_path / ".lock", tmp_path / "result"
    with held(lock):
        monkeypatch.setattr(time, "sleep", lambda _: result.touch())
        done_once(lock, result.exists, lambda: pytest.fail("begun"))


def test_a_folder_that_another_process_claims_meanwhile_is_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    claim(path, RECORD)
    (tmp_path / "result").touch()
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: self != path and exists(self))  # as before
    claim(path, RECORD)
    with pytest.raises(ValueError, match="seed is 0 there and 1 now"):
        claim(path, RECORD | {"seed": 1})


def test_work_that_fails_is_told_and_left_to_another(tmp_path: Path) -> None:
    lock, begun = tmp_path / ".lock", []

    def work() -> None:
        begun.append(len(begun))
        raise ValueError("a bad image")

    for _ in range(2):
        with pytest.raises(ValueError, match="a bad image"):
            done_once(lock, lambda: False, work)
    assert begun == [0, 1]
    assert not lock.exists()


def test_further_processes_leave_work_to_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, waited = tmp_path / "result", []
    monkeypatch.setattr(classify.files.rank_zero_only, "rank", 1, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: (waited.append(seconds), result.touch()))
    done_once(tmp_path / ".lock", result.exists, lambda: pytest.fail("begun"))
    done_once(tmp_path / ".lock", result.exists, lambda: pytest.fail("begun"))
    assert waited == [1.0]
