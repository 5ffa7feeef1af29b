"""What the system refuses: one line, nothing lost, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import command, refused_at, writes_of

from recipes import celeba_augment

pytestmark = pytest.mark.faults


def _writers(paths: list[str]) -> dict[str, int]:
    """Kind of file -> the number of the first change of such a one; digits tell no kinds apart."""
    kinds: dict[str, int] = {}
    for number, path in enumerate(paths, 1):
        kind = re.sub(r"[0-9a-f]{8,}|\d+", "#", "/".join(Path(path).parts[-2:]))
        kinds.setdefault(kind, number)
    return kinds


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_each_writer_refused(study: Study, tally: Tally, tmp_path: Path, number: int) -> None:
    """The error is raised at the first change of each kind of file, and at all later ones."""
    words = study.flags(tmp_path / "counted")
    lost = []
    for kind, write in _writers(writes_of(celeba_augment.main, words)).items():
        out = tmp_path / f"out-{write}"
        ended = command(celeba_augment.main, study.flags(out), at=refused_at(write, number))
        again = command(celeba_augment.main, study.flags(out))
        survived = ended.is_refusal and again.status == 0 and not study.differing(out)
        if not tally.count(f"{errno.errorcode[number]} at each writer, then continued", survived):
            lost.append((kind, ended.status, ended.lines[-2:], again.status, again.lines[-2:]))
    assert not lost


@contextmanager
def _disk(folder: Path, kilobytes: int) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk(study: Study, tally: Tally, rng: Random, tmp_path: Path) -> None:
    """A tmpfs of some kilobytes, full at another byte each time; then it gets larger."""
    whole = sum(f.stat().st_size for f in (study.root / "out").rglob("*") if f.is_file()) // 1024
    lost = []
    for trial in range(8):
        disk, size = tmp_path / f"disk-{trial}", rng.randint(20, whole)
        with _disk(disk, size):
            ended = command(celeba_augment.main, study.flags(disk / "out"))
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            again = command(celeba_augment.main, study.flags(disk / "out"))
            refused = ended.is_refusal or ended.status == 0
            same = again.status == 0 and not study.differing(disk / "out")
        if not tally.count("tmpfs full, then enlarged", refused and same):
            lost.append((size, ended.status, ended.lines[-3:], again.status, again.lines[-3:]))
    assert not lost
