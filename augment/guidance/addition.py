"""Guidances add up: several at once, each with its own strength and on its own steps."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from augment.denoiser import Denoiser
from augment.step import Guidance, Step, check

__all__ = ["Sum"]


class Sum:
    """The sum of the shifts of several guidances.

    All of them see the same x_i and estimate, none the shift of another, so that their order
    changes the rounding at most. (With one perturbation stream for all, two self-guidances draw
    from it in turn.)
    """

    def __init__(self, *parts: Guidance) -> None:
        """
        Args:
            parts: at least one guidance.

        Raises:
            ValueError: there is none.
        """
        if not parts:
            raise ValueError("a sum of no guidances is none; give at least one, or None instead")
        self.parts = parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    @property
    def through_denoiser(self) -> bool:
        return any(part.through_denoiser for part in self.parts)

    def active(self, i: int, steps: int) -> bool:
        return any(part.active(i, steps) for part in self.parts)

    def check(self, denoiser: Denoiser) -> None:
        """Let every part look at the model; ValueError if one cannot guide it."""
        for part in self.parts:
            check(part, denoiser)

    def shift(self, step: Step) -> Tensor:
        *others, last = (p for p in self.parts if p.active(step.i, len(step.schedule)))
        shared = replace(step, shared=True)
        shifts = [*(part.shift(shared) for part in others), last.shift(step)]
        total = shifts[0]
        for shift in shifts[1:]:
            total = total + shift
        return total
