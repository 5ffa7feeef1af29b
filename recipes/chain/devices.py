"""Devices: Lightning Fabric, started."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

from classify.config import Precision

__all__ = ["chosen_precision", "launch", "processes"]


def launch(
    devices: int | str = "auto",
    *,
    num_nodes: int = 1,
    precision: str = "32-true",
    accelerator: str = "auto",
) -> Fabric:
    """Lightning Fabric on the devices asked for, launched.

    Raises:
        ValueError: they are not there; of a CPU, a process a core at most.
    """
    cores = os.cpu_count() or 1
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,  # type: ignore[arg-type]
        )
    except (ImportError, MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(
            f"devices is {devices!r} with accelerator {accelerator} ({error}); give auto or a "
            "number of devices, and accelerator auto or cpu"
        ) from error
    if isinstance(devices, int) and fabric.device.type == "cpu" and devices > cores:
        raise ValueError(
            f"devices is {devices}, and this CPU has {cores} cores; give at most {cores}, or auto"
        )
    fabric.launch()
    return fabric


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
    """What `auto` means for a study: every accelerator; on a CPU of several cores two processes.

    Two processes with a thread each take .83 of the time of one with two threads (60 steps of the
    demo's fit on 2 cores: 11.4 s for both fits, against 6.9 s for each in turn). Lightning starts
    the second process by the command's own line, so a notebook, a test or another program that
    calls a study stays one process.
    """
    is_command = Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parents[1]
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    several = is_command and on_cpu and (os.cpu_count() or 1) > 1
    return 2 if devices == "auto" and several else devices
