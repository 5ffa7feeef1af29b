"""Enlarge generated images with a pretrained upsampler.

    python -m augment.generate imagenet_64.pt --out runs/small --seeds 64
    python -m augment.upsample runs/small --upsampler 64_256_upsampler.pt --out runs/large

The same command again continues a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from augment.command import fabric_of, run
from augment.generate.config import SamplerConfig
from augment.pretrained import load_upsampler
from augment.upsample.files import upsample

__all__ = ["command", "main"]


def command(
    folder: Path,
    *,
    upsampler: str,
    out: Path,
    sampler: SamplerConfig = SamplerConfig(batch_size=8),
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Enlarge the images of a folder that augment.generate wrote: <seed>.png and metadata.csv.

    Args:
        folder: the small images.
        upsampler: diffusers folder, guided-diffusion .pt file or hub id.
        out: the folder of the large images; a stopped run found there is continued.
        sampler: the reverse process.
        accelerator: Lightning's.
        devices: Lightning's; several give the same images as one.
        num_nodes: Lightning's.

    Returns:
        The folder of the large images.
    """
    loaded = load_upsampler(upsampler)
    fabric = fabric_of(accelerator, devices, num_nodes)
    fabric.launch()
    upsample(loaded, folder, out, sampler=sampler, fabric=fabric)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(command, arguments)


if __name__ == "__main__":
    main()
