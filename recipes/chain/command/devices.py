"""Devices: what a command says of them, and Lightning Fabric, started on them."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import cuda
from torch.nn import functional as F

from classify.config import Precision
from classify.cores import usable_cores
from recipes.chain.command.stopping import end_with, signals_left_alone

__all__ = ["Devices", "chosen_precision", "launch", "processes", "resolved_devices"]

_PATIENCE = timedelta(days=7)
"""How long processes wait for one that reads the data or writes a report; torch's half an hour
would end a job in which nothing is wrong.
"""
_MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What Lightning reads where no launcher tells of the machines."""
_PARENT = "MINORITY_AUGMENT_PARENT"
"""Variable by which the first process of a command tells the others its number."""
_TIMES = 5
"""Convolutions of a trial of a number of threads."""
_SLOWER = 2.0
"""How much longer several threads take before it is said; on cores of their own they are quicker,
and on busy ones ten times slower and more."""


@dataclass(frozen=True, kw_only=True)
class Devices:
    """Where a command computes."""

    accelerator: str = "auto"
    """Kind of device, such as cpu or gpu (Lightning's)."""
    devices: int | str = "auto"
    """Number of devices, or auto (Lightning's)."""
    num_nodes: int = 1
    """Number of machines (Lightning's); the same command is started on each, with MASTER_ADDR,
    MASTER_PORT and its own NODE_RANK in the environment. If one fails before they have met, stop
    the others."""

    def launched(self) -> Fabric:
        """Lightning Fabric on these; see `launch`."""
        return launch(self.devices, num_nodes=self.num_nodes, accelerator=self.accelerator)


def launch(
    devices: int | str = "auto",
    *,
    num_nodes: int = 1,
    precision: str = "32-true",
    accelerator: str = "auto",
) -> Fabric:
    """Lightning Fabric on the devices asked for, or on those that torchrun or SLURM has started
    processes for, launched.

    Raises:
        ValueError: they are not there; of a CPU, one process per core at most.
    """
    cores = os.cpu_count() or 1
    devices, num_nodes = resolved_devices(devices, num_nodes)
    _check_number(devices, max(cores, cuda.device_count()))  # Lightning makes a list of them
    alone = num_nodes == 1 and (devices == 1 or (devices == "auto" and cuda.device_count() < 2))
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy="auto" if alone else DDPStrategy(timeout=_PATIENCE),
            precision=precision,  # type: ignore[arg-type]
        )
    except (ImportError, MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(
            f"devices is {devices!r} with accelerator {accelerator} ({error}); give auto or a "
            "number of devices, and accelerator auto or cpu"
        ) from error
    if fabric.device.type == "cpu":
        _check_number(devices, cores)
        if alone:
            _tell_of_busy_cores()
    parent = _parent()
    if parent is None:
        os.environ[_PARENT] = str(os.getpid())
    else:
        end_with(parent)
    if num_nodes > 1:
        _tell_of_machines(fabric, num_nodes)
    # Torch waits for other machines, and for a parent that has ended, up to `_PATIENCE`.
    waits = num_nodes > 1 or parent is not None
    with signals_left_alone() if waits else nullcontext():
        fabric.launch()
    return fabric


def _check_number(devices: int | str, most: int) -> None:
    """Refuse more devices than a machine has: of a CPU, one process per core."""
    if isinstance(devices, int) and devices > most:
        raise ValueError(
            f"devices is {devices}; this machine has cores or accelerators for {most}, so give at "
            f"most {most}, or auto"
        )


def resolved_devices(devices: int | str, num_nodes: int) -> tuple[int | str, int]:
    """The devices of a machine and the machines: as asked for, or as torchrun or SLURM has started
    a process for each, so that these need not be told again.

    Raises:
        ValueError: others were asked for.
    """
    if TorchElasticEnvironment.detect():
        launcher, everywhere = "torchrun", int(os.environ["WORLD_SIZE"])
        here = int(os.environ.get("LOCAL_WORLD_SIZE", everywhere))
    elif SLURMEnvironment.detect():
        launcher, everywhere = "SLURM", int(os.environ["SLURM_NTASKS"])
        here = everywhere // int(os.environ.get("SLURM_NNODES", 1))
    else:
        return devices, num_nodes
    started = here, everywhere // here
    if devices not in ("auto", here) or num_nodes not in (1, started[1]):
        raise ValueError(
            f"devices is {devices} and num_nodes {num_nodes}, and {launcher} has started "
            f"{here} processes on each of {started[1]} machines; leave both out"
        )
    return started


def chosen_precision(precision: Precision | Literal["auto"]) -> Precision:
    """What `auto` means: bfloat16 beside float32 where the device multiplies it, else float32.

    On one core of such a processor (EPYC, AVX-512) a fit's step takes .63 of the time.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # torch tells of the processor since 2.9; before, float32
        known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return "bf16-mixed" if fast else "32-true"


def processes(devices: int | str) -> int | str:
    """What `auto` means for a study: every accelerator; on a CPU of several cores two processes,
    unless torchrun or SLURM has started some.

    Two processes with a thread each take .83 of the time of one with two threads (60 steps of the
    demo's fit on 2 cores: 11.4 s for both fits, against 6.9 s for each in turn). Lightning starts
    the second process by the command's own line, so a notebook, a test or another program that
    calls a study stays one process.
    """
    is_command = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parents[2]
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    several = is_command and on_cpu and usable_cores() > 1 and not _is_launched()
    return 2 if devices == "auto" and several else devices


def _parent() -> int | None:
    """The number of the process that has started this one as a further one of its machine, which
    Lightning does by the command's own line; None in the first one.
    """
    is_further = not _is_launched() and os.environ.get("LOCAL_RANK", "0") != "0"
    return int(os.environ[_PARENT]) if is_further and _PARENT in os.environ else None


def _is_launched() -> bool:
    """Whether torchrun or SLURM has started this process."""
    return TorchElasticEnvironment.detect() or SLURMEnvironment.detect()


def _tell_of_machines(fabric: Fabric, num_nodes: int) -> None:
    """Print where the machines meet: one that is started too late, or dies before, is waited for.

    Raises:
        ValueError: nothing tells them.
    """
    strategy = fabric.strategy
    assert isinstance(strategy, DDPStrategy)
    environment = strategy.cluster_environment
    if isinstance(environment, LightningEnvironment):  # of a command that was started by hand
        _check_meeting(num_nodes)
    if environment is not None and environment.local_rank() == 0:
        where = f"{environment.main_address}:{environment.main_port}"
        print(f"Waiting for all of {num_nodes} machines at {where} ...", flush=True)


def _check_meeting(num_nodes: int) -> None:
    """Refuse variables by which the machines would never find one another."""
    missing = [name for name in _MEETING if name not in os.environ]
    if missing:
        raise ValueError(
            f"num_nodes is {num_nodes}, and the environment lacks {', '.join(missing)}; "
            "give the first machine's address and a free port of it as MASTER_ADDR and "
            "MASTER_PORT, and to each machine its number from 0 on as NODE_RANK"
        )
    most = {"NODE_RANK": num_nodes - 1, "MASTER_PORT": 65_535}
    for name, last in most.items():
        given = os.environ[name]
        if not given.isdecimal() or int(given) > last:
            raise ValueError(f"{name} is {given}; give a whole number from 0 to {last}")


def _tell_of_busy_cores() -> None:
    """Print what makes the command quicker, where other work makes its threads slower than one.

    Threads wait for one another by spinning. Where something else works on the same cores, one that
    has a core spins for one that has none: eight steps of 16 embedded images took two threads that
    shared a core 65 s, and one thread 0.8 s. The average load tells that too late of two commands
    that start together, and not at all of a container that may use fewer cores than it sees, so it
    is tried, which takes hundredths of a second on free cores. The number of threads stays: with
    another one a fit differs by its rounding, and figures would depend on what else a machine did
    when they were made.
    """
    threads = torch.get_num_threads()
    if threads == 1 or "OMP_NUM_THREADS" in os.environ:
        return
    if _seconds(threads) > _SLOWER * _seconds(1):
        print(
            f"{threads} threads are slower here than one, as on cores that are shared, or fewer "
            "than they seem; OMP_NUM_THREADS=1 before the command, or as many as are free, helps"
        )
    torch.set_num_threads(threads)


@torch.inference_mode()
def _seconds(threads: int) -> float:
    """What a few convolutions of a generator's size take, with what stands between them."""
    torch.set_num_threads(threads)
    images, kernels = torch.ones(16, 64, 16, 16), torch.ones(64, 64, 3, 3)

    def work() -> None:
        F.silu(F.group_norm(F.conv2d(images, kernels, padding=1), 32))

    work()  # the first of anything is slower
    started = time.perf_counter()
    for _ in range(_TIMES):
        work()
    return time.perf_counter() - started
