"""What an image of a set costs: in forward passes of the generator, and in seconds.

Forwards are counted as floating-point operations over those of one forward pass, so that backward
passes and every other network (classifier, labeler, LPIPS) count for what they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import nan

import torch
from torch.utils.flop_counter import FlopCounterMode

from augment import Denoiser
from recipes.chain.inputs import Inputs
from recipes.chain.preview import first_images
from recipes.chain.run import Run
from recipes.chain.sets import SyntheticSet

__all__ = ["Cost", "cost_of", "forward_flops", "steps_at"]

_COUNTED, _TIMED = 2, 8
"""Images; of one alone a guidance whose images depend on one another would have nothing to do."""


@dataclass(frozen=True)
class Cost:
    """Of one image."""

    forwards: float = nan
    """Forward passes of the generator; NaN of images that were made elsewhere."""
    seconds: float = nan
    """On this machine, in a batch of 8, while nothing else was measured."""


def cost_of(run: Run, inputs: Inputs, settings: SyntheticSet) -> Cost:
    """The cost of an image of a set; what its guidance trains first is not counted."""
    if settings.folder is not None:
        return Cost()
    first_images(run, inputs, settings, 1)  # trains and loads what there is
    started = time.perf_counter()
    first_images(run, inputs, settings, _TIMED)
    seconds = (time.perf_counter() - started) / _TIMED
    with FlopCounterMode(display=False) as counter:
        first_images(run, inputs, settings, _COUNTED)
    spent = counter.get_total_flops() / _COUNTED
    return Cost(spent / forward_flops(inputs.denoiser), seconds)


def forward_flops(denoiser: Denoiser) -> int:
    """Floating-point operations of one forward pass of one image, without its graph."""
    x = torch.zeros(1, *denoiser.image.shape, device=denoiser.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        denoiser(x, 0, denoiser.schedule, denoiser.any_class(1))
    return int(counter.get_total_flops())


def steps_at(settings: SyntheticSet, cost: Cost, budget: float) -> int | None:
    """How many steps of a set a budget of forwards an image pays for; None where that is no fewer
    than it has, where it pays for none, or of images that were made elsewhere.
    """
    steps = settings.sampler.steps
    if settings.folder is not None or cost.forwards < 1:
        return None
    affordable = int(steps * budget / cost.forwards + 1e-6)
    return affordable if 1 <= affordable < steps else None
