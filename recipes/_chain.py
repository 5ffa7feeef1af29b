"""The chain every recipe runs: generate, label, merge, train, compare, report.

Each stage leaves files under `out` and picks up what it finds there, so the same command continues
a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from augment import generate, merge, refuse_leaks
from classify import Arm, run_study
from recipes._controls import control
from recipes._dataset_card import dataset_card, write_card
from recipes._files import write_csv
from recipes._fill import Filled, fill
from recipes._labels import as_trained
from recipes._prepare import ARMS, Chain, launch, prepare
from recipes._preview import preview
from recipes._results import tell

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
    with chain.stage("Generating, labelling and judging"):
        filled = {arm: _fill(chain, arm) for arm in ARMS}
    with chain.stage("Training the classifiers"):
        scores = _train(chain, {arm: found.selection.table for arm, found in filled.items()})
    return tell(chain, title, filled, scores, reference=reference)


def _fill(chain: Chain, arm: str) -> Filled:
    """Generate, label and judge one synthetic arm until its quota is met.

    Leaves `synthetic/<arm>/<seed>.png`, their `metadata.csv` and the card of both, `README.md`;
    rejected images included.
    """
    config = chain.config
    folder = config.out / "synthetic" / arm
    filled = fill(
        lambda seeds: _generate(chain, arm, seeds, folder),
        chain.label,
        chain.judge,
        config.quota,
        n_real=int((chain.table["split"] == "train").sum()),
        limit=config.limit or config.num_synthetic,
        size=config.num_synthetic,
    )
    if chain.fabric.is_global_zero:
        _add_labels(folder / "metadata.csv", filled.table.drop(columns="path"))
        write_card(folder, dataset_card(chain, arm, filled))
    if not config.allow_leak:
        refuse_leaks(filled.table)
    if filled.selection.table.empty:
        raise ValueError(
            f"none of the {len(filled.table)} {arm} images was taken; see the column admission of "
            f"{folder / 'metadata.csv'}, raise --limit or ask for less by --quota"
        )
    if short := filled.short:
        chain.note(
            f"The quota of {arm} is not met by {len(filled.table):,} images: {', '.join(short)}. "
            "A larger --limit, with another --out, makes more."
        )
    return filled


def _generate(chain: Chain, arm: str, seeds: Sequence[int], folder: Path) -> pd.DataFrame:
    config = chain.config
    record = config.record()["guidance"] if arm == "minority" else None
    if record and record["distance"] == "features":
        record["network"] = chain.labeler.sha256
    return generate(
        chain.denoiser,
        seeds,
        folder,
        sampler=config.sampler,
        guidance=chain.guidance if arm == "minority" else None,
        settings=record,
        fabric=chain.fabric,
    )


def _add_labels(path: Path, table: pd.DataFrame) -> None:
    """Write the labelled table over the standing one, whose other columns and rows stay."""
    found = pd.read_csv(path, dtype=str, keep_default_na=False)
    others = found.columns.difference(table.columns, sort=False)
    table = table.merge(found[["file_name", *others]], on="file_name", how="left")
    strangers = found[~found["file_name"].isin(table["file_name"])]
    write_csv(path, pd.concat([table.astype(object), strangers]) if len(strangers) else table)


def _train(chain: Chain, synthetic: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Fit each arm with each seed: real, it merged with each synthetic set, and the controls."""
    arms: dict[str, pd.DataFrame | Arm] = {"real": chain.table}
    for arm, table in synthetic.items():
        arms[arm] = merge(chain.table, as_trained(chain.config, table, chain.attributes))
    count = len(synthetic["minority"])
    arms |= {name: control(chain, name, count) for name in chain.config.controls}
    return run_study(
        arms,
        chain.attributes,
        chain.fit_config,
        seeds=chain.config.study.seeds,
        out=chain.config.out,
        fabric=chain.fabric,
        cache=chain.config.out / "cache",
        skip_bad=chain.config.skip_bad,
    )
