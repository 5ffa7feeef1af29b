"""A look before a long run: 16 images of each arm, and what the whole would take."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from augment import sample
from classify import decode_tables, fit
from recipes._prepare import ARMS, Chain

__all__ = ["preview"]

_IMAGES = 16
_FIT_STEPS = 6
"""Timed optimiser steps; the first are slower than the rest, so the estimate is a safe one."""
_SCALE = 4
"""Magnification of the grid."""
_BYTES_A_VALUE = 1.2
"""PNG and table of a small image, a byte of pixel; measured on the embedded ones."""


def preview(chain: Chain) -> None:
    """Write `preview.png` and print an estimate of time, memory and disk.

    Nothing else is left under `out` but the embedded data set, which the run itself will find.
    """
    if not chain.fabric.is_global_zero:
        return
    config, label = chain.config, chain.config.sampler.label
    chain.denoiser.to(chain.fabric.device)
    seconds, grids = {}, {}
    for arm in ARMS:
        started = time.perf_counter()
        guidance = chain.guidance if arm == "minority" else None
        with chain.fabric.autocast():
            images = sample(
                chain.denoiser,
                range(_IMAGES),
                steps=config.sampler.steps,
                guidance=guidance,
                solver=config.sampler.rule,
                labels=None if label is None else [label] * _IMAGES,
            )
        seconds[arm] = (time.perf_counter() - started) / _IMAGES * config.num_synthetic
        grids[arm] = images
    fits = (1 + len(ARMS) + len(config.controls)) * config.study.seeds
    training = _seconds_a_fit(chain) * fits
    config.out.mkdir(parents=True, exist_ok=True)
    _picture(grids).save(config.out / "preview.png")
    devices = chain.fabric.world_size
    total = (sum(seconds.values()) + training) / devices
    chain.say(
        f"{config.out / 'preview.png'}: {_IMAGES} images an arm, the same seeds in both\n"
        f"The whole run, estimated on this machine ({devices} process{'es' * (devices > 1)}):\n"
        + "".join(
            f"  generating {config.num_synthetic} {arm} images  {_duration(seconds[arm])}\n"
            for arm in ARMS
        )
        + f"  training {fits} classifiers  {_duration(training)}\n"
        f"  in all  {_duration(total)}\n"
        f"  memory  at least {_peak_gigabytes():.1f} GB a process\n"
        f"  disk  {_disk_gigabytes(chain):.2f} GB under {config.out}"
    )


def _seconds_a_fit(chain: Chain) -> float:
    """From a few steps on a few batches of the real images, at the settings of the run."""
    config, table = chain.fit_config, chain.table
    train, val = (
        table[table["split"] == split].head(_FIT_STEPS * config.batch_size)
        for split in ("train", "val")
    )
    images = decode_tables([train, val], config.image_size)
    learnable = [name for name in chain.attributes if (train[name] == 1).any()]
    started = time.perf_counter()
    fit(
        train,
        val,
        learnable,
        replace(config, rounds=1),
        steps=_FIT_STEPS,
        images=images,
        device=chain.fabric.device,
        label="preview",
    )
    per_step = (time.perf_counter() - started) / _FIT_STEPS
    return per_step * config.steps(int((table["split"] == "train").sum()))


def _picture(grids: dict[str, Tensor]) -> Image.Image:
    """The arms' grids side by side under their names."""
    panels = [
        to_pil_image(make_grid(images.expand(-1, 3, -1, -1), nrow=4, padding=1, pad_value=255))
        for images in grids.values()
    ]
    width, height = (side * _SCALE for side in panels[0].size)
    gap, header = 24, 28
    picture = Image.new("RGB", (len(panels) * (width + gap) - gap, height + header), "white")
    draw = ImageDraw.Draw(picture)
    for column, (arm, panel) in enumerate(zip(grids, panels, strict=True)):
        x = column * (width + gap)
        draw.text((x + 4, 6), arm, fill="black", font_size=16)
        picture.paste(panel.resize((width, height), Image.Resampling.NEAREST), (x, header))
    return picture


def _disk_gigabytes(chain: Chain) -> float:
    """PNG files of both arms, and the decoded copy of all images."""
    pixels = torch.Size(chain.denoiser.image.shape).numel()
    synthetic = len(ARMS) * chain.config.num_synthetic
    decoded = (len(chain.table) + synthetic) * 3 * chain.fit_config.image_size**2
    return (synthetic * pixels * _BYTES_A_VALUE + decoded) / 1e9


def _peak_gigabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
