"""Files that are lost, cut off or overwritten, clocks that go back, and two runs at once."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import command, start, wait

from recipes import celeba_augment

pytestmark = pytest.mark.faults

_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda whole: b"",
    "halved": lambda whole: whole[: len(whole) // 2],
    "four bytes short": lambda whole: whole[:-4],
    "garbage": lambda whole: b"\x00garbage\xff" * 20,
}
_OURS_ALONE = (".lock", "log")
"""What nobody reads back."""


@pytest.fixture
def whole(study: Study, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    study.finish(tmp_path / "out")
    return Path(shutil.copytree(tmp_path / "out", tmp_path / "whole"))


def _files(folder: Path) -> list[Path]:
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not {*path.parts} & {*_OURS_ALONE}]


@pytest.mark.parametrize("damage", [*_DAMAGE, "gone"])
def test_a_damaged_result_is_made_again_or_named(
    study: Study, tally: Tally, whole: Path, tmp_path: Path, damage: str
) -> None:
    lost, out = [], tmp_path / "out"
    for name in _files(whole):
        shutil.rmtree(out)
        shutil.copytree(whole, out)
        if damage == "gone":
            (out / name).unlink()
        else:
            (out / name).write_bytes(_DAMAGE[damage]((out / name).read_bytes()))
        ended = study.run(out)
        same = ended.status == 0 and not study.differing(out)
        named = ended.is_refusal and (name.name in ended.errors or str(out) in ended.errors)
        is_users = name.name == "README.md" and damage in ("emptied", "garbage")  # has not our mark
        if not tally.count(f"a file of the run {damage}", same or named or is_users):
            lost.append((str(name), ended.status, ended.lines[-2:]))
    assert not lost


@pytest.mark.parametrize("damage", [*_DAMAGE, "gone"])
def test_a_damaged_input_is_named(study: Study, tally: Tally, tmp_path: Path, damage: str) -> None:
    """Each file of the generator and some of the data; a copy, which has to stay as it is."""
    root = Path(shutil.copytree(study.root, tmp_path / "root"))
    words = [word.replace(str(study.root), str(root)) for word in study.flags(tmp_path / "out")]
    lost = []
    for name in [*_files(root / "generator"), Path("images/003.png"), Path("metadata.csv")]:
        file = next(f / name for f in (root / "generator", root / "data") if (f / name).exists())
        content = file.read_bytes()
        file.unlink()
        if damage != "gone":
            file.write_bytes(_DAMAGE[damage](content))
        ended = command(celeba_augment.main, words)
        # That an image is damaged shows when it is decoded, in the run.
        is_begun = (tmp_path / "out").exists() and name.suffix != ".png"
        told = ended.is_refusal and not is_begun
        optional = ended.status == 0 and name.name in ("card.json", "model_index.json")
        harmless = ended.status == 0 and damage == "four bytes short"  # as at a table's last cell
        if not tally.count(f"a file of the user {damage}", told or optional or harmless):
            lost.append((str(name), ended.status, ended.lines[-2:]))
        file.write_bytes(content)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert not lost


def test_a_clock_that_is_set_back(study: Study, tally: Tally, whole: Path, rng: Random) -> None:
    """To the system, every file of the run is from tomorrow."""
    made = [name for name in _files(whole) if name.suffix in (".png", ".npz")]
    for name in rng.sample(made, 3):
        (whole / name).unlink()
    for path in whole.rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)
    study.finish(whole)
    assert tally.count("clock set back", not study.differing(whole))


def test_two_runs_on_one_folder(study: Study, tally: Tally, rng: Random, tmp_path: Path) -> None:
    """One may be refused in a line; together they leave what one leaves."""
    lost = []
    for trial in range(4):
        out = tmp_path / f"out-{trial}"
        first = start(celeba_augment.main, study.flags(out), None)
        time.sleep(rng.uniform(0, study.seconds))
        second = start(celeba_augment.main, study.flags(out), None)
        both = [wait(first), wait(second)]
        ended_well = all(one.status == 0 or one.is_refusal for one in both)
        one_did_it = any(one.status == 0 for one in both)
        same = not study.differing(out)
        if not tally.count("two runs at once on one --out", ended_well and one_did_it and same):
            lost.append([(one.status, one.lines[-3:]) for one in both])
    assert not lost
