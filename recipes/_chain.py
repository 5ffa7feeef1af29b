"""The chain every recipe runs: generate, label, merge, train, compare, report.

Each stage leaves files under `out` and picks up what it finds there, so the same command continues
a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from augment import generate, merge
from classify import run_study
from labeling import pseudo_label
from recipes._prepare import ARMS, Chain, launch, prepare
from recipes._preview import preview
from recipes._results import tell, write_csv

__all__ = ["launch", "prepare", "run_chain"]


def run_chain(chain: Chain, title: str, *, reference: bool = False) -> pd.DataFrame | None:
    """Run everything, or only the preview if that was asked for.

    Args:
        chain: from `prepare`.
        title: the report's heading.
        reference: show the paper's figures for CelebA beside.

    Returns:
        The summary, also printed and written: columns `arm, metric, mean, low, high, n_seeds`; None
        for a preview.
    """
    if chain.config.preview:
        preview(chain)
        return None
    with chain.stage("Generating and labelling"):
        synthetic = {arm: _generate(chain, arm) for arm in ARMS}
    with chain.stage("Training the classifiers"):
        scores = _train(chain, synthetic)
    return tell(chain, title, synthetic, scores, reference=reference)


def _generate(chain: Chain, arm: str) -> pd.DataFrame:
    """Generate and label one synthetic arm: `synthetic/<arm>/<seed>.png` and its `metadata.csv`."""
    config = chain.config
    folder = config.out / "synthetic" / arm
    record = config.record()["guidance"] if arm == "minority" else None
    if record and record["distance"] == "features":
        record["network"] = chain.labeler.sha256
    table = generate(
        chain.denoiser,
        range(config.num_synthetic),
        folder,
        sampler=config.sampler,
        guidance=chain.guidance if arm == "minority" else None,
        settings=record,
        fabric=chain.fabric,
    )
    table = pseudo_label(table, chain.labeler, chain.attributes, fabric=chain.fabric)
    if chain.fabric.is_global_zero:
        _add_labels(folder / "metadata.csv", table.drop(columns="path"))
    return table


def _add_labels(path: Path, table: pd.DataFrame) -> None:
    """Write the labelled table over the standing one, whose other columns and rows stay."""
    found = pd.read_csv(path, dtype=str, keep_default_na=False)
    others = found.columns.difference(table.columns, sort=False)
    table = table.merge(found[["file_name", *others]], on="file_name", how="left")
    strangers = found[~found["file_name"].isin(table["file_name"])]
    write_csv(path, pd.concat([table.astype(object), strangers]) if len(strangers) else table)


def _train(chain: Chain, synthetic: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Fit each arm with each seed: real, and real merged with each synthetic set."""
    arms = {arm: merge(chain.table, table) for arm, table in synthetic.items()}
    return run_study(
        {"real": chain.table, **arms},
        chain.attributes,
        chain.fit_config,
        seeds=chain.config.study.seeds,
        out=chain.config.out,
        fabric=chain.fabric,
        cache=chain.config.out / "cache",
        skip_bad=chain.config.skip_bad,
    )
