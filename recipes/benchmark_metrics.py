"""What measuring a generated set against a real one takes, by our engine and by faiss'.

    OMP_NUM_THREADS=2 python recipes/benchmark_metrics.py         # CelebA's size: 40 minutes or so
    OMP_NUM_THREADS=2 python recipes/benchmark_metrics.py --real 16000 --generated 3000

Scores: AvgkNN, LOF, Rarity Score, precision, recall, density and coverage, of the same made-up
features: rectified, correlated, non-negative, as a network's pooled ones are. Each engine runs in a
process of its own, one after the other. Its memory is what it has at most beyond its libraries and
the features. faiss' index copies the real features, which is counted. The processors' seconds are
for a machine that is busy with something else. faiss comes with `.[faiss]`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.metrics import Measured, Orders
from classify.files import write_text
from recipes._command import parse_settings, run
from recipes._engine import EngineName
from recipes._engines import engine
from recipes.chain.benchmarking import check_out, machine, record_of, resident

_FILE = "benchmark_metrics.json"
_LISTS = {"engines": (EngineName, "in the order in which they run")}
_ROWS = 4096
"""Features made at a time."""
_LATENT = 64
"""Dimensions that the made-up features vary in, but for a little noise."""


@dataclass(frozen=True, kw_only=True)
class MetricsBenchmarkConfig:
    """How many features of which width, and what measures them."""

    real: int = 162_770
    """Real images; CelebA's training split."""
    generated: int = 30_000
    """Generated images; the paper's number."""
    width: int = 2048
    """Features an image; ResNet-50's."""
    engines: Sequence[EngineName] = ("blocks", "faiss")
    """In the order in which they run; the others are compared with the first."""
    seed: int = 0
    """Of the features."""
    out: Path = Path("runs/benchmark_metrics")
    """Folder of benchmark_metrics.json."""

    def __post_init__(self) -> None:
        least = Orders().most + 1
        for name, low in (("real", least), ("generated", least), ("width", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {low}")
        engines = list(self.engines)
        if not engines or len(set(engines)) < len(engines):
            raise ValueError(f"engines are {engines}; give one or more, each once")
        if "faiss" in engines and not find_spec("faiss"):
            raise ValueError(
                "faiss is not installed; pip install 'minority-augment[faiss]', or give "
                "--engines blocks"
            )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table, write the JSON; its content."""
    config = parse_settings(MetricsBenchmarkConfig, arguments, lists=_LISTS)
    check_out(config.out, _FILE, record_of(config))
    with tempfile.TemporaryDirectory() as folder:
        make_features(config, Path(folder))
        rows = _rows(config, Path(folder))
    of_faiss = ["faiss-cpu"] if "faiss" in config.engines else []
    result = {
        "settings": record_of(config),
        "machine": machine("cpu", ["torch", *of_faiss, "numpy"]),
        "rows": rows,
    }
    config.out.mkdir(parents=True, exist_ok=True)
    write_text(config.out / _FILE, json.dumps(result, indent=2) + "\n")
    print(table(result))
    return result


def make_features(config: MetricsBenchmarkConfig, folder: Path) -> None:
    """Write real.npy and generated.npy, float32; the generated vary less, and lie apart a little.

    Both are max(0, z A + noise) of Gaussian z in few dimensions.
    """
    rng = np.random.default_rng(config.seed)
    mixing = rng.normal(size=(_LATENT, config.width)).astype(np.float32) / np.sqrt(_LATENT)
    for name, count, scale, shift in (
        ("real", config.real, 1.0, 0.0),
        ("generated", config.generated, 0.9, 0.05),
    ):
        file = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", np.float32, (count, config.width)
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


def _rows(config: MetricsBenchmarkConfig, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    first: Measured | None = None
    for name in config.engines:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures, measured = pool.submit(_measure_here, name, folder).result()
        rows.append({**figures, "differences": differences(first, measured) if first else {}})
        first = first or measured
    return rows


def _measure_here(name: EngineName, folder: Path) -> tuple[dict[str, Any], Measured]:
    real, generated = (_load(folder / f"{kind}.npy") for kind in ("real", "generated"))
    chosen = engine(name, real, Orders())
    before, clocks = resident("VmRSS"), [_clocks()]
    chosen.search()
    clocks.append(_clocks())
    measured = chosen.measure(generated)
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


def _load(file: Path) -> npt.NDArray[np.float32]:
    features: npt.NDArray[np.float32] = np.load(file)
    return features


if __name__ == "__main__":
    run(main)
