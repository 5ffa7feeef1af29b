"""Devices: Lightning Fabric, started."""

from __future__ import annotations

from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException

__all__ = ["launch"]


def launch(
    devices: int | str = "auto",
    *,
    num_nodes: int = 1,
    precision: str = "32-true",
    accelerator: str = "auto",
) -> Fabric:
    """Lightning Fabric on the devices asked for, launched.

    Raises:
        ValueError: they are not there.
    """
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
    fabric.launch()
    return fabric
