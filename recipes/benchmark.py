"""What an image costs, plain and self-guided; beside, the official procedure and diffusers.

    python recipes/benchmark.py                  # the embedded generator, a few minutes on 2 cores
    python recipes/benchmark.py --generator SRC --steps 250 --batch_size 64 --distances lpips

A repeat runs every procedure once, each repeat in another order, and ratios are taken within a
repeat, so that whatever else the machine does hits all alike. The first distance is also given to
the official procedure. Memory is measured apart, in a process of its own for each procedure, for
three steps: what it has at most beyond its libraries and loaded models (on a GPU, what PyTorch has
allocated). PyTorch decides on threads: set OMP_NUM_THREADS.

A cost is counted in units of plain sampling. One forward pass is the unit of a step; a backward
pass to the input costs 1.056 of it (counted for ADM's CelebA network, all operations; 1.005 for its
LSUN network). What a guided step adds to its forward pass is then the least that an exact
implementation can do, its floor:

    with the sampler's own forward pass shared     1 forward + 1 backward  = 2.056
    as the official code runs it                   2 forwards + 1 backward = 3.056
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import diffusers
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import trange

from augment import Denoiser, Schedule, SelfGuidance, load_denoiser
from augment.distance import Distance
from augment.noise import PERTURBATION, REVERSE, NoiseStream, seeded_generator
from augment.pretrained import scheduler_of
from augment.sampler import sample_batch
from classify.files import write_text
from labeling import load_labeler
from recipes.chain.benchmarking import (
    Work,
    check_out,
    machine,
    peak_megabytes,
    record_of,
)
from recipes.chain.command_line import parse, run
from recipes.chain.distances import DistanceName, named_distance
from recipes.chain.files import write_figure
from recipes.chain.sources import GENERATORS, LABELERS

_MEMORY_STEPS = 3
"""Enough for a guided step, whatever the rate: the last one is."""

Sampler = Callable[[Sequence[int], int], Tensor]
"""From seeds and a number of steps to one image a seed, uint8 (B, C, H, W) on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is sampled, and how often."""

    generator: str = field(default="avatars-32", metadata=GENERATORS)
    """Embedded name, checkpoint, diffusers folder or hub id of an unconditional generator."""
    labeler: str = field(default="avatars", metadata=LABELERS)
    """Embedded name or folder of the labeler whose features are a distance."""
    steps: int = 50
    """Reverse steps an image."""
    batch_size: int = 16
    """Images at a time."""
    rates: Sequence[int] = (1, 2, 5, 10, 20)
    """Every how many steps the guidance acts."""
    distances: Sequence[DistanceName] = ("l2", "activations", "features")
    """Distances of the guidance: activations, lpips, features, l1, l2."""
    repeats: int = 5
    """How often everything is run; medians and ranges are over these."""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu counts the process's own time, for a machine that is busy with something else."""
    out: Path = Path("runs/benchmark")
    """Folder of benchmark.json and benchmark.png."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1")
        for name in ("rates", "distances"):
            given = list(getattr(self, name))
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name} are {given}; give one or more, each once")
        if min(self.rates) < 1:
            raise ValueError(f"rates are {list(self.rates)}; give 1 for every step, or more")


class Models(NamedTuple):
    """What all procedures share."""

    denoiser: Denoiser
    distances: Mapping[str, Distance]

    @classmethod
    def load(cls, settings: Settings) -> Models:
        """Load them, on a GPU if there is one.

        Raises:
            ValueError: the generator is class-conditional, or has fewer steps than are wanted.
        """
        denoiser = load_denoiser(settings.generator)
        if denoiser.classes is not None:
            raise ValueError(
                f"generator {settings.generator} is class-conditional, which diffusers' "
                "DDPMPipeline cannot sample; unconditional ones can be compared; give one"
            )
        denoiser.schedule.respaced(settings.steps)  # says which steps are allowed
        labeler = load_labeler(settings.labeler)
        named: dict[str, Distance] = {
            name: named_distance(name, denoiser, labeler) for name in settings.distances
        }
        return cls(denoiser.to("cuda" if torch.cuda.is_available() else "cpu"), named)


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A way to make images from seeds."""

    name: str
    make: Callable[[Denoiser, SelfGuidance | None], Sampler]
    """Makes it ready on a network, with whatever needs to be done only once."""
    distance: DistanceName | None = None
    """Distance of the guidance, if there is one."""
    every: int | None = None
    """The rate n: every n-th step is guided, ceil(N / n) of N."""
    extra: float = 0.0
    """What a guided step adds, in forward passes; the distance is not counted: it is little beside
    the paper's networks, not beside tiny ones."""

    def on(self, models: Models) -> Sampler:
        """Make ready on a network."""
        if self.distance is None or self.every is None:
            return self.make(models.denoiser, None)
        distance = models.distances[self.distance]
        return self.make(models.denoiser, SelfGuidance(every=self.every, distance=distance))

    def floor(self, steps: int) -> float | None:
        """Least possible cost in units of plain sampling; None where there is no such figure.

        It is 1 + extra ceil(N / n) / N, which is 1 + extra / n where n divides N.
        """
        if self.every is None:
            return None
        return 1 + self.extra * math.ceil(steps / self.every) / steps


def compared(distances: Sequence[DistanceName], rates: Sequence[int]) -> list[Procedure]:
    """What is compared, plain sampling first; the official procedure with the first distance."""
    ours = partial(Procedure, name="self-guided", make=our_sampler, extra=2.056)
    official = partial(Procedure, name="official", make=official_sampler, extra=3.056)
    return [
        Procedure(name="plain", make=our_sampler),
        Procedure(name="diffusers", make=diffusers_sampler),
        *(ours(distance=distance, every=n) for distance in distances for n in rates),
        *(official(distance=distances[0], every=n) for n in rates),
    ]


def our_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """The ancestral sampler of `augment`."""
    return lambda seeds, steps: sample_batch(denoiser, seeds, steps=steps, guidance=guidance).images


def diffusers_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """The DDPMPipeline of diffusers on the same network, with one generator an image too.

    Pixels are decoded to uint8 in both, and to PIL images in neither.
    """
    pipeline = diffusers.DDPMPipeline(denoiser.network, scheduler_of(denoiser))
    pipeline.set_progress_bar_config(disable=True)

    def images(seeds: Sequence[int], steps: int) -> Tensor:
        decoded = pipeline(
            batch_size=len(seeds),
            generator=[seeded_generator(seed, REVERSE) for seed in seeds],
            num_inference_steps=steps,
            output_type="np",
        ).images
        return torch.from_numpy((decoded * 255).round().astype("uint8")).permute(0, 3, 1, 2)

    return images


def official_sampler(denoiser: Denoiser, guidance: SelfGuidance | None) -> Sampler:
    """Algorithm 1 in the official code's order: three forwards and a backward on a guided step.

    The forward pass of the sampler keeps no graph; a guided step runs the network again at the same
    x_i to have one, and a third time at x_s. Left out is that ADM's attention computes itself again
    in the backward pass, which adds another fifth of a forward to it.

    Args:
        denoiser: an unconditional one whose estimate is clipped.
        guidance: its scale, rate, perturbation and distance are used.

    Returns:
        A sampler with the noise of `augment.sample` for each seed, and so its images, up to
        rounding.
    """
    assert guidance is not None

    def images(seeds: Sequence[int], steps: int) -> Tensor:
        schedule = denoiser.schedule.respaced(steps)
        noise, perturbation = (
            NoiseStream(seeds, purpose, denoiser.shape, denoiser.device)
            for purpose in (REVERSE, PERTURBATION)
        )
        x = noise.draw()
        for i in range(steps - 1, -1, -1):
            with torch.no_grad():
                prediction = denoiser(x, i, schedule)
                x0 = schedule.predict_x0(x, i, prediction.eps).clamp(-1, 1)
                mean = schedule.posterior_mean(x0, x, i)
                log_variance = denoiser.log_variance(prediction, i, schedule)
                z = noise.draw()
            if guidance.active(i, steps):
                direction = _direction(denoiser, schedule, x, i, perturbation.draw(), guidance)
                mean = mean + guidance.scale * log_variance.exp() * direction
            x = mean + (i > 0) * torch.exp(0.5 * log_variance) * z
        return denoiser.image.to_uint8(x).cpu()

    return images


def _direction(
    denoiser: Denoiser, schedule: Schedule, x: Tensor, i: int, e: Tensor, guidance: SelfGuidance
) -> Tensor:
    """The gradient of Eq. 7 over its largest entry, from a graph of its own; (B, C, H, W)."""
    at_s, s = guidance.noised_at(denoiser.schedule, schedule)
    leaf = x.detach().clone().requires_grad_(True)
    x0 = schedule.predict_x0(leaf, i, denoiser(leaf, i, schedule).eps)
    with torch.no_grad():
        x_s = at_s.q_sample(x0, s, e)
        again = at_s.predict_x0(x_s, s, denoiser(x_s, s, at_s).eps)
    (gradient,) = torch.autograd.grad(guidance.distance(x0, again).sum(), leaf)
    return gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write JSON and chart; the content of the JSON."""
    settings = parse(Settings, arguments)
    check_out(settings.out, "benchmark.json", record_of(settings))
    models = Models.load(settings)
    seconds = measure(settings, models)
    result = {
        "settings": record_of(settings),
        "machine": machine(str(models.denoiser.device), ("torch", "diffusers")),
        "rows": _rows(settings, seconds, memory(settings, list(seconds))),
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / "benchmark.json", json.dumps(result, indent=2) + "\n")
    write_figure(settings.out / "benchmark.png", chart(result))
    print(table(result))
    return result


def measure(settings: Settings, models: Models) -> dict[Procedure, list[float]]:
    """Seconds an image, of each procedure one value a repeat."""
    ready = [(p, p.on(models)) for p in compared(settings.distances, settings.rates)]
    seeds = range(settings.batch_size)
    clock = time.perf_counter if settings.clock == "wall" else time.process_time
    seconds: dict[Procedure, list[float]] = {procedure: [] for procedure, _ in ready}
    for _, images in ready:
        images(seeds, min(settings.steps, 2))  # the first call of anything is slower
    for repeat in trange(settings.repeats, desc="benchmark", unit="repeat"):
        first = repeat % len(ready)
        for procedure, images in ready[first:] + ready[:first]:
            started = clock()
            images(seeds, settings.steps)
            seconds[procedure].append((clock() - started) / settings.batch_size)
    return seconds


def memory(settings: Settings, procedures: Sequence[Procedure]) -> dict[Procedure, float | None]:
    """Megabytes that a batch takes at most beyond the loaded models; the rate has no part in it."""
    kinds = {(procedure.name, procedure.distance): procedure for procedure in procedures}
    load = partial(Models.load, settings)
    peaks = {
        kind: peak_megabytes(partial(batch, load, procedure, settings.batch_size))
        for kind, procedure in kinds.items()
    }
    return {procedure: peaks[procedure.name, procedure.distance] for procedure in procedures}


def batch(load: Callable[[], Models], procedure: Procedure, batch_size: int) -> Work:
    """A batch to be made, with the models loaded."""
    models = load()
    return partial(procedure.on(models), range(batch_size), _MEMORY_STEPS), models.denoiser.device


def _rows(
    settings: Settings,
    seconds: Mapping[Procedure, Sequence[float]],
    megabytes: Mapping[Procedure, float | None],
) -> list[dict[str, Any]]:
    plain = next(iter(seconds.values()))
    return [
        {
            "procedure": procedure.name,
            "distance": procedure.distance,
            "every": procedure.every,
            "seconds_per_image": _spread(values),
            "ratio_to_plain": _spread([a / b for a, b in zip(values, plain, strict=True)]),
            "floor": procedure.floor(settings.steps),
            "peak_megabytes": megabytes[procedure],
        }
        for procedure, values in seconds.items()
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def table(result: Mapping[str, Any]) -> str:
    """The rows as text."""
    settings, machine = result["settings"], result["machine"]
    lines = [
        f"{settings['generator']}: {settings['steps']} steps, {settings['batch_size']} images at a "
        f"time, {machine['device']}, {machine['threads']} threads; "
        f"median [range] of {settings['repeats']}, {settings['clock']} time",
        f"{'':<12}{'n':>3}  {'distance':<10}{'seconds an image':<26}{'to plain':<22}"
        f"{'floor':>6}{'to floor':>10}{'MB':>7}",
    ]
    for row in result["rows"]:
        ratio, floor, megabytes = row["ratio_to_plain"], row["floor"], row["peak_megabytes"]
        lines.append(
            f"{row['procedure']:<12}{row['every'] or '':>3}  {row['distance'] or '':<10}"
            f"{_cell(row['seconds_per_image'], 4):<26}{_cell(ratio, 2):<22}"
            + (f"{floor:>6.2f}{ratio['median'] / floor:>10.2f}" if floor else " " * 16)
            + ("" if megabytes is None else f"{megabytes:>7.0f}")
        )
    return "\n".join(lines)


def _cell(spread: Mapping[str, float], digits: int) -> str:
    middle, low, high = (f"{spread[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} [{low}, {high}]"


def chart(result: Mapping[str, Any]) -> Figure:
    """Cost by rate, in units of plain sampling, with the floors dashed."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", xlabel="guide every n-th step", ylabel="cost, in plain sampling"
    )
    guided = [row for row in result["rows"] if row["every"]]
    for kind in dict.fromkeys((row["procedure"], row["distance"]) for row in guided):
        rows = sorted(
            (r for r in guided if (r["procedure"], r["distance"]) == kind), key=lambda r: r["every"]
        )
        rates, ratios = [r["every"] for r in rows], [r["ratio_to_plain"] for r in rows]
        centre = [r["median"] for r in ratios]
        ends = [[abs(r["median"] - r[end]) for r in ratios] for end in ("low", "high")]
        line = axes.errorbar(rates, centre, ends, marker="o", label=", ".join(kind), capsize=3)
        axes.plot(rates, [r["floor"] for r in rows], "--", color=line[0].get_color(), lw=1)
    axes.set_xticks([row["every"] for row in guided], [str(row["every"]) for row in guided])
    axes.minorticks_off()
    axes.legend()
    return figure


if __name__ == "__main__":
    run(main)
