"""Enlarge generated images with a pretrained upsampler.

    python recipes/generate.py imagenet_64.pt --out runs/small --seeds 64
    python recipes/upsample.py runs/small 64_256_upsampler.pt --out runs/large

It writes `<seed>.png` and `metadata.csv` for each image of the small folder. The same command again
continues a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from augment import SamplerConfig, load_upsampler, upsample
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import Devices

__all__ = ["Settings", "main"]


@dataclass(frozen=True, kw_only=True)
class Settings(Devices):
    """Enlarge the images of a folder that recipes/generate.py wrote."""

    folder: Path
    """The small images."""
    upsampler: str
    """Diffusers folder, guided-diffusion .pt file or hub id."""
    out: Path = Path("runs/upsample")
    """The folder of the large images; a stopped run found there is continued."""
    sampler: SamplerConfig = field(default_factory=partial(SamplerConfig, batch_size=8))
    """The reverse process."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Enlarge the images; the folder of the large ones."""
    settings = parse(Settings, arguments)
    loaded = load_upsampler(settings.upsampler)
    fabric = settings.launched()
    upsample(loaded, settings.folder, settings.out, sampler=settings.sampler, fabric=fabric)
    return settings.out


if __name__ == "__main__":
    run(main)
