"""The reverse process: one loop for every method, written as a generator of states.

    x_{i-1} = mean_i(x_i) + shift_i + std_i z

where mean and std are the solver's (ancestral sampling if none is given) and shift_i is the
guidance's, if one is given and active. The network runs once on a plain step. On a guided step the
sampler keeps the autograd graph of that run and shares it with the guidance.

References: Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021; Um & Ye 2024, algorithm 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from augment.denoiser import Denoiser
from augment.devices import Backoff
from augment.noise import PERTURBATION, REVERSE, NoiseStream, uniform_labels
from augment.schedule import Schedule
from augment.solvers import Ancestral
from augment.start import Start
from augment.step import Guidance, Solver, Step, check, group_of

__all__ = ["Batch", "State", "class_labels", "reverse_process", "sample", "sample_batch"]


@dataclass(frozen=True)
class State:
    """The process after a step."""

    i: int
    """Index of the step just taken; 0 means that `x` is the image."""
    x: Tensor
    """x_{i-1}, float32 (B, C, H, W)."""
    x0: Tensor
    """Estimate of the images at x_i, clipped to [-1, 1] unless the model's is not."""
    unguided: Tensor | None = None
    """On a guided step: the images that the guidance, with all parts of a sum, could not move
    (gradient zero or not finite), bool (B,)."""


class Batch(NamedTuple):
    """Finished images."""

    images: Tensor
    """uint8 (B, C, H, W) on the CPU."""
    unguided: Tensor
    """On how many guided steps each one's gradient was of no use, int64 (B,) on the CPU."""
    finite: Tensor
    """Whether every pixel is finite, bool (B,) on the CPU; of others the image says nothing."""


def reverse_process(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: Guidance | None = None,
    solver: Solver = Ancestral(),
    labels: Sequence[int] | None = None,
    start: Tensor | None = None,
    start_index: int | None = None,
) -> Iterator[State]:
    """Yield the state after every reverse step, the last one's `x` being images in about [-1, 1],
    or latents of such (`Denoiser.decoded`).

    Args:
        denoiser: the pretrained model.
        seeds: one per image; they alone determine the noise.
        steps: N, how many of the model's timesteps are kept.
        guidance: shifts the mean on the steps where it is active.
        solver: the update rule; `DDIM()` and `DPMSolver2M()` need fewer steps.
        labels: one class per image, for a model that has classes; see `class_labels`.
        start: x at `start_index`, float32 (B, C, H, W); pure noise if left out, each image's first
            draw, which is passed over if it is given.
        start_index: the first step to take; N - 1 if left out.

    Raises:
        ValueError: more steps than the model has, a start outside them, classes it has not, or a
            guidance that does not suit it.
    """
    check(guidance, denoiser)
    schedule = denoiser.schedule.respaced(steps)
    first = steps - 1 if start_index is None else start_index
    if not 0 <= first < steps:
        raise ValueError(f"start_index is {first}, of {steps} steps; give 0 to {steps - 1}")
    classes = class_labels(denoiser, seeds, labels)
    noise = NoiseStream(seeds, REVERSE, denoiser.shape, denoiser.device)
    reverse = _Reverse(
        denoiser=denoiser,
        schedule=schedule,
        solver=solver,
        guidance=guidance,
        seeds=tuple(seeds),
        labels=None if classes is None else classes.to(denoiser.device),
        perturbation=NoiseStream(seeds, PERTURBATION, denoiser.shape, denoiser.device),
        backoff=Backoff(group_of(guidance)),
    )
    pure = noise.draw()
    x, previous = schedule.start_scale * pure if start is None else start, None
    for i in range(first, -1, -1):
        mean, std, x0, unguided = reverse.step(i, x, previous)
        with torch.inference_mode():
            x = mean if std is None else mean + std * noise.draw()
        # A trajectory that was moved is not the one that the estimate belongs to.
        previous = None if reverse.guided(i) else x0
        yield State(i, x, x0, unguided)


class _Moved(NamedTuple):
    """The images of a batch, or of a part of one, after a step."""

    mean: Tensor
    """x_{i-1} short of its noise."""
    std: Tensor | None
    """The noise's."""
    x0: Tensor
    """The clipped estimate at x_i."""
    unguided: Tensor | None
    """Which images could not be guided; None on a plain step."""


@dataclass(frozen=True, kw_only=True)
class _Reverse:
    """The steps of one batch.

    A plain step runs the network once, without a graph. On a guided step the graph of that run is
    kept and shared with the guidance. If memory is too short for the graph of the whole batch, the
    step is done in parts, whose images are the same up to rounding.
    """

    denoiser: Denoiser
    schedule: Schedule
    solver: Solver
    guidance: Guidance | None
    seeds: tuple[int, ...]
    labels: Tensor | None
    perturbation: NoiseStream
    backoff: Backoff

    def guided(self, i: int) -> bool:
        return self.guidance is not None and self.guidance.active(i, len(self.schedule))

    def step(self, i: int, x: Tensor, previous: Tensor | None) -> _Moved:
        """From x_i to x_{i-1}, given x0 of the step before."""
        if self.guidance is not None and self.guided(i):
            part = partial(self._guided, self.guidance, i, x, previous)
            return _joined(self.backoff.parts(len(x), part))
        with torch.inference_mode():
            at = self._at(i, x, previous, slice(None))
            mean, std, _ = self.solver.step(at)
        return _Moved(mean, std, at.x0, None)

    def _at(self, i: int, x_i: Tensor, previous: Tensor | None, rows: slice) -> Step:
        """What the network says of some rows of the batch, with whatever graph `x_i` asks for."""
        labels = None if self.labels is None else self.labels[rows]
        condition = self.denoiser.condition
        with condition(self.seeds[rows], i, self.schedule) if condition else nullcontext():
            prediction = self.denoiser(x_i, i, self.schedule, labels)
        estimate = self.schedule.predict_x0(x_i, i, prediction.eps)
        with torch.no_grad():
            # The sampler clips its estimate; the guidance does not, as in the official code.
            return Step(
                denoiser=self.denoiser,
                schedule=self.schedule,
                i=i,
                x_i=x_i,
                estimate=estimate,
                x0=estimate.clamp(-1, 1) if self.denoiser.clip else estimate.detach(),
                log_variance=self.denoiser.log_variance(prediction, i, self.schedule),
                previous=None if previous is None else previous[rows],
                perturbation=self.perturbation.rows(rows),
                labels=labels,
                seeds=self.seeds[rows],
            )

    def _guided(
        self, guidance: Guidance, i: int, x: Tensor, previous: Tensor | None, rows: slice
    ) -> _Moved:
        # Whatever mode the caller is in, a graph may be needed here.
        with (
            self.perturbation.rows(rows).undone_on_error(),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            x_i = x[rows].clone().requires_grad_(guidance.through_denoiser)
            at = self._at(i, x_i, previous, rows)
            with torch.no_grad():
                mean, std, log_variance = self.solver.step(replace(at, x_i=x_i.detach()))
            shift = guidance.shift(replace(at, log_variance=log_variance)).detach()
        unguided = ~shift.flatten(1).any(dim=1)
        std = None if std is None else std.expand_as(shift)
        return _Moved(mean + shift, std, at.x0, unguided)


def _joined(parts: list[_Moved]) -> _Moved:
    """Parts of a batch, in order."""
    if len(parts) == 1:
        return parts[0]
    stds = [part.std for part in parts if part.std is not None]
    unguided = [part.unguided for part in parts if part.unguided is not None]
    return _Moved(
        mean=torch.cat([part.mean for part in parts]),
        std=torch.cat(stds) if stds else None,
        x0=torch.cat([part.x0 for part in parts]),
        unguided=torch.cat(unguided) if unguided else None,
    )


def class_labels(
    denoiser: Denoiser, seeds: Sequence[int], labels: Sequence[int] | None = None
) -> Tensor | None:
    """The class of each image, int64 (B,) on the CPU; None if the model has no classes.

    Left out, it is uniform over the classes and follows from the image's seed alone.

    Raises:
        ValueError: a class that the model does not have, or not one class per seed.
    """
    if labels is None:
        return None if denoiser.classes is None else uniform_labels(seeds, denoiser.classes)
    if len(labels) != len(seeds):
        raise ValueError(
            f"{len(labels)} labels are given for {len(seeds)} seeds; give one per seed"
        )
    classes = torch.as_tensor(labels, dtype=torch.int64)
    denoiser.check_labels(classes)
    return classes


def sample_batch(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: Guidance | None = None,
    solver: Solver = Ancestral(),
    labels: Sequence[int] | None = None,
    start: Start | None = None,
) -> Batch:
    """Generate one batch of images, and say where the guidance failed; see `sample`.

    Where it makes images of a group depend on one another, those that are not asked for are made
    too, and dropped.
    """
    made = _whole_groups(seeds, group_of(guidance))
    if labels is not None and made != list(seeds):
        labels = _reordered(labels, seeds, made)
    x, index = (None, None) if start is None else start.start(denoiser, made, steps)
    unguided = torch.zeros(len(made), dtype=torch.int64, device=denoiser.device)
    for state in reverse_process(
        denoiser,
        made,
        steps=steps,
        guidance=guidance,
        solver=solver,
        labels=labels,
        start=x,
        start_index=index,
    ):
        if state.unguided is not None:
            unguided += state.unguided
    row = {seed: row for row, seed in enumerate(made)}
    rows = [row[seed] for seed in seeds]
    with torch.inference_mode():
        images = denoiser.decoded(state.x)
    finite = images.isfinite().flatten(1).all(dim=1)
    pixels = denoiser.image.to_uint8(images)
    return Batch(pixels.cpu()[rows], unguided.cpu()[rows], finite.cpu()[rows])


def _whole_groups(seeds: Sequence[int], group: int) -> list[int]:
    """The seeds of every group that one of these is of, group after group; alone, as they are."""
    if group == 1:
        return list(seeds)
    of = dict.fromkeys(seed // group for seed in seeds)
    return [number * group + member for number in of for member in range(group)]


def _reordered(labels: Sequence[int], seeds: Sequence[int], made: Sequence[int]) -> list[int]:
    """The classes of seeds in another order.

    Raises:
        ValueError: one has none.
    """
    of = dict(zip(seeds, labels, strict=True))
    if missing := [seed for seed in made if seed not in of]:
        raise ValueError(
            f"seed {missing[0]} has no class, and others of this batch depend on its image; give "
            "whole groups, and a batch size that is a multiple of the guidance's group"
        )
    return [of[seed] for seed in made]


def sample(
    denoiser: Denoiser,
    seeds: Sequence[int],
    *,
    steps: int = 250,
    guidance: Guidance | None = None,
    solver: Solver = Ancestral(),
    labels: Sequence[int] | None = None,
    start: Start | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Generate one image per seed.

    Args:
        denoiser: the pretrained model.
        seeds: non-negative integers; the same seed gives the same image, whatever stands beside it
            in the batch, up to rounding (`SelfGuidance` tells how far that goes).
        steps: reverse steps, 1 to the length of the model's schedule.
        guidance: `SelfGuidance(...)` for minority samples; plain sampling if left out.
        solver: the update rule; ancestral sampling is the paper's.
        labels: one class per seed, for a model that has classes; left out, uniform, by the seed.
        start: where to start instead of pure noise, `Edit(...)` (SDEdit) or `Boost()`.
        batch_size: images at a time.

    Returns:
        uint8 (N, C, H, W) on the CPU, in the order of `seeds`.

    Raises:
        ValueError: more steps than the model has, classes it has not, or no batch.

    Warns:
        UserWarning: the guidance had no usable gradient somewhere, and moved nothing there; or
            images that are not finite.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1 image at a time")
    if labels is not None:
        class_labels(denoiser, seeds, labels)  # Of the whole run, before the first batch.
    images, unguided = [torch.empty(0, *denoiser.image.shape, dtype=torch.uint8)], 0
    broken: list[int] = []
    for first in range(0, len(seeds), batch_size):
        rows = slice(first, first + batch_size)
        batch = sample_batch(
            denoiser,
            seeds[rows],
            steps=steps,
            guidance=guidance,
            solver=solver,
            labels=None if labels is None else labels[rows],
            start=start,
        )
        images.append(batch.images)
        unguided += int(batch.unguided.sum())
        broken += [seed for seed, good in zip(seeds[rows], batch.finite, strict=True) if not good]
    warn_unguided(unguided)
    if broken:
        warnings.warn(
            f"{len(broken)} images came out not finite, the first of seed {broken[0]}, and show "
            "nothing; try float32, or a guidance of less strength",
            stacklevel=2,
        )
    return torch.cat(images)


def warn_unguided(count: int) -> None:
    """Warn once if the guidance failed on `count` steps of images."""
    if count:
        warnings.warn(
            f"the guidance's gradient was zero or not finite on {count} steps of images, which it "
            "left as they were; if these are many, choose another distance or precision",
            stacklevel=3,
        )
