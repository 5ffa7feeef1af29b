"""One step of the reverse process, plain or guided, short of its noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from augment.backoff import Backoff
from augment.denoiser import Denoiser
from augment.guidance.contract import Guidance, ReverseStep
from augment.noise import NoiseStream
from augment.schedule import Schedule
from augment.solvers import Estimate, Solver, Transition

__all__ = ["Moved", "Reverse"]


class Moved(NamedTuple):
    """x_{i-1} short of its noise; every tensor is detached."""

    mean: Tensor
    """float32 (B, C, H, W), the guidance's shift included."""
    std: Tensor | None
    """Of the noise, broadcastable to `mean`; None adds none."""
    x0: Tensor
    """The sampler's estimate of the images."""
    unguided: Tensor | None = None
    """Images that the guidance could not move, bool (B,); None on a plain step."""


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """The steps of one batch.

    A plain step runs the network once, without a graph. On a guided step the graph of that run is
    kept and shared with the guidance. If memory is too short for the graph of the whole batch, the
    step is done in parts, whose images are the same up to rounding.
    """

    denoiser: Denoiser
    schedule: Schedule
    """The respaced one."""
    solver: Solver
    guidance: Guidance | None
    labels: Tensor | None
    """Classes, int64 (B,), on the denoiser's device."""
    perturbation: NoiseStream
    backoff: Backoff = field(default_factory=Backoff)

    def guided(self, i: int) -> bool:
        """Whether step `i` is one that the guidance acts on."""
        return self.guidance is not None and self.guidance.active(i, len(self.schedule))

    def step(self, i: int, x: Tensor, previous: Tensor | None) -> Moved:
        """From x_i to x_{i-1}; see `Estimate` for `previous`."""
        if self.guidance is not None and self.guided(i):
            part = partial(self._guided, self.guidance, i, x, previous)
            return _joined(self.backoff.parts(len(x), part))
        with torch.inference_mode():
            (mean, std, _), _, x0 = self._plain(i, x, previous, self.labels)
        return Moved(mean, std, x0)

    def _plain(
        self, i: int, x_i: Tensor, previous: Tensor | None, labels: Tensor | None
    ) -> tuple[Transition, Tensor, Tensor]:
        """The solver's step, the estimate with whatever graph `x_i` asks for, and the sampler's."""
        prediction = self.denoiser(x_i, i, self.schedule, labels)
        estimate = self.schedule.predict_x0(x_i, i, prediction.eps)
        with torch.no_grad():
            # The sampler clips its estimate; the guidance does not, as in the official code.
            x0 = estimate.clamp(-1, 1) if self.denoiser.clip else estimate.detach()
            log_variance = self.denoiser.log_variance(prediction, i, self.schedule)
            at = Estimate(self.schedule, i, x_i.detach(), x0, log_variance, previous)
            return self.solver.step(at), estimate, x0

    def _guided(
        self, guidance: Guidance, i: int, x: Tensor, previous: Tensor | None, rows: slice
    ) -> Moved:
        noise = self.perturbation.rows(rows)
        labels = None if self.labels is None else self.labels[rows]
        # Whatever mode the caller is in, a graph is needed here.
        with noise.undone_on_error(), torch.inference_mode(False), torch.enable_grad():
            x_i = x[rows].clone().requires_grad_(True)
            moved, estimate, x0 = self._plain(
                i, x_i, None if previous is None else previous[rows], labels
            )
            variance = moved.log_variance.exp()
            step = ReverseStep(
                self.denoiser, self.schedule, i, x_i, estimate, variance, noise, labels
            )
            shift = guidance.shift(step).detach()
        std = None if moved.std is None else moved.std.expand_as(shift)
        unguided = ~shift.flatten(1).any(dim=1)
        return Moved(moved.mean + shift, std, x0, unguided)


def _joined(parts: list[Moved]) -> Moved:
    """Parts of a guided batch, in order."""
    if len(parts) == 1:
        return parts[0]
    stds = [part.std for part in parts if part.std is not None]
    return Moved(
        torch.cat([part.mean for part in parts]),
        torch.cat(stds) if stds else None,
        torch.cat([part.x0 for part in parts]),
        torch.cat([part.unguided for part in parts if part.unguided is not None]),
    )
