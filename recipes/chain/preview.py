"""A look before a long run: 16 images of each set beside real ones, and what it would take."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from augment import sample
from augment.guidance import Guidance
from classify import decode_tables, fit
from recipes.chain.images.making import guidance_of, start_of
from recipes.chain.inputs import Inputs
from recipes.chain.room import disk_bytes
from recipes.chain.settings.sets import SyntheticSet

__all__ = ["first_images", "picture", "preview", "timetable"]

_IMAGES = 16
_FIT_STEPS = 6
"""Timed optimiser steps; the first are slower than the rest, so the estimate is a safe one."""
_SCALE = 4
"""Magnification of the grid."""


def preview(inputs: Inputs) -> None:
    """Write `preview.png` and print an estimate of time, memory and disk.

    Nothing else is left under `out` but the embedded data set, which the run itself will find.
    """
    run = inputs.run
    if not run.fabric.is_global_zero:
        return
    config = run.config
    own = {name: s for name, s in config.synthetic_sets.items() if s.folder is None}
    made = {name: s for name, s in own.items() if not s.has_trained_terms}
    seconds, grids = {}, {"real": _real(inputs)}
    for name, settings in made.items():
        started = time.perf_counter()
        guidance = guidance_of(inputs, settings)
        grids[name] = first_images(inputs, settings, guidance, _IMAGES)
        count = settings.count or config.num_synthetic
        taken = (time.perf_counter() - started) / _IMAGES * count
        seconds[f"generating {count} {name} images"] = taken
    fits = len(config.chosen_arms) * config.study.seeds
    seconds[f"training {fits} classifiers"] = _seconds_a_fit(inputs) * fits
    run.out.mkdir(parents=True, exist_ok=True)
    picture(grids).save(run.out / "preview.png")
    devices, disk = run.fabric.world_size, disk_bytes(config, len(inputs.table), inputs.denoiser)
    lines = [
        f"{run.out / 'preview.png'}: {_IMAGES} images of each set, the same seeds in all, beside "
        "real ones",
        f"The whole run, estimated on this machine ({devices} process{'es' * (devices > 1)}):",
        *timetable(seconds, devices),
        *(
            f"  {name}: not known before its guidance's classifier is trained"
            for name in own
            if name not in made
        ),
        *_memory_line(),
        f"  disk  {disk / 1e9:.2f} GB under {run.out}",
    ]
    run.say("\n".join(lines))


def timetable(seconds: Mapping[str, float], processes: int) -> list[str]:
    """How long parts take, and all of them, shared by processes.

    Args:
        seconds: part -> what one process would take.
        processes: that share each part.
    """
    shared = {part: taken / processes for part, taken in seconds.items()}
    shared["in all"] = sum(shared.values())
    return [f"  {part}  {_duration(taken)}" for part, taken in shared.items()]


def _real(inputs: Inputs) -> Tensor:
    """As many of the real train images, uint8 (N, 3, H, W), at the generator's size."""
    drawn = inputs.train.sample(min(len(inputs.train), _IMAGES), random_state=0)
    return inputs.images.pixels[inputs.images.rows(drawn)]


def first_images(
    inputs: Inputs, settings: SyntheticSet, guidance: Guidance | None, count: int
) -> Tensor:
    """So many images of a set and its guidance, of seeds 0, 1, ..., uint8 (count, C, H, W)."""
    run = inputs.run
    label = settings.sampler.label
    inputs.denoiser.to(run.fabric.device)
    with run.fabric.autocast():
        return sample(
            settings.sampler.prepared(inputs.denoiser),
            range(count),
            steps=settings.sampler.steps,
            guidance=guidance,
            solver=settings.sampler.rule,
            start=start_of(inputs, settings),
            labels=None if label is None else [label] * count,
        )


def _seconds_a_fit(inputs: Inputs) -> float:
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
        device=inputs.run.fabric.device,
        label="preview",
    )
    per_step = (time.perf_counter() - started) / _FIT_STEPS
    return per_step * config.steps(int((table["split"] == "train").sum()))


def picture(grids: Mapping[str, Tensor]) -> Image.Image:
    """Grids of images side by side under their names.

    Args:
        grids: name -> uint8 (N, C, H, W), of one size.
    """
    panels = [
        to_pil_image(make_grid(images.expand(-1, 3, -1, -1), nrow=4, padding=1, pad_value=255))
        for images in grids.values()
    ]
    width, height = (_SCALE * max(sides) for sides in zip(*(p.size for p in panels), strict=True))
    gap, header = 24, 28
    whole = Image.new("RGB", (len(panels) * (width + gap) - gap, height + header), "white")
    draw = ImageDraw.Draw(whole)
    for column, (name, panel) in enumerate(zip(grids, panels, strict=True)):
        x = column * (width + gap)
        draw.text((x + 4, 6), name, fill="black", font_size=16)
        large = panel.resize([_SCALE * side for side in panel.size], Image.Resampling.NEAREST)
        whole.paste(large, (x, header))
    return whole


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
