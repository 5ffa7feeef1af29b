"""What an image costs: each way to make, label or train on it beside another, in one run.

    python recipes/benchmark.py                  # the embedded generator, a few minutes on 2 cores
    python recipes/benchmark.py --generator SRC --steps 250 --batch_size 64 --distances lpips

A repeat runs everything once, each repeat in another order, and a ratio is of two times of the same
repeat, so that whatever else the machine does hits both alike. Plain sampling is beside diffusers'
own pipeline, guided sampling and the official procedure (with the first distance) beside plain
sampling, labelling and training beside loops written by hand. Memory is measured apart, in a
process of its own for each sampler, for three steps: what it has at most beyond its libraries and
loaded models (on a GPU, what PyTorch has allocated). PyTorch decides on threads: set
OMP_NUM_THREADS.

A guided step's cost is counted in units of plain sampling. One forward pass is the unit of a step;
a backward pass to the input costs 1.056 of it (counted for ADM's CelebA network, all operations;
1.005 for its LSUN network). What a guided step adds to its forward pass is then the least that an
exact implementation can do, its floor:

    with the sampler's own forward pass shared     1 forward + 1 backward  = 2.056
    as the official code runs it                   2 forwards + 1 backward = 3.056

On one core of a shared EPYC, first in turn there, by `taskset -c 0 chrt -r 1 env OMP_NUM_THREADS=1
python recipes/benchmark.py --repeats 3 --clock cpu`, 5 minutes:

                             images a second         time beside                   floor
    plain                    4.9 [4.8, 5.1]          1.01 [0.98, 1.02] diffusers
    diffusers                4.9 [4.8, 5.2]
    self-guided l2 1         1.6 [1.6, 1.7]          2.99 [2.94, 3.04] plain        3.06
    self-guided l2 5         3.7 [3.5, 3.9]          1.37 [1.25, 1.42] plain        1.41
    self-guided features 1   1.3 [1.2, 1.3]          3.77 [3.75, 4.07] plain        3.06
    self-guided features 5   3.2 [3.1, 3.3]          1.58 [1.48, 1.59] plain        1.41
    official l2 1            1.3 [1.2, 1.3]          3.96 [3.80, 4.08] plain        4.06
    official l2 5            3.1 [3.0, 3.3]          1.59 [1.56, 1.60] plain        1.61
    labelling                1015.9 [866.8, 1033.6]  1.11 [1.06, 1.17] bare labelling
    bare labelling           1078.8 [1017.6, 1147.9]
    training                 288.0 [287.5, 312.0]    0.95 [0.89, 0.95] bare training
    bare training            274.3 [273.2, 277.8]
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from tqdm.auto import trange

from augment import Denoiser, SelfGuidance, load_denoiser
from augment.distance import Distance
from classify.files import write_text
from labeling import Labeler, load_labeler
from recipes.chain.benchmarks.bare_loops import LOOPS, Classified
from recipes.chain.benchmarks.benchmarking import (
    Work,
    check_out,
    machine,
    peak_megabytes,
    record_of,
)
from recipes.chain.benchmarks.costed_samplers import (
    Sampler,
    diffusers_sampler,
    official_sampler,
    our_sampler,
)
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.sources import GENERATORS, LABELERS
from recipes.chain.settings.distances import DistanceName, named_distance

_MEMORY_STEPS = 3
"""Enough for a guided step, whatever the rate: the last one is."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is sampled, and how often."""

    generator: str = field(default="avatars-32", metadata=GENERATORS)
    """Embedded name, checkpoint, diffusers folder or hub id of an unconditional generator."""
    labeler: str = field(default="avatars", metadata=LABELERS)
    """Embedded name or folder of a labeler: what labels, and whose features are a distance."""
    steps: int = 50
    """Reverse steps an image."""
    batch_size: int = 16
    """Images at a time."""
    rates: Sequence[int] = (1, 5)
    """Every how many steps the guidance acts."""
    distances: Sequence[DistanceName] = ("l2", "features")
    """Distances of the guidance: activations, lpips, features, l1, l2."""
    images: int = 512
    """Embedded images that are labelled and trained on."""
    repeats: int = 5
    """How often everything is run; medians and ranges are over these."""
    clock: Literal["wall", "cpu"] = "wall"
    """cpu counts the process's own time, for a machine that is busy with something else."""
    out: Path = Path("runs/benchmark")
    """Folder of benchmark.json."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "images", "repeats"):
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
    labeler: Labeler

    @classmethod
    def load(cls, settings: Settings) -> Models:
        """Load them, on a GPU if there is one.

        Raises:
            ValueError: the generator is class-conditional, or has fewer steps than are wanted; or
                the labeler has no torch network.
        """
        denoiser = load_denoiser(settings.generator)
        if denoiser.classes is not None:
            raise ValueError(
                f"generator {settings.generator} is class-conditional, which diffusers' "
                "DDPMPipeline cannot sample; unconditional ones can be compared; give one"
            )
        denoiser.schedule.respaced(settings.steps)  # says which steps are allowed
        labeler = load_labeler(settings.labeler)
        if not isinstance(labeler, Labeler):
            raise ValueError(
                f"labeler {settings.labeler} has no torch network, which labelling is timed with; "
                "give another one, such as avatars"
            )
        named: dict[str, Distance] = {
            name: named_distance(name, denoiser, labeler) for name in settings.distances
        }
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(denoiser.to(device), named, labeler.to(device))


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What is measured."""

    name: str
    beside: str | None = None
    """The name of what its time is divided by; None of what only stands beside others."""
    distance: DistanceName | None = None
    """Distance of the guidance, if there is one."""
    every: int | None = None
    """The rate n: every n-th step is guided, ceil(N / n) of N."""
    extra: float = 0.0
    """What a guided step adds, in forward passes; the distance is not counted: it is little beside
    the paper's networks, not beside tiny ones."""

    def floor(self, steps: int) -> float | None:
        """Least possible cost in units of plain sampling; None where there is no such figure.

        It is 1 + extra ceil(N / n) / N, which is 1 + extra / n where n divides N.
        """
        if self.every is None:
            return None
        return 1 + self.extra * math.ceil(steps / self.every) / steps


@dataclass(frozen=True, kw_only=True)
class Procedure(Timed):
    """A way to make images from seeds."""

    make: Callable[[Denoiser, SelfGuidance | None], Sampler]
    """Makes it ready on a network, with whatever needs to be done only once."""

    def on(self, models: Models) -> Sampler:
        """Make ready on a network."""
        if self.distance is None or self.every is None:
            return self.make(models.denoiser, None)
        distance = models.distances[self.distance]
        return self.make(models.denoiser, SelfGuidance(every=self.every, distance=distance))


def compared(distances: Sequence[DistanceName], rates: Sequence[int]) -> list[Procedure]:
    """The samplers, plain sampling first; the official procedure with the first distance."""
    beside_plain = partial(Procedure, beside="plain")
    ours = partial(beside_plain, name="self-guided", make=our_sampler, extra=2.056)
    official = partial(beside_plain, name="official", make=official_sampler, extra=3.056)
    return [
        Procedure(name="plain", beside="diffusers", make=our_sampler),
        Procedure(name="diffusers", make=diffusers_sampler),
        *(ours(distance=distance, every=n) for distance in distances for n in rates),
        *(official(distance=distances[0], every=n) for n in rates),
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write JSON; its content."""
    settings = parse(Settings, arguments)
    check_out(settings.out, "benchmark.json", record_of(settings))
    models = Models.load(settings)
    with tempfile.TemporaryDirectory() as folder:
        images = Classified.drawn(Path(folder) / "avatars", settings.images, models.labeler)
        seconds = measure(settings, {**samplers(settings, models), **loops(images)})
    procedures = [timed for timed in seconds if isinstance(timed, Procedure)]
    result = {
        "settings": record_of(settings),
        "machine": machine(str(models.denoiser.device), ("torch", "diffusers")),
        "rows": _rows(settings, seconds, memory(settings, procedures)),
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / "benchmark.json", json.dumps(result, indent=2) + "\n")
    print(table(result))
    return result


def samplers(settings: Settings, models: Models) -> dict[Timed, Callable[[], int]]:
    """Every sampler, ready to make a batch."""

    def made(images: Sampler) -> int:
        return len(images(range(settings.batch_size), settings.steps))

    procedures = compared(settings.distances, settings.rates)
    return {procedure: partial(made, procedure.on(models)) for procedure in procedures}


def loops(images: Classified) -> dict[Timed, Callable[[], int]]:
    """Labelling and training, each with the bare loop that it is beside."""
    tasks: dict[Timed, Callable[[], int]] = {}
    for name, (ours, bare) in LOOPS.items():
        tasks[Timed(name=name, beside=f"bare {name}")] = partial(ours, images)
        tasks[Timed(name=f"bare {name}")] = partial(bare, images)
    return tasks


def measure(
    settings: Settings, tasks: Mapping[Timed, Callable[[], int]]
) -> dict[Timed, list[float]]:
    """Seconds an image, of each task, which gives the number of its images, one value a repeat."""
    clock = time.perf_counter if settings.clock == "wall" else time.process_time
    seconds: dict[Timed, list[float]] = {timed: [] for timed in tasks}
    order = list(tasks.items())
    for repeat in trange(settings.repeats + 1, desc="benchmark", unit="repeat"):
        first = repeat % len(order)
        for timed, task in order[first:] + order[:first]:
            started = clock()
            images = task()
            seconds[timed].append((clock() - started) / images)
    return {timed: of_all[1:] for timed, of_all in seconds.items()}  # anything's first is slower


def memory(settings: Settings, procedures: Sequence[Procedure]) -> dict[Timed, float | None]:
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
    seconds: Mapping[Timed, Sequence[float]],
    megabytes: Mapping[Timed, float | None],
) -> list[dict[str, Any]]:
    of_name = {timed.name: values for timed, values in seconds.items()}
    return [
        {
            "name": timed.name,
            "distance": timed.distance,
            "every": timed.every,
            "images_per_second": _spread([1 / value for value in values]),
            "beside": timed.beside,
            "ratio": _ratio(values, of_name[timed.beside]) if timed.beside else None,
            "floor": timed.floor(settings.steps),
            "peak_megabytes": megabytes.get(timed),
        }
        for timed, values in seconds.items()
    ]


def _ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    return _spread([a / b for a, b in zip(values, others, strict=True)])


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def table(result: Mapping[str, Any]) -> str:
    """The rows as text."""
    settings, machine = result["settings"], result["machine"]
    lines = [
        f"{settings['generator']}: {settings['steps']} steps, {settings['batch_size']} images at a "
        f"time, {machine['device']}, {machine['threads']} threads; "
        f"median [range] of {settings['repeats']}, {settings['clock']} time",
        f"{'':<26}{'images a second':<25}{'time beside':<36}{'floor':>6}{'to floor':>10}{'MB':>6}",
    ]
    for row in result["rows"]:
        ratio, floor, megabytes = row["ratio"], row["floor"], row["peak_megabytes"]
        name = f"{row['name']} {row['distance']} {row['every']}" if row["every"] else row["name"]
        beside = f"{_cell(ratio, 2)} {row['beside']}" if ratio else ""
        lines.append(
            f"{name:<26}{_cell(row['images_per_second'], 1):<25}{beside:<36}"
            + (f"{floor:>6.2f}{ratio['median'] / floor:>10.2f}" if floor else " " * 16)
            + ("" if megabytes is None else f"{megabytes:>6.0f}")
        )
    return "\n".join(line.rstrip() for line in lines)


def _cell(spread: Mapping[str, float], digits: int) -> str:
    middle, low, high = (f"{spread[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} [{low}, {high}]"


if __name__ == "__main__":
    run(main)
