"""A run's labelers, and the policy that makes their probabilities labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from classify.datasets import read_image
from labeling import Combination, LabelPolicy, Predictor, label_probabilities, load_labeler
from recipes.chain.labeler import train_labeler
from recipes.chain.run import Run
from recipes.chain.settings import RunConfig

__all__ = ["TRAIN", "labeler_of", "labeler_source", "load_labelers", "policy_of", "softened"]

TRAIN = "train"
"""The labeler that a run trains first."""
_POLICY = "policy.json"


def load_labelers(config: RunConfig) -> dict[str, Predictor]:
    """Those that stand ready, by source; one that is yet to be trained is not among them."""
    return {source: load_labeler(source) for source in config.labelers if source != TRAIN}


def labeler_source(config: RunConfig, run: Path | None = None) -> str:
    """Where the first labeler lies; a trained one in the run's folder, `out` if left out."""
    first = config.labelers[0]
    return str((run or config.out) / "labeler") if first == TRAIN else first


def labeler_of(
    run: Run,
    ready: Mapping[str, Predictor],
    table: pd.DataFrame,
    attributes: Sequence[str],
    *,
    size: int,
    source: str,
) -> Predictor:
    """The run's labelers as one, in the order asked for; what is to be trained is trained.

    Args:
        run: the run.
        ready: of `load_labelers`.
        table: real rows.
        attributes: what a trained one learns.
        size: side of its input in pixels.
        source: what the images are, for its card.
    """
    parts = [
        _trained(run, table, attributes, size, source) if name == TRAIN else ready[name]
        for name in run.config.labelers
    ]
    return parts[0] if len(parts) == 1 else Combination(parts)


def _trained(
    run: Run, table: pd.DataFrame, attributes: Sequence[str], size: int, source: str
) -> Predictor:
    """Trained in the run's folder; for a preview briefly, in one that does not stay."""
    config = replace(run.config.train, architecture="resnet34", image_size=size)
    if run.config.preview:
        config = replace(config, epochs=1, rounds=1)
    run.say("Training the labeler ...")
    with TemporaryDirectory() as scratch:
        folder = Path(run.fabric.broadcast(scratch)) if run.config.preview else run.out / "labeler"
        labeler = train_labeler(
            table,
            attributes,
            folder,
            config=config,
            source=f"the real train split of {source}",
            licence="as the data's",
            command="--labeler train",
            fabric=run.fabric,
        )
        run.fabric.barrier()  # all have read it
    return labeler


def policy_of(
    run: Run, table: pd.DataFrame, attributes: Sequence[str], labeler: Predictor
) -> LabelPolicy:
    """The policy asked for: the card's thresholds, a file's, or one fitted on the real val rows,
    which is left in the run's folder.
    """
    named, path = run.config.labels.policy, run.out / _POLICY
    if named == "card":
        return LabelPolicy.of_card(labeler)
    if named != "fit":
        policy = LabelPolicy.read(named)
        policy.check_labeler(labeler.sha256)
        return policy
    if path.is_file():  # of this run's earlier session
        return LabelPolicy.read(path)
    val = table[table["split"] == "val"]
    known = [name for name in attributes if name in labeler.attributes]
    columns = [list(labeler.attributes).index(name) for name in known]
    probabilities = label_probabilities(val, labeler, read=read_image, fabric=run.fabric)
    policy = LabelPolicy.fit(
        val,
        probabilities[:, columns],
        known,
        config=run.config.labels.wanted,
        labeler=labeler.sha256,
    )
    if run.fabric.is_global_zero and not run.config.preview:
        policy.write(path)
    run.fabric.barrier()
    return policy


def softened(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The table of `pseudo_label`, probabilities in place of 1 and 0; what is empty stays so."""
    p = {name: table[f"p_{name}"].where(table[name].notna()) for name in attributes}
    return table.assign(**p)
