"""What an image of a set costs: in forward passes of the generator, and in seconds.

Forwards are counted as floating-point operations over those of one forward pass, so that backward
passes and every other network (classifier, labeler, LPIPS) count for what they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from augment import Denoiser
from recipes.chain.images.making import guidance_of
from recipes.chain.inputs import Inputs
from recipes.chain.preview import first_images
from recipes.chain.settings.sets import SyntheticSet

__all__ = ["Cost", "cost_of", "flops", "forward_flops", "steps_at"]

_COUNTED, _TIMED = 2, 8
"""Images, at least; where images depend on one another, whole groups of them."""
_SMALLEST_SHARE = 0.25
"""Least share of a set's steps: with fewer its images are hardly its method's any more, and broken
ones speak against the labels of all sets."""


@dataclass(frozen=True)
class Cost:
    """What one image costs."""

    forwards: float = math.nan
    """Forward passes of the generator; NaN of images that were made elsewhere."""
    seconds: float = math.nan
    """On this machine, in a batch of about 8, while nothing else was measured."""


def cost_of(inputs: Inputs, settings: SyntheticSet) -> Cost:
    """The cost of an image of a set; what its guidance trains or fits first is not counted."""
    if settings.folder is not None:
        return Cost()
    group = 1 if settings.particles is None else settings.particles.group
    counted, timed = (group * math.ceil(count / group) for count in (_COUNTED, _TIMED))
    guidance = guidance_of(inputs, settings)  # trains, fits and loads what there is
    make = partial(first_images, inputs, settings, guidance)
    make(1)
    started = time.perf_counter()
    make(timed)
    seconds = (time.perf_counter() - started) / timed
    with _Operations() as counter:
        make(counted)
    return Cost(counter.total / counted / forward_flops(inputs.denoiser), seconds)


def forward_flops(denoiser: Denoiser) -> int:
    """Floating-point operations of one forward pass of one image, without its graph."""
    x = torch.zeros(1, *denoiser.shape, device=denoiser.device)
    return flops(lambda: denoiser(x, 0, denoiser.schedule, denoiser.any_class(1)))


def flops(forward: Callable[[], object]) -> int:
    """Floating-point operations of a forward pass without its graph, on any device, `meta` too."""
    with torch.inference_mode(), _Operations() as counter:
        forward()
    return int(counter.total)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up floating-point operations by PyTorch's own table of them.

    PyTorch's `FlopCounterMode` also tells them apart by module, whose hooks do not stand the
    gradient of a leaf by `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, known = kwargs or {}, flop_registry.get(func._overloadpacket)
        if known is None:
            with self:  # in inference mode, operations come whole that are made of others
                made_of = func.decompose(*args, **kwargs)
            if made_of is not NotImplemented:
                return made_of
        result = func(*args, **kwargs)
        if known is not None:
            self.total += known(*args, **kwargs, out_val=result)
        return result


def steps_at(settings: SyntheticSet, cost: Cost, budget: float) -> int | None:
    """How many steps of a set a budget of forwards per image pays for; None where that is no fewer
    than it has, where it is less than a quarter of them, or of images that were made elsewhere.
    """
    steps = settings.sampler.steps
    if settings.folder is not None or cost.forwards < 1:
        return None
    affordable = int(steps * budget / cost.forwards + 1e-6)
    return affordable if max(1, _SMALLEST_SHARE * steps) <= affordable < steps else None
