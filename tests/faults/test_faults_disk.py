"""What the system refuses: one line, nothing lost, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import killed_at, refused_from

pytestmark = pytest.mark.faults


_NUMBERS = re.compile(r"(?<=tmp)[a-z0-9_]{8}\b|(?<=[0-9a-f]-)[a-z0-9_]{8}\b|[0-9a-f]{8,}|\d+")
"""What tells no kinds of files apart, the names that tempfile draws included."""


def _kind(path: str, out: Path) -> str:
    """Of a file of a run."""
    return _NUMBERS.sub("#", "/".join(Path(path.replace(str(out), "/")).parts[-2:]))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_each_writer_refused(study: Study, tally: Tally, tmp_path: Path, number: int) -> None:
    """The error is raised at the first change of each kind of file, and at all later ones; the next
    command goes on, to the next kind.
    """
    lost, out = [], tmp_path / "out"
    for kind in dict.fromkeys(_kind(path, study.root / "out") for path in study.writes):
        is_met = partial(_is_of, kind, out)
        ended = study.run(out, at=refused_from(is_met, number))
        if not tally.count(f"{errno.errorcode[number]} at a kind of file", ended.is_refusal):
            lost.append((kind, ended.status, ended.lines[-2:]))
    study.finish(out)
    assert not lost
    assert not study.differing(out)


def _is_of(kind: str, out: Path, path: str) -> bool:
    return _kind(path, out) == kind


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


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def test_a_small_disk(study: Study, tally: Tally, rng: Random, tmp_path: Path) -> None:
    """A tmpfs of some kilobytes, full at another byte each time; then it gets larger."""
    whole = sum(f.stat().st_size for f in (study.root / "out").rglob("*") if f.is_file()) // 1024
    lost = []
    for trial in range(8):
        disk, size = tmp_path / f"disk-{trial}", rng.randint(20, whole)
        with _disk(disk, size):
            ended = study.run(disk / "out")
            _remount(disk, "size=64m")
            again = study.run(disk / "out")
            refused = ended.is_refusal or ended.status == 0
            same = again.status == 0 and not study.differing(disk / "out")
        if not tally.count("tmpfs full, then enlarged", refused and same):
            lost.append((size, ended.status, ended.lines[-3:], again.status, again.lines[-3:]))
    assert not lost


def test_a_read_only_disk(study: Study, tally: Tally, rng: Random, tmp_path: Path) -> None:
    """A tmpfs that takes nothing any more, empty or as a SIGKILL left it; then it does again."""
    lost = []
    for trial in range(4):
        disk = tmp_path / f"disk-{trial}"
        out, write = disk / "out", rng.randint(1, len(study.writes))
        with _disk(disk, 65_536):
            if trial:
                study.told(out, at=killed_at(write))
            _remount(disk, "ro")
            ended = study.run(out)
            _remount(disk, "rw")
            again = study.run(out)
            same = again.status == 0 and not study.differing(out)
        if not tally.count("tmpfs read-only, then not", ended.is_refusal and same):
            lost.append((write, ended.status, ended.lines[-3:], again.status, again.lines[-3:]))
    assert not lost
