"""A look before a long run: 16 images of each set, and what the whole would take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from augment import sample
from classify import decode_tables, fit
from recipes.chain.inputs import Inputs
from recipes.chain.run import Run
from recipes.chain.sets import SyntheticSet
from recipes.chain.synthesis import guidance_of, start_of

__all__ = ["picture", "preview"]

_IMAGES = 16
_FIT_STEPS = 6
"""Timed optimiser steps; the first are slower than the rest, so the estimate is a safe one."""
_SCALE = 4
"""Magnification of the grid."""
_BYTES_A_VALUE = 1.2
"""PNG and table of a small image, for each byte of its pixels; measured on the embedded ones."""


def preview(run: Run, inputs: Inputs) -> None:
    """Write `preview.png` and print an estimate of time, memory and disk.

    Nothing else is left under `out` but the embedded data set, which the run itself will find.
    """
    if not run.fabric.is_global_zero:
        return
    config = run.config
    made = {name: s for name, s in config.synthetic_sets.items() if s.folder is None}
    seconds, grids = {}, {}
    for name, settings in made.items():
        started = time.perf_counter()
        grids[name] = _samples(run, inputs, settings)
        taken = time.perf_counter() - started
        seconds[name] = taken / _IMAGES * (settings.count or config.num_synthetic)
    fits = len(config.chosen_arms) * config.study.seeds
    training = _seconds_a_fit(run, inputs) * fits
    run.out.mkdir(parents=True, exist_ok=True)
    if grids:
        picture(grids).save(run.out / "preview.png")
    devices = run.fabric.world_size
    lines = [
        f"{run.out / 'preview.png'}: {_IMAGES} images of each set, the same seeds in all",
        f"The whole run, estimated on this machine ({devices} process{'es' * (devices > 1)}):",
        *(
            f"  generating {made[name].count} {name} images  {_duration(taken)}"
            for name, taken in seconds.items()
        ),
        f"  training {fits} classifiers  {_duration(training)}",
        f"  in all  {_duration((sum(seconds.values()) + training) / devices)}",
        *_memory_line(),
        f"  disk  {_disk_gigabytes(inputs, made):.2f} GB under {run.out}",
    ]
    run.say("\n".join(lines))


def _samples(run: Run, inputs: Inputs, settings: SyntheticSet) -> Tensor:
    """The set's first images, uint8 (16, C, H, W)."""
    label = settings.sampler.label
    inputs.denoiser.to(run.fabric.device)
    with run.fabric.autocast():
        return sample(
            settings.sampler.prepared(inputs.denoiser),
            range(_IMAGES),
            steps=settings.sampler.steps,
            guidance=guidance_of(inputs, settings),
            solver=settings.sampler.rule,
            start=start_of(inputs, settings),
            labels=None if label is None else [label] * _IMAGES,
        )


def _seconds_a_fit(run: Run, inputs: Inputs) -> float:
    """From a few steps on a few batches of the real images, at the settings of the run."""
    config, table = inputs.fit, inputs.table
    train, val = (
        table[table["split"] == split].head(_FIT_STEPS * config.batch_size)
        for split in ("train", "val")
    )
    images = decode_tables([train, val], config.image_size)
    learnable = [name for name in inputs.attributes if (train[name] == 1).any()]
    started = time.perf_counter()
    fit(
        train,
        val,
        learnable,
        replace(config, rounds=1),
        steps=_FIT_STEPS,
        images=images,
        device=run.fabric.device,
        label="preview",
    )
    per_step = (time.perf_counter() - started) / _FIT_STEPS
    return per_step * config.steps(int((table["split"] == "train").sum()))


def picture(grids: Mapping[str, Tensor]) -> Image.Image:
    """Grids of images side by side under their names.

    Args:
        grids: name -> uint8 (N, C, H, W), equally many of one size.
    """
    panels = [
        to_pil_image(make_grid(images.expand(-1, 3, -1, -1), nrow=4, padding=1, pad_value=255))
        for images in grids.values()
    ]
    width, height = (side * _SCALE for side in panels[0].size)
    gap, header = 24, 28
    whole = Image.new("RGB", (len(panels) * (width + gap) - gap, height + header), "white")
    draw = ImageDraw.Draw(whole)
    for column, (name, panel) in enumerate(zip(grids, panels, strict=True)):
        x = column * (width + gap)
        draw.text((x + 4, 6), name, fill="black", font_size=16)
        whole.paste(panel.resize((width, height), Image.Resampling.NEAREST), (x, header))
    return whole


def _disk_gigabytes(inputs: Inputs, made: Mapping[str, SyntheticSet]) -> float:
    """PNG files of the sets, and the decoded copy of all images."""
    pixels = torch.Size(inputs.denoiser.image.shape).numel()
    synthetic = sum(settings.count or 0 for settings in made.values())
    decoded = (len(inputs.table) + synthetic) * 3 * inputs.fit.image_size**2
    return (synthetic * pixels * _BYTES_A_VALUE + decoded) / 1e9


def _memory_line() -> list[str]:
    """The memory that this process has used at most; none where the system does not tell it."""
    try:
        import resource  # not on Windows
    except ImportError:
        return []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gigabytes = peak / (1e9 if sys.platform == "darwin" else 1e6)
    return [f"  memory  at least {gigabytes:.1f} GB a process"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
