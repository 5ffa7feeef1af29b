"""A run's labelers, and the policy that makes their probabilities labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from lightning.fabric import Fabric

from labeling import Combination, LabelPolicy, Predictor, label_probabilities, load_labeler
from recipes._labeler import train_labeler
from recipes._settings import RunConfig

__all__ = [
    "TRAIN",
    "as_trained",
    "given_policy",
    "joined",
    "label_policy",
    "labeler_source",
    "load_labelers",
    "softened",
    "train_in_run",
]

TRAIN = "train"
"""The labeler that a run trains first."""
_POLICY = "policy.json"


def given_policy(config: RunConfig) -> LabelPolicy | None:
    """The policy of the file that was named, if one was."""
    named = config.labels.policy
    return None if named in ("card", "fit") else LabelPolicy.read(named)


def load_labelers(config: RunConfig) -> dict[str, Predictor]:
    """Those that stand ready, by source."""
    return {src: load_labeler(src) for src in config.labelers if src != TRAIN}


def joined(config: RunConfig, labelers: Mapping[str, Predictor]) -> Predictor:
    """All of them as one, in the order asked for."""
    parts = [labelers[src] for src in config.labelers]
    return parts[0] if len(parts) == 1 else Combination(parts)


def labeler_source(config: RunConfig, run: Path | None = None) -> str:
    """Where the first labeler lies; a trained one in the run's folder, `out` if left out."""
    first = config.labelers[0]
    return str((run or config.out) / "labeler") if first == TRAIN else first


def train_in_run(
    config: RunConfig,
    table: pd.DataFrame,
    attributes: Sequence[str],
    fabric: Fabric,
    *,
    size: int,
    source: str,
) -> Predictor:
    """Train the run's labeler in `out`; a preview's briefly, in a folder that does not stay."""
    settings = replace(config.train, architecture="resnet34", image_size=size)
    if config.preview:
        settings = replace(settings, epochs=1, rounds=1)
    if fabric.is_global_zero:
        print("Training the labeler ...", flush=True)
    with TemporaryDirectory() as scratch:
        folder = Path(fabric.broadcast(scratch)) if config.preview else config.out / "labeler"
        labeler = train_labeler(
            table,
            attributes,
            folder,
            config=settings,
            source=f"the real train split of {source}",
            licence="as the data's",
            command="--labeler train",
            fabric=fabric,
        )
        fabric.barrier()  # all have read it
    return labeler


def label_policy(
    config: RunConfig,
    table: pd.DataFrame,
    attributes: Sequence[str],
    labeler: Predictor,
    given: LabelPolicy | None,
    fabric: Fabric,
) -> LabelPolicy | None:
    """The policy asked for: none, that of `given_policy`, or one fitted on the real val rows and
    left in `out`.
    """
    if given is not None:
        given.check_labeler(labeler.sha256)
    if config.labels.policy != "fit":
        return given
    path = config.out / _POLICY
    if path.is_file():  # of this run's earlier session
        return LabelPolicy.read(path)
    val = table[table["split"] == "val"]
    known = [name for name in attributes if name in labeler.attributes]
    columns = [list(labeler.attributes).index(name) for name in known]
    policy = LabelPolicy.fit(
        val,
        label_probabilities(val, labeler, fabric=fabric)[:, columns],
        known,
        config=config.labels.wanted,
        labeler=labeler.sha256,
    )
    if fabric.is_global_zero and not config.preview:
        policy.write(path)
    fabric.barrier()
    return policy


def as_trained(
    config: RunConfig, labelled: pd.DataFrame, attributes: Sequence[str]
) -> pd.DataFrame:
    """A table of `pseudo_label` as classifiers train on it; files hold hard labels always."""
    return softened(labelled, attributes) if config.labels.soft else labelled


def softened(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The table of `pseudo_label`, probabilities in place of 1 and 0; what is empty stays so."""
    p = {name: table[f"p_{name}"].where(table[name].notna()) for name in attributes}
    return table.assign(**p)
