"""What an image costs, plain and self-guided; beside, the official procedure and diffusers.

    python recipes/benchmark.py                  # the embedded generator, a few minutes on 2 cores
    python recipes/benchmark.py --generator SRC --steps 250 --batch_size 64 --distances lpips

A repeat runs every procedure once, each repeat in another order, and ratios are taken within a
repeat, so that whatever else the machine does hits all alike. The first distance is also given to
the official procedure. Memory is measured apart, in a process of its own for each procedure, for
three steps: what it has at most beyond its libraries and loaded models (on a GPU, what PyTorch has
allocated). PyTorch decides on threads: set OMP_NUM_THREADS.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from matplotlib.figure import Figure
from tqdm.auto import trange

from classify.files import write_text
from recipes._command import parse_settings, run
from recipes._files import write_figure
from recipes._measured import check_out, machine, record_of
from recipes._procedures import Models, Procedure, compared, peak_memory
from recipes._settings import DistanceName

_LISTS = {
    "rates": (int, "every how many steps the guidance acts"),
    "distances": (DistanceName, "of the guidance: lpips, features, l1, l2"),
}
"""Of the flags that take several values."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is sampled, and how often."""

    generator: str = "avatars-32"
    """Embedded name, checkpoint, diffusers folder or hub id of an unconditional generator."""
    labeler: str = "avatars"
    """Embedded name or folder of the labeler whose features are a distance."""
    steps: int = 50
    """Reverse steps an image."""
    batch_size: int = 16
    """Images at a time."""
    rates: Sequence[int] = (1, 2, 5, 10, 20)
    """Every how many steps the guidance acts."""
    distances: Sequence[DistanceName] = ("l2", "features")
    """Of the guidance: lpips, features, l1, l2."""
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
            raise ValueError(f"rates are {list(self.rates)}; allowed are 1 (every step) and more")

    @property
    def procedures(self) -> list[Procedure]:
        """What is compared, plain sampling first."""
        return compared(self.distances, self.rates)

    def load(self) -> Models:
        """The models, checked."""
        models = Models.load(self.generator, self.labeler, self.distances)
        models.denoiser.schedule.respaced(self.steps)  # says which are allowed
        return models


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write JSON and chart; the content of the JSON."""
    config = parse_settings(BenchmarkConfig, arguments, lists=_LISTS)
    check_out(config.out, "benchmark.json", record_of(config))
    models = config.load()
    result = {
        "settings": record_of(config),
        "machine": machine(str(models.denoiser.device), ("torch", "diffusers")),
        "rows": _rows(config, measure(config, models)),
    }
    _write(config.out, result)
    print(table(result))
    return result


def _rows(
    config: BenchmarkConfig, seconds: Mapping[Procedure, Sequence[float]]
) -> list[dict[str, Any]]:
    """The figures of each procedure, with its memory, in which the rate has no part."""
    kinds = {(procedure.name, procedure.distance): procedure for procedure in seconds}
    memory = {kind: peak_memory(config.load, p, config.batch_size) for kind, p in kinds.items()}
    plain = next(iter(seconds.values()))
    return [
        {
            "procedure": procedure.name,
            "distance": procedure.distance,
            "every": procedure.every,
            "seconds_per_image": _spread(values),
            "ratio_to_plain": _spread([a / b for a, b in zip(values, plain, strict=True)]),
            "floor": procedure.floor(config.steps),
            "peak_megabytes": memory[procedure.name, procedure.distance],
        }
        for procedure, values in seconds.items()
    ]


def measure(config: BenchmarkConfig, models: Models) -> dict[Procedure, list[float]]:
    """Seconds an image, of each procedure one value a repeat."""
    ready = [(p, p.on(models)) for p in config.procedures]
    seeds = range(config.batch_size)
    clock = time.perf_counter if config.clock == "wall" else time.process_time
    seconds: dict[Procedure, list[float]] = {procedure: [] for procedure, _ in ready}
    for _, images in ready:
        images(seeds, min(config.steps, 2))  # The first call of anything is slower.
    for repeat in trange(config.repeats, desc="benchmark", unit="repeat"):
        first = repeat % len(ready)
        for procedure, images in ready[first:] + ready[:first]:
            started = clock()
            images(seeds, config.steps)
            seconds[procedure].append((clock() - started) / config.batch_size)
    return seconds


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
        ratio, floor, memory = row["ratio_to_plain"], row["floor"], row["peak_megabytes"]
        lines.append(
            f"{row['procedure']:<12}{row['every'] or '':>3}  {row['distance'] or '':<10}"
            f"{_cell(row['seconds_per_image'], 4):<26}{_cell(ratio, 2):<22}"
            + (f"{floor:>6.2f}{ratio['median'] / floor:>10.2f}" if floor else " " * 16)
            + ("" if memory is None else f"{memory:>7.0f}")
        )
    return "\n".join(lines)


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


def _cell(spread: Mapping[str, float], digits: int) -> str:
    median, low, high = (f"{spread[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "benchmark.json", json.dumps(result, indent=2) + "\n")
    write_figure(folder / "benchmark.png", chart(result))


if __name__ == "__main__":
    run(main)
