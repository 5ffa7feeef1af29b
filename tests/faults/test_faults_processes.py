"""Two processes, however they are started, leave what one leaves, though one of them dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from campaign import Study, Tally
from forked import clock, killed_after
from recipe_doubles import digests

pytestmark = pytest.mark.faults

_ROOT = Path(__file__).parents[2]
_WAYS = ("--devices=2", "--num_nodes=2", "torchrun", "torchrun --devices=2", "SLURM")


def _start(script: str, words: list[str], way: str, log: Path) -> list[subprocess.Popen[bytes]]:
    """The processes of a command that is started by hand, once on each of two machines, by
    torchrun, or by SLURM's srun.
    """
    words = [word for word in words if not word.startswith("--devices")]
    command = [str(_ROOT / "recipes" / script), *words, *way.split()[1:]]
    if way == "--num_nodes=2":
        command += ["--devices=1"]
    if way.startswith("--"):
        command += [way]
    start: list[str] = [sys.executable]
    if way.startswith("torchrun"):
        start += ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_port()}"]
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [{}]
    if own := {"SLURM": _slurm, "--num_nodes=2": _machine}.get(way):
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port())}
        ranks = [own(rank) | meeting for rank in range(2)]
    with log.open("ab") as told:
        return [
            subprocess.Popen([*start, *command], env=environment | rank, stdout=told, stderr=told)
            for rank in ranks
        ]


def _machine(rank: int) -> dict[str, str]:
    return {"NODE_RANK": str(rank)}


def _slurm(rank: int) -> dict[str, str]:
    values = {
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "NNODES": 1,
        "JOB_ID": 1,
        "JOB_NAME": "a",
        "NODELIST": "localhost",
    }
    told = {f"SLURM_{name}": str(value) for name, value in values.items()}
    told |= {f"SLURM_{name}": str(rank) for name in ("PROCID", "LOCALID")}
    return told | {"SLURM_NODEID": "0"}


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    return [process.wait(timeout=1800) for process in processes]


@pytest.mark.parametrize("way", _WAYS)
def test_one_of_two_dies(study: Study, tally: Tally, rng: Random, tmp_path: Path, way: str) -> None:
    """Either of them, at any moment of the run; the same command, started the same way, goes on."""
    out, log = tmp_path / "out", tmp_path / "log"
    started = _start("celeba_augment.py", study.flags(out), way, log)
    ranks = _ranks(started, way, out)
    killed = rng.choice(ranks)
    killed_after(clock(killed) + rng.uniform(0, study.seconds))(killed)
    _wait(started)
    _gone(ranks)
    told = log.read_text()
    is_told = "Traceback" not in told or way.startswith("torchrun")  # which prints its own
    status = _wait(_start("celeba_augment.py", study.flags(out), way, log))
    same = status == [0] * len(status) and not study.differing(out)
    assert tally.count(f"one of two processes killed: {way}", is_told and same), log.read_text()


def _ranks(started: list[subprocess.Popen[bytes]], way: str, out: Path) -> list[int]:
    """The two processes of a run, as soon as both have begun it."""
    ranks: list[int] = []
    while len(ranks) < 2 or not out.exists():
        assert all(process.poll() is None for process in started)
        time.sleep(0.01)
        own = [process.pid for process in started]
        ranks = [*_children(own[0]), *([] if way.startswith("torchrun") else own)]
    return ranks


def _children(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def _gone(processes: list[int]) -> None:
    """Wait for processes that nobody reaps."""
    while any(Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "generate.py",
            ["{generator}", "--seeds=5", "--sampler.steps=3", "--sampler.batch_size=2"],
        ),
        ("label.py", ["label", "{data}", "--labeler=avatars", "--batch_size=4"]),
        (
            "measure.py",
            ["{data}", "{data}/images", "--split=all", "--batch_size=4", "--cache={out}-features"],
        ),
    ],
)
@pytest.mark.parametrize("way", ["--devices=2", "--num_nodes=2", "torchrun"])
def test_the_tools_too(
    study: Study, tally: Tally, tmp_path: Path, script: str, words: list[str], way: str
) -> None:
    folders = {name: str(study.root / name) for name in ("generator", "data")}
    log, found = tmp_path / "log", []
    for name in ("--devices=1", way):
        out = tmp_path / name.strip("-")
        own = [word.format(**folders, out=out) for word in words]
        status = _wait(_start(script, [*own, f"--out={out}"], name, log))
        assert status == [0] * len(status), log.read_text()[-3000:]
        found.append(digests(out))
    assert tally.count(f"two processes: {script} {way}", found[0] == found[1])
