"""Measure what scoring a generated set against a real one takes, by two engines.

    OMP_NUM_THREADS=2 python recipes/benchmark_metrics.py         # CelebA's size: 40 minutes or so
    OMP_NUM_THREADS=2 python recipes/benchmark_metrics.py --real 16000 --generated 3000

The engines are `blocks`, that of `augment.metrics`, and `faiss`, its flat index (`.[faiss]`). Both
compute AvgkNN, LOF, Rarity Score, precision, recall, density and coverage of the same made-up
features: rectified, correlated, non-negative, as a network's pooled ones are. Each runs in a
process of its own, one after the other. Its memory is what it has at most beyond its libraries and
the features; faiss' index copies the real features, which is counted. The processors' seconds are
for a machine that is busy with something else.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from augment.metrics import Measured, Neighbours, Orders, Reference, measure
from augment.metrics.scores import mean_distance, outlier_factor
from classify.files import claim, write_text
from recipes.chain.benchmarks.benchmarking import machine, resident
from recipes.chain.command.command_line import parse, run

__all__ = ["ENGINES", "Settings", "differences", "main", "make_features", "table"]

_ROWS = 4096
"""Features made, and distances that faiss computes for the balls, at a time."""
_LATENT = 64
"""Dimensions that the made-up features vary in, but for a little noise."""

Array = npt.NDArray[np.float32]
EngineName = Literal["blocks", "faiss"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure what scoring a generated set against a real one takes, by two engines."""

    real: int = 162_770
    """Number of real images; CelebA's training split."""
    generated: int = 30_000
    """Number of generated images; the paper's."""
    width: int = 2048
    """Features per image; ResNet-50's."""
    engines: Sequence[EngineName] = ("blocks", "faiss")
    """Engines in the order in which they run; the others are compared with the first."""
    seed: int = 0
    """Seed of the features."""
    out: Path = Path("runs/benchmark_metrics")
    """Folder of benchmark_metrics.json."""

    def __post_init__(self) -> None:
        least = Orders().most + 1
        for name, low in (("real", least), ("generated", least), ("width", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {low}")
        engines = list(self.engines)
        if not engines or len(set(engines)) < len(engines):
            raise ValueError(f"engines is {engines}; give one or more, each once")
        if "faiss" in engines and not find_spec("faiss"):
            raise ValueError(
                "engines has faiss, which is not installed; pip install 'minority-augment[faiss]', "
                "or give --engines blocks"
            )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write the JSON; its content."""
    settings = parse(Settings, arguments)
    record = {**asdict(settings), "engines": list(settings.engines)}
    del record["out"]
    claim(settings.out / "settings.json", record)
    with tempfile.TemporaryDirectory() as folder:
        make_features(settings, Path(folder))
        rows = _rows(settings.engines, Path(folder))
    of_faiss = ["faiss-cpu"] if "faiss" in settings.engines else []
    result = {
        "settings": record,
        "machine": machine("cpu", ["torch", *of_faiss, "numpy"]),
        "rows": rows,
    }
    write_text(settings.out / "benchmark_metrics.json", json.dumps(result, indent=2) + "\n")
    print(table(result))
    return result


class Blocks:
    """Scores by `augment.metrics`, which searches the real images once for all of them."""

    def __init__(self, real: Array, orders: Orders) -> None:
        self._reference = Reference(real, orders)

    def search(self) -> Neighbours:
        """The real images' nearest others."""
        return self._reference.neighbours

    def measure(self, generated: Array) -> Measured:
        """Every score, after `search`."""
        return measure(generated, self._reference)


class Faiss:
    """Scores by `IndexFlatL2`; a ball each has no index, so blocks of all distances.

    faiss is imported here alone: it brings another OpenMP, which the other engine's process should
    not load.
    """

    def __init__(self, real: Array, orders: Orders) -> None:
        import faiss

        self._faiss, self._real, self._orders = faiss, real, orders

    def search(self) -> Neighbours:
        """The real images' nearest others."""
        self._index = self._index_of(self._real)
        self._own = self._others(self._index, self._real, self._orders.most)
        return self._own

    def measure(self, generated: Array) -> Measured:
        """Every score, after `search`."""
        orders = self._orders
        found = _neighbours(*self._index.search(generated, max(orders.avg_knn, orders.lof)))
        own = self._others(self._index_of(generated), generated, orders.precision)
        recalled = np.zeros(len(self._real), dtype=bool)
        kinds = {orders.rarity, orders.precision, orders.density}
        radii = {k: self._own.distances[:, k - 1].numpy() for k in kinds}
        count, members = ({k: np.zeros(len(x)) for k in kinds} for x in (generated, self._real))
        smallest = {k: np.full(len(generated), np.inf) for k in kinds}
        for rows in _slices(len(generated)):
            reach = own.distances[rows, -1:].numpy().astype(np.float32)
            for columns in _slices(len(self._real)):
                apart = self._faiss.pairwise_distances(generated[rows], self._real[columns])
                apart = np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
                for k in kinds:
                    inside = apart < radii[k][columns].astype(np.float32)
                    count[k][rows] += inside.sum(axis=1)
                    members[k][columns] += inside.sum(axis=0)
                    row, column = inside.nonzero()
                    np.minimum.at(smallest[k][rows], row, radii[k][columns][column])
                recalled[columns] |= (apart < reach).any(axis=0)
        rarity = smallest[orders.rarity]
        return Measured(
            avg_knn=mean_distance(found, orders.avg_knn),
            lof=outlier_factor(found, self._own, orders.lof),
            rarity=np.where(np.isfinite(rarity), rarity, np.nan),
            inside=count[orders.precision] > 0,
            recalled=recalled,
            density=float(count[orders.density].mean()) / orders.density,
            coverage=float((members[orders.density] > 0).mean()),
        )

    def _index_of(self, points: Array) -> Any:
        index = self._faiss.IndexFlatL2(points.shape[1])
        index.add(points)
        return index

    def _others(self, index: Any, points: Array, k: int) -> Neighbours:
        """The k nearest without the point itself, which duplicates may have pushed out of k + 1."""
        squares, indices = index.search(points, k + 1)
        own = indices == np.arange(len(points))[:, None]
        own[~own.any(axis=1), -1] = True
        return _neighbours(squares[~own].reshape(-1, k), indices[~own].reshape(-1, k))


ENGINES: Mapping[EngineName, type[Blocks] | type[Faiss]] = {"blocks": Blocks, "faiss": Faiss}


def make_features(settings: Settings, folder: Path) -> None:
    """Write real.npy and generated.npy, float32; the generated vary less, and lie apart a little.

    Both are max(0, z A + noise) of Gaussian z in few dimensions.
    """
    rng = np.random.default_rng(settings.seed)
    mixing = rng.normal(size=(_LATENT, settings.width)).astype(np.float32) / np.sqrt(_LATENT)
    for name, count, scale, shift in (
        ("real", settings.real, 1.0, 0.0),
        ("generated", settings.generated, 0.9, 0.05),
    ):
        file = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", np.float32, (count, settings.width)
        )
        for start in range(0, count, _ROWS):
            part = file[start : start + _ROWS]
            latent = rng.standard_normal((len(part), _LATENT), np.float32) * scale + shift
            noise = rng.standard_normal(part.shape, np.float32)
            part[:] = np.maximum(latent @ mixing + 0.1 * noise, 0)
        file.flush()


def table(result: Mapping[str, Any]) -> str:
    """The rows as text."""
    settings, there = result["settings"], result["machine"]
    lines = [
        f"{settings['real']} real, {settings['generated']} generated, {settings['width']} features;"
        f" {there['threads']} threads",
        f"{'':<10}{'real s':>10}{'generated s':>13}{'total s':>10}{'cpu s':>10}{'MB':>8}"
        "  largest difference",
    ]
    for row in result["rows"]:
        search, measuring, memory = row["search_s"], row["measure_s"], row["peak_megabytes"]
        lines.append(
            f"{row['engine']:<10}{search:>10.1f}{measuring:>13.1f}{search + measuring:>10.1f}"
            f"{row['cpu_s']:>10.1f}"
            + (f"{'':>8}" if memory is None else f"{memory:>8.0f}")
            + "".join(f"  {name} {value:.1e}" for name, value in row["differences"].items())
        )
    return "\n".join(lines)


def differences(one: Measured, other: Measured) -> dict[str, float]:
    """The largest relative ones of the scores, the fraction of images otherwise in or out."""
    scores = {
        name: float(np.nanmax(np.abs(a - b) / a, initial=0))
        for name in ("avg_knn", "lof", "rarity")
        for a, b in [(getattr(one, name), getattr(other, name))]
    }
    return {
        **scores,
        "inside": float((one.inside != other.inside).mean()),
        "recalled": float((one.recalled != other.recalled).mean()),
    }


def _rows(engines: Sequence[EngineName], folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    first: Measured | None = None
    for name in engines:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures, measured = pool.submit(_measure_here, name, folder).result()
        rows.append({**figures, "differences": differences(first, measured) if first else {}})
        first = first or measured
    return rows


def _measure_here(name: EngineName, folder: Path) -> tuple[dict[str, Any], Measured]:
    real, generated = (np.load(folder / f"{kind}.npy") for kind in ("real", "generated"))
    engine = ENGINES[name](real, Orders())
    before, clocks = resident("VmRSS"), [_clocks()]
    engine.search()
    clocks.append(_clocks())
    measured = engine.measure(generated)
    clocks.append(_clocks())
    peak = resident("VmHWM")
    (search, search_cpu), (measuring, measuring_cpu) = np.diff(clocks, axis=0).tolist()
    return {
        "engine": name,
        "search_s": search,
        "measure_s": measuring,
        "cpu_s": search_cpu + measuring_cpu,
        "peak_megabytes": None if peak is None or before is None else peak - before,
        "precision": float(measured.inside.mean()),
        "recall": float(measured.recalled.mean()),
        "density": measured.density,
        "coverage": measured.coverage,
        "in_manifold": float(np.isfinite(measured.rarity).mean()),
        **{f"mean_{k}": float(getattr(measured, k).mean()) for k in ("avg_knn", "lof")},
    }, measured


def _clocks() -> tuple[float, float]:
    """Seconds on the wall and of this process's threads."""
    return time.perf_counter(), time.process_time()


def _neighbours(squares: Array, indices: npt.NDArray[np.int64]) -> Neighbours:
    distances = np.sqrt(np.maximum(squares, 0), dtype=np.float64)
    return Neighbours(torch.from_numpy(distances), torch.from_numpy(indices))


def _slices(count: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]


if __name__ == "__main__":
    run(main)
