"""What the benchmarks share: machine, memory, and results that stand already."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from recipes.chain.command.files import check_folder

__all__ = [
    "Work",
    "check_out",
    "machine",
    "peak_megabytes",
    "record_of",
    "resident",
]

Work = tuple[Callable[[], object], torch.device]
"""What is measured, made ready, and the device it runs on."""


def resident(field: str) -> float | None:
    """Resident memory of this process in megabytes: VmRSS now, VmHWM at most so far.

    Not `resource.getrusage`, whose peak a Linux process inherits from the one that started it.
    None where Linux' /proc is not.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(field)), None)


def peak_megabytes(prepare: Callable[[], Work]) -> float | None:
    """Memory that a piece of work takes at most beyond what it was prepared with.

    It is prepared and done in a process of its own, so `prepare` has to be picklable. Resident
    memory, or on a GPU what PyTorch has allocated; None where neither can be told.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, prepare).result()


def _peak_here(prepare: Callable[[], Work]) -> float | None:
    work, device = prepare()
    on_gpu = device.type == "cuda"
    loaded = torch.cuda.memory_allocated() if on_gpu else 0
    before = resident("VmRSS")
    work()
    if on_gpu:
        return (torch.cuda.max_memory_allocated() - loaded) / 1e6
    peak = resident("VmHWM")
    return None if peak is None or before is None else max(peak - before, 0.0)


def machine(device: str, packages: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on besides the settings."""
    return {
        "device": device,
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in packages},
    }


def record_of(settings: Any) -> dict[str, Any]:
    """A benchmark's settings, a dataclass, as JSON gives them back; without its folder `out`."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    del record["out"]
    return record


def check_out(out: Path, file: str, settings: Mapping[str, Any]) -> None:
    """Refuse a folder where another measurement stands; the same one is measured anew."""
    check_folder(out)
    path = out / file
    if not path.is_file():
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no benchmark of this command; give another --out") from error
    for name in dict.fromkeys((*settings, *found)):
        if found.get(name) != settings.get(name):
            raise ValueError(
                f"{path} ({name} {found.get(name)}, and not {settings.get(name)}) was measured "
                "with other settings; give another --out"
            )
