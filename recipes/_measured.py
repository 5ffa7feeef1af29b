"""What the benchmarks share: the machine they ran on, memory, and results that stand already."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from recipes._claim import check_folder


def resident(field: str) -> float | None:
    """Resident memory of this process in megabytes: VmRSS now, VmHWM at most so far.

    Not `resource.getrusage`, whose peak a Linux process inherits from the one that started it.
    None where Linux' /proc is not.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(field)), None)


def machine(device: str, packages: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on besides the settings."""
    return {
        "device": device,
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in packages},
    }


def record_of(config: Any) -> dict[str, Any]:
    """A benchmark's settings, a dataclass, as JSON gives them back; without its folder `out`."""
    record: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    del record["out"]
    return record


def check_out(out: Path, file: str, settings: Mapping[str, Any]) -> None:
    """Refuse a folder where another measurement stands; the same one is measured anew."""
    check_folder(out)
    path = out / file
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no benchmark of ours; give another --out") from error
    if found != settings:
        raise ValueError(f"{path} was measured with other settings; give another --out")
