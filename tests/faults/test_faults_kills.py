"""SIGKILL at any moment: the same command goes on, and leaves what an unbroken run leaves."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import killed_after, killed_at

pytestmark = pytest.mark.faults


def test_a_killed_run_goes_on_to_the_same_bytes(
    study: Study, tally: Tally, rng: Random, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Half of the moments lie between two instructions, half just before a change of a file.

    What a kill has left is continued by the next command, which is killed too, unless it ends
    before its moment comes; then the folder is compared, and the next command begins anew.
    """
    kills, out, lost = pytestconfig.getoption("--kills"), tmp_path / "out", []
    done, survivors = 0, list[str]()
    while done < kills or survivors:
        at = killed_at(rng.randint(1, len(study.writes))) if done % 2 and done < kills else None
        watch = killed_after(study.moment(rng)) if not done % 2 and done < kills else None
        ended, turns = study.told(out, at=at, watch=watch)
        if ended.status == -signal.SIGKILL:
            done += 1
            survivors.append(f"SIGKILL while {turns[-1].what}")
            continue
        other = study.differing(out)
        for kind in survivors:
            tally.count(kind, ended.status == 0 and not other)
        if ended.status or other:
            lost.append((survivors, ended.status, other, ended.lines[-3:]))
        survivors = []
        shutil.rmtree(out)
    assert not lost
