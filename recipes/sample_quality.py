"""Measure how rare and how faithful a run's images are: the paper's Tab. 1, Fig. 5 and Fig. 6.

    python recipes/sample_quality.py runs/celeba_augment
    python recipes/sample_quality.py RUN --encoder resnet50 --reference tail:10000

Every synthetic set of the run, and its real test images for comparison, are placed against its
real training images: `metrics.csv` (one row per set, with 95 % bootstrap intervals over images),
`density.png`, `rarest.png`, `commonest.png`. Then every measure of rarity is set against the
generator's minority score and, on the embedded avatars whose distribution is known, against the
true log-probability of the attributes: `agreement.csv` (Spearman's rank correlation) and
`agreement.png`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from lightning.fabric import Fabric
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import stats

from augment import Denoiser, load_denoiser
from augment.distance import Distance
from augment.metrics import Orders
from augment.metrics.pictures import ImageSet
from augment.metrics.report import (
    Results,
    check_sizes,
    tail_count,
    text_table,
)
from augment.minority_score import ScoreConfig, score_files
from classify.datasets import read_image
from classify.datasets.avatars import ATTRIBUTES, log_probability
from classify.files import claim
from labeling import load_labeler
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import launch
from recipes.chain.command.files import write_csv, write_figure
from recipes.chain.command.sources import GENERATOR
from recipes.chain.encoders import Encoders
from recipes.chain.finished import real_table, run_settings, synthetic_table
from recipes.chain.labels.labelers import labeler_source
from recipes.chain.settings.distances import NO_FEATURES, DistanceName, named_distance
from recipes.chain.settings.study import RunConfig

__all__ = ["Settings", "chart", "main", "rank_agreement"]

_RARITY = ("avg_knn", "lof", "rarity", "minority_score")
_TITLES = {
    "avg_knn": "AvgkNN",
    "lof": "LOF",
    "rarity": "rarity score",
    "minority_score": "minority score",
    "log_probability": "- log-probability",
}
_DRAWS = 1000
"""Resamplings of the images, for an interval."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure how rare and how faithful a run's images are."""

    run: Path
    """Folder of a run of a study, such as celeba_augment, its images generated."""
    out: Path = Path("runs/sample_quality")
    """Folder of the tables and pictures."""
    encoder: str = "avatars"
    """Network whose features are measured, as for `recipes/measure.py`."""
    weights: Path | None = None
    """A local file of a published encoder's weights."""
    reference: str = "all"
    """Real images that fidelity is measured against: all, or tail:N, the N of highest AvgkNN."""
    distance: DistanceName = "l2"
    """Distance of the minority score: activations (the generator's own), lpips (the paper's),
    features (the labeler's), l1 or l2."""


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure, print the table and the correlations, write everything."""
    settings = parse(Settings, arguments)
    count = tail_count(settings.reference)
    config = run_settings(settings.run)
    tables = _tables(settings.run, config)
    sets = [
        ImageSet.of(name, table.assign(file_name=table["path"])) for name, table in tables.items()
    ]
    check_sizes(sets[0], sets[1:], tail_count=count, orders=Orders())
    encoders = Encoders(settings.encoder, weights=settings.weights)
    denoiser = load_denoiser(config.generator)
    distance = _distance(settings, config, denoiser)
    fabric = launch(1)
    record = {
        "run": str(settings.run.resolve()),
        "encoder": asdict(encoders.own.card),
        "reference": settings.reference,
        "distance": settings.distance,
    }
    claim(settings.out / "settings.json", record)

    features = encoders.features(sets, fabric=fabric, cache=settings.out / "features")
    results = features.measured(tail_count=count)
    results.write(settings.out, read_image)
    print(text_table(results.table))
    found = rank_agreement(_scored(config, denoiser, tables, results, distance, fabric))
    write_csv(settings.out / "agreement.csv", found)
    if len(found):
        write_figure(settings.out / "agreement.png", chart(found))
        print("\nSpearman's rank correlation, 95 % interval over images")
        print(found.to_string(index=False, float_format="{:+.2f}".format))
    return results


def rank_agreement(images: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far the measures of rarity agree, within each set.

    Args:
        images: set -> one row per image, with some of avg_knn, lof, rarity (NaN outside the
            manifold), minority_score and log_probability.

    Returns:
        Columns `set, measure, against, correlation, low, high, images`: Spearman's, of the measure
        with the minority score, and with minus the log-probability. Images without either are left
        out, and so are pairs in which one does not vary.
    """
    rows = []
    for name, table in images.items():
        for against in ("minority_score", "log_probability"):
            for measure in _RARITY:
                if measure == against or not {measure, against} <= set(table):
                    continue
                sign = -1 if against == "log_probability" else 1
                pair = table[[measure, against]].dropna().to_numpy() * (1, sign)
                if len(pair) < 3 or (np.ptp(pair, axis=0) == 0).any():
                    continue
                rows.append((name, measure, against, *_spearman(pair), len(pair)))
    columns = ["set", "measure", "against", "correlation", "low", "high", "images"]
    return pd.DataFrame(rows, columns=columns)


def _spearman(pair: NDArray[np.float64]) -> tuple[float, float, float]:
    """Rank correlation of (N, 2), with the ends of its percentile interval over images."""
    rng = np.random.default_rng(0)
    ranks = stats.rankdata(pair, axis=0)
    with np.errstate(invalid="ignore"):  # of few images, a draw may be one image again and again
        draws = [
            np.corrcoef(ranks[rng.integers(len(ranks), size=len(ranks))].T)[0, 1]
            for _ in range(_DRAWS)
        ]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return float(np.corrcoef(ranks.T)[0, 1]), float(low), float(high)


def chart(found: pd.DataFrame) -> Figure:
    """The correlations with their intervals, a panel for each thing they are with."""
    kinds, sets = (list(dict.fromkeys(found[column])) for column in ("against", "set"))
    gap = min(0.2, 0.8 / len(sets))
    figure = Figure(figsize=(4.2 * len(kinds), max(3.4, 0.5 * len(sets))), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        rows = found[found["against"] == kind]
        names = list(dict.fromkeys(rows["measure"]))[::-1]
        for offset, name in enumerate(sets):
            line = rows[rows["set"] == name]
            y = [names.index(m) + gap * ((len(sets) - 1) / 2 - offset) for m in line["measure"]]
            ends = [line["correlation"] - line["low"], line["high"] - line["correlation"]]
            axes.errorbar(line["correlation"], y, xerr=ends, fmt="o", capsize=2, color=f"C{offset}")
        axes.set_yticks(range(len(names)), [_TITLES[m] for m in names])
        axes.axvline(0, color="0.6", lw=1)
        axes.set(title=f"with the {_TITLES[kind]}".replace("the -", "minus the"))
    figure.supxlabel("Spearman's rank correlation", fontsize="medium")
    handles = [Line2D([], [], color=f"C{i}", marker="o", label=name) for i, name in enumerate(sets)]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _scored(
    config: RunConfig,
    denoiser: Denoiser,
    tables: Mapping[str, pd.DataFrame],
    results: Results,
    distance: Distance,
    fabric: Fabric,
) -> dict[str, pd.DataFrame]:
    """The measures of every image but the real training ones, whose rarity score is undefined."""
    scored = {}
    for images in results.sets[1:]:
        rows, table = tables[images.name], results.images[images.name]
        if denoiser.classes is None:
            scores = score_files(
                denoiser,
                images.paths,
                distance,
                read=read_image,
                config=ScoreConfig(),
                fabric=fabric,
            )
            table = table.assign(minority_score=scores)
        if config.data is None and set(ATTRIBUTES) - {"Attractive"} <= set(rows):
            attributes = rows.reindex(columns=list(ATTRIBUTES)).fillna(0).to_numpy(int)
            table = table.assign(log_probability=log_probability(attributes))
        scored[images.name] = table
    return scored


def _distance(settings: Settings, config: RunConfig, denoiser: Denoiser) -> Distance:
    of_labeler = settings.distance == "features"
    if of_labeler and config.labelers[0] == GENERATOR:
        raise ValueError(NO_FEATURES)
    labeler = load_labeler(labeler_source(config, settings.run)) if of_labeler else None
    return named_distance(settings.distance, denoiser, labeler)


def _tables(run: Path, config: RunConfig) -> dict[str, pd.DataFrame]:
    """The rows of each set, by its name, the real training ones first."""
    real = real_table(run, config)
    tables = {f"real {split}": real[real["split"] == split] for split in ("train", "test")}
    return tables | {name: synthetic_table(run, name) for name in config.synthetic_sets}


if __name__ == "__main__":
    run(main)
