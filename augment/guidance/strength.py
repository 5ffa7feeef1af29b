"""How far a guidance moves the mean, and on which steps (Um & Ye 2024, Eq. 9 and their schedules).

A guidance gives a direction whose largest entry is 1, per image. It is multiplied by w Sigma_i
(the paper's final method) or by w alone (its `fixed`), on every n-th step, perhaps not on the last
ones. The *push* of a run is what a pixel can be moved by altogether at w = 1: the sum of beta~_i
over the guided steps, or, for `fixed`, their number.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from augment.schedule import Schedule
from augment.step import Step

__all__ = ["Strength"]

_REFERENCE_STEPS, _REFERENCE_EVERY = 250, 5
"""The paper's steps and rate for CelebA, at which a budget is counted."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How strongly and how often; the defaults are the official README's for CelebA."""

    section: ClassVar[str] = "guidance"
    """The group of flags or the key of a file that these settings stand under, for refusals."""

    scale: float = 0.4
    """w, the strength in `unit`s; 0 gives plain sampling."""
    every: int = 5
    """Guide the steps whose index is a multiple of this; the last step is always among them."""
    unit: Literal["variance", "fixed"] = "variance"
    """What scale multiplies: the sampler's variance of the step, or 1 (then try 0.02)."""
    switch_off: float | None = None
    """Leave the last steps alone, this fraction of all; left out, guide to the end."""
    budget: float | None = None
    """A scale for 250 steps at every 5, adapted to push as far at any other; it replaces scale."""

    # Where the paper and its code differ. The code's default scale is 1.0, its README's 0.4
    # (CelebA) and 0.2 with every = 2 (ImageNet); for LSUN there is none. The code's `every` is 5
    # if no flag is given, so that the paper's "intermittent" is its ordinary case; 1 is the paper's
    # plain method. The test is on the index counted from 0: the last step is guided, and the first
    # only if `every` divides N - 1. At a fixed scale a larger `every` pushes less: that of 5 is a
    # sixth of that of 1, which `budget` makes up for. The ablation's fixed w of 2 and 6 cannot be
    # per step in these units; a hundredth of it can.

    def __post_init__(self) -> None:
        for name in ("scale", "budget"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(
                    f"{self.section}.{name} is {value}; give a number from 0 (no guidance) up, "
                    "such as 0.4, the paper's for CelebA"
                )
        if self.every < 1:
            raise ValueError(
                f"{self.section}.every is {self.every}; give 1 to guide every step, 5 for every "
                "fifth"
            )
        if self.unit not in ("variance", "fixed"):
            raise ValueError(
                f"{self.section}.unit is {self.unit!r}; give variance, the paper's final "
                "method, or fixed"
            )
        if self.switch_off is not None and not 0 <= self.switch_off <= 1:
            raise ValueError(
                f"{self.section}.switch_off is {self.switch_off}; give a fraction of the steps in "
                "[0, 1], or leave it out to guide to the end"
            )

    def settings(self, kind: type[Strength]) -> dict[str, Any]:
        """Those that a guidance extending `kind`, a class of these, takes as they are, by name."""
        return {f.name: getattr(self, f.name) for f in fields(kind)}

    def active(self, i: int, steps: int) -> bool:
        """Whether step `i` of `steps` is guided."""
        return self.given > 0 and i % self.every == 0 and self._on(i, steps)

    @property
    def given(self) -> float:
        """The budget, or the scale if there is none; 0 guides no step."""
        return self.scale if self.budget is None else self.budget

    def amount(self, step: Step) -> Tensor | float:
        """What a direction with largest entry 1 is multiplied by at a step."""
        w = self.resolved_scale(step.denoiser.schedule, len(step.schedule))
        return w * step.variance if self.unit == "variance" else w

    def resolved_scale(self, full: Schedule, steps: int) -> float:
        """The w of a run of `steps` steps of the schedule `full`.

        It is `scale`, or follows from `budget`: w push(N, n) = budget push(250, 5), for a shorter
        schedule all of its steps instead of 250. Where the variance is learned, a budget
        nevertheless counts beta~_i, which is known beforehand; 0 if no step is guided.
        """
        if self.budget is None:
            return self.scale
        kept = min(_REFERENCE_STEPS, len(full))
        reference = self._push(_respaced(full, kept), _REFERENCE_EVERY)
        own = self._push(_respaced(full, steps), self.every)
        return self.budget * (reference / own) if own else 0.0

    def _push(self, schedule: Schedule, every: int) -> float:
        steps = len(schedule)
        guided = [i for i in range(0, steps, every) if self._on(i, steps)]
        if self.unit == "fixed":
            return float(len(guided))
        return float(np.exp(schedule.posterior_log_variance)[guided].sum())

    def _on(self, i: int, steps: int) -> bool:
        """Not yet switched off: i > N f, strictly as in the code, which allows it in both units.

        A hair more than N f, for the product may fall short: 100 * .58 is 57.99999999999999.
        """
        return self.switch_off is None or i > steps * self.switch_off + 1e-9


@lru_cache(maxsize=8)  # a budget asks for it at every guided step
def _respaced(full: Schedule, steps: int) -> Schedule:
    return full.respaced(steps)
