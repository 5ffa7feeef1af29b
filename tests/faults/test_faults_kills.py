"""SIGKILL at any moment: the same command goes on, and leaves what an unbroken run leaves."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import Ended, command, killed_after, killed_at, writes_of

from recipes import celeba_augment

pytestmark = pytest.mark.faults


def test_a_killed_run_goes_on_to_the_same_bytes(
    study: Study, tally: Tally, rng: Random, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Half of the moments lie between two instructions, half just before a change of a file."""
    writes = len(writes_of(celeba_augment.main, study.flags(tmp_path / "counted")))
    lost, kills, out = [], 0, tmp_path / "out"
    while kills < pytestconfig.getoption("--kills"):
        seconds, write = rng.uniform(0, study.seconds), rng.randint(1, writes)
        ended = _killed(study, out, seconds if kills % 2 else None, write)
        if ended.status == -signal.SIGKILL:
            kills += 1
            again = command(celeba_augment.main, study.flags(out))
            other = study.differing(out)
            survived = again.status == 0 and not other
            if not tally.count("SIGKILL, resumed to the same bytes", survived):
                lost.append((kills, seconds, write, again.status, other, again.lines[-3:]))
        shutil.rmtree(out, ignore_errors=True)
    assert not lost


def _killed(study: Study, out: Path, seconds: float | None, write: int) -> Ended:
    words = study.flags(out)
    if seconds is None:
        return command(celeba_augment.main, words, at=killed_at(write))
    return command(celeba_augment.main, words, watch=killed_after(seconds))
