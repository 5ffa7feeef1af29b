"""How rare and how faithful are a run's images? The paper's Tab. 1, Fig. 5 and Fig. 6, for any run.

    python recipes/sample_quality.py runs/celeba_augment
    python recipes/sample_quality.py RUN --encoder resnet50 --reference tail:10000

The run's plain and minority images, and its real test images for comparison, are placed against
its real training images: `metrics.csv` (a row a set, with 95 % bootstrap intervals over images),
`density.png`, `rarest.png`, `commonest.png`. Then every measure of rarity is set against the
generator's minority score and, on the embedded avatars whose distribution is known, against the
true log-probability of the attributes: `agreement.csv` (Spearman's rank correlation) and
`agreement.png`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import stats

from augment import load_denoiser
from augment.distance import Distance
from augment.metrics import Orders
from augment.metrics.encoders import load_encoder
from augment.metrics.features import extract
from augment.metrics.report import Results, check_sizes, claim, measure_sets, text_table
from augment.metrics.sets import ImageSet
from augment.metrics.tail import tail_count
from augment.minority_score import ScoreConfig, score_files
from classify.datasets.avatars import ATTRIBUTES, log_probability
from labeling import load_labeler
from recipes._command import parse_settings, run
from recipes._files import write_csv, write_figure
from recipes._finished import real_table, run_settings, synthetic_table
from recipes._labels import labeler_source
from recipes._prepare import ARMS, named_distance
from recipes._settings import DistanceName, RunConfig

_RARITY = ("avg_knn", "lof", "rarity", "minority_score")
_TITLES = {
    "avg_knn": "AvgkNN",
    "lof": "LOF",
    "rarity": "rarity score",
    "minority_score": "minority score",
    "log_probability": "- log-probability",
}
_GIVEN = {"run": "folder of a run whose images are generated"}
_DRAWS = 1000
"""Resamplings of the images."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """What is measured."""

    run: Path
    """Folder of a run of celeba_augment or fashion_longtail, its images generated."""
    out: Path = Path("runs/sample_quality")
    """Tables and pictures."""
    encoder: str = "avatars"
    """Whose features: an embedded name, resnet50, vgg16, inception, a folder, and so on."""
    weights: Path | None = None
    """A local file for a published encoder's weights."""
    reference: str = "all"
    """Real images that fidelity is measured against: all, or tail:N, the N of highest AvgkNN."""
    distance: DistanceName = "features"
    """Of the minority score: lpips (the paper's), features (the labeler's), l1 or l2."""


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure, print the table and the correlations, write everything."""
    config = parse_settings(QualityConfig, arguments, positional=_GIVEN)
    count = tail_count(config.reference)
    run_config = run_settings(config.run)
    tables = _tables(config.run, run_config)
    sets = {name: _image_set(name, table) for name, table in tables.items()}
    real, *others = sets.values()
    check_sizes(real, others, tail_count=count, orders=Orders())
    encoder = load_encoder(config.encoder, weights=config.weights)
    fabric = Fabric(devices=1)
    fabric.launch()
    claim(
        config.out,
        {
            "run": str(config.run.resolve()),
            "encoder": encoder.card,
            "reference": config.reference,
            "distance": config.distance,
        },
    )
    cache = config.out / "features"
    features = [
        torch.from_numpy(extract(s.paths, encoder, cache=cache, name=s.name, fabric=fabric))
        for s in sets.values()
    ]
    results = measure_sets(real, others, features, tail_count=count)
    results.write(config.out)
    print(text_table(results.table))
    scored = _scored(config, run_config, tables, sets, results, fabric)
    found = agreement(scored)
    write_csv(config.out / "agreement.csv", found)
    if len(found):
        write_figure(config.out / "agreement.png", chart(found))
        print("\nSpearman's rank correlation, 95 % interval over images")
        print(found.to_string(index=False, float_format="{:+.2f}".format))
    return results


def agreement(images: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far the measures of rarity agree, within each set.

    Args:
        images: set -> a row an image, with some of avg_knn, lof, rarity (NaN outside the manifold),
            minority_score and log_probability.

    Returns:
        Columns `set, measure, against, correlation, low, high, images`: Spearman's, of the measure
        with the minority score, and with minus the log-probability; images without either are left
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
    """Of (N, 2), with the ends of its percentile interval over images."""
    rng = np.random.default_rng(0)
    ranks = stats.rankdata(pair, axis=0)
    draws = [
        np.corrcoef(ranks[rng.integers(len(ranks), size=len(ranks))].T)[0, 1] for _ in range(_DRAWS)
    ]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return float(np.corrcoef(ranks.T)[0, 1]), float(low), float(high)


def chart(found: pd.DataFrame) -> Figure:
    """The correlations with their intervals, a panel for each thing they are with."""
    kinds, sets = (list(dict.fromkeys(found[column])) for column in ("against", "set"))
    figure = Figure(figsize=(4.2 * len(kinds), 3.4), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        rows = found[found["against"] == kind]
        names = list(dict.fromkeys(rows["measure"]))[::-1]
        for offset, name in enumerate(sets):
            line = rows[rows["set"] == name]
            y = [names.index(m) + 0.2 * ((len(sets) - 1) / 2 - offset) for m in line["measure"]]
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
    config: QualityConfig,
    run_config: RunConfig,
    tables: Mapping[str, pd.DataFrame],
    sets: Mapping[str, ImageSet],
    results: Results,
    fabric: Fabric,
) -> dict[str, pd.DataFrame]:
    """The measures of every image but the real training ones, whose rarity score is undefined."""
    denoiser = load_denoiser(run_config.generator)
    distance = _distance(config, run_config)
    scored = {}
    for name in list(sets)[1:]:
        table = results.images[name]
        if denoiser.classes is None:
            table = table.assign(
                minority_score=score_files(
                    denoiser, sets[name].paths, distance, config=ScoreConfig(), fabric=fabric
                )
            )
        if run_config.data is None and set(ATTRIBUTES) - {"Attractive"} <= set(tables[name]):
            vectors = tables[name].reindex(columns=list(ATTRIBUTES)).fillna(0).to_numpy(int)
            table = table.assign(log_probability=log_probability(vectors))
        scored[name] = table
    return scored


def _distance(config: QualityConfig, run_config: RunConfig) -> Distance:
    """Of the minority score, by the run's labeler."""
    return named_distance(config.distance, load_labeler(labeler_source(run_config, config.run)))


def _tables(run: Path, settings: RunConfig) -> dict[str, pd.DataFrame]:
    """Set -> its rows, the real training ones first."""
    real = real_table(run, settings)
    tables = {f"real {split}": real[real["split"] == split] for split in ("train", "test")}
    return tables | {arm: synthetic_table(run, arm) for arm in ARMS}


def _image_set(name: str, table: pd.DataFrame) -> ImageSet:
    return ImageSet(name=name, folder=Path("/"), file_names=[str(path) for path in table["path"]])


if __name__ == "__main__":
    run(main)
