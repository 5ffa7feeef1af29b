"""A run's labelers, and the policy that makes their probabilities labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from augment import Denoiser, Selection
from augment.selection import parse_wish
from classify import Images
from classify.datasets import read_image
from labeling import (
    Combination,
    Labeler,
    LabelPolicy,
    Predictor,
    label_probabilities,
    load_labeler,
)
from recipes.chain.command.sources import FITTED, GENERATOR
from recipes.chain.labels.labeler import train_labeler
from recipes.chain.labels.probe import generator_labeler
from recipes.chain.labels.trust import trusted
from recipes.chain.run import Run
from recipes.chain.settings.study import RunConfig

__all__ = [
    "head_of",
    "labeler_of",
    "labeler_source",
    "load_labelers",
    "policy_of",
    "softened",
    "unmet",
]

_POLICY = "policy.json"


def load_labelers(config: RunConfig) -> dict[str, Predictor]:
    """Those that stand ready, by source; one that is yet to be trained is not among them."""
    return {source: load_labeler(source) for source in config.labelers if source not in FITTED}


def labeler_source(config: RunConfig, run: Path | None = None) -> str:
    """Where the first labeler lies; a fitted one in the run's folder, `out` if left out."""
    first = config.labelers[0]
    return str((run or config.out) / "labeler") if first in FITTED else first


def labeler_of(
    run: Run,
    ready: Mapping[str, Predictor],
    table: pd.DataFrame,
    images: Images,
    attributes: Sequence[str],
    denoiser: Denoiser,
    *,
    size: int,
    source: str,
) -> Predictor:
    """The run's labelers as one, in the order asked for; what is to be fitted is fitted.

    Args:
        run: the run.
        ready: of `load_labelers`.
        table: real rows.
        images: theirs, at the generator's size.
        attributes: what a fitted one learns.
        denoiser: the generator.
        size: side of a trained one's input in pixels.
        source: what the images are, for its card.
    """

    def fitted(name: str) -> Predictor:
        run.say("Fitting the labeler ...")
        if name == GENERATOR:
            return _head(run, table, images, attributes, denoiser, "labeler", source)
        with _folder_of(run, "labeler") as folder:
            labeler = _trained(run, table, attributes, folder, size, source)
            run.fabric.barrier()  # all have read it
        return labeler

    parts = [ready[name] if name in ready else fitted(name) for name in run.config.labelers]
    return parts[0] if len(parts) == 1 else Combination(parts)


def head_of(
    run: Run,
    labeler: Predictor,
    table: pd.DataFrame,
    images: Images,
    attributes: Sequence[str],
    denoiser: Denoiser,
    *,
    source: str,
) -> Labeler:
    """The head on the generator's activations that steers: the labeler where it is one, else one
    that is fitted as that would be, and labels nothing.
    """
    if list(run.config.labelers) == [GENERATOR]:
        assert isinstance(labeler, Labeler)
        return labeler
    run.say("Fitting the head that steers ...")
    return _head(run, table, images, attributes, denoiser, "steering", source)


def _head(
    run: Run,
    table: pd.DataFrame,
    images: Images,
    attributes: Sequence[str],
    denoiser: Denoiser,
    name: str,
    source: str,
) -> Labeler:
    with _folder_of(run, name) as folder:
        head = generator_labeler(
            denoiser,
            table,
            images,
            attributes,
            folder,
            source=source,
            fabric=run.fabric,
            mirror=run.config.train.augmentation.flip,
        )
        run.fabric.barrier()  # all have read it
    return head


@contextmanager
def _folder_of(run: Run, name: str) -> Iterator[Path]:
    """In the run's folder; for a preview one that does not stay."""
    if not run.config.preview:
        yield run.out / name
        return
    with TemporaryDirectory() as scratch:
        yield Path(run.fabric.broadcast(scratch))


def _trained(
    run: Run,
    table: pd.DataFrame,
    attributes: Sequence[str],
    folder: Path,
    size: int,
    source: str,
) -> Predictor:
    """A ResNet-34; for a preview one that is trained briefly."""
    config = replace(run.config.train, architecture="resnet34", weights=None, image_size=size)
    if run.config.preview:
        config = replace(config, epochs=1, rounds=1)
    return train_labeler(
        table,
        attributes,
        folder,
        config=config,
        source=f"the real train split of {source}",
        licence="as the data's",
        command="--labeler train",
        fabric=run.fabric,
        cache=None if run.config.preview else run.cache,
    )


def policy_of(
    run: Run, table: pd.DataFrame, attributes: Sequence[str], labeler: Predictor
) -> LabelPolicy:
    """The policy asked for: the card's thresholds, a file's, or one fitted on the real val rows,
    which is left in the run's folder. What these rows speak against stays empty.

    Raises:
        ValueError: nothing is left, or the policy is another labeler's.
    """
    val = table[table["split"] == "val"]
    known = [name for name in attributes if name in labeler.attributes]
    columns = [list(labeler.attributes).index(name) for name in known]
    probabilities = label_probabilities(val, labeler, read=read_image, fabric=run.fabric)
    probabilities = probabilities[:, columns]
    policy = _policy(run, val, probabilities, known, labeler).completed(labeler)
    return trusted(run, policy, val, probabilities, known)


def _policy(
    run: Run,
    val: pd.DataFrame,
    probabilities: NDArray[np.float32],
    known: Sequence[str],
    labeler: Predictor,
) -> LabelPolicy:
    named, path = run.config.labels.policy, run.out / _POLICY
    if named == "card":
        return LabelPolicy.of_card(labeler)
    if named != "fit":
        return LabelPolicy.read(named)
    if path.is_file():  # of this run's earlier session
        return LabelPolicy.read(path)
    policy = LabelPolicy.fit(
        val, probabilities, known, config=run.config.labels.wanted, labeler=labeler.sha256
    )
    if run.fabric.is_global_zero and not run.config.preview:
        policy.write(path)
    run.fabric.barrier()
    return policy


def softened(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The table of `pseudo_label`, probabilities in place of 1 and 0; what is empty stays so."""
    p = {name: table[f"p_{name}"].where(table[name].notna()) for name in attributes}
    return table.assign(**p)


def unmet(selection: Selection, table: pd.DataFrame, policy: LabelPolicy) -> list[str]:
    """The wishes that were not met, how far they are, and what the policy made of the images."""
    report = selection.report
    short = report[(report["wish"] != "all") & (report["got"] < report["wanted"])]
    return [
        f"{wish}, {got} of {wanted} ("
        + "; ".join(_decided(table, *pair, policy) for pair in parse_wish(wish).items())
        + ")"
        for wish, got, wanted in short[["wish", "got", "wanted"]].to_numpy()
    ]


def _decided(table: pd.DataFrame, name: str, value: int, policy: LabelPolicy) -> str:
    """How many of the images got a value of an attribute, how many none, and how near they came."""
    labels, p, rule = table[name], table[f"p_{name}"], policy.rules[name]
    has, none = int((labels == value).sum()), int(labels.isna().sum())
    side, limit = ("from {:.2f} up", rule.present) if value else ("below {:.2f}", rule.absent)
    takes = "the policy never gives it" if limit is None else f"it takes p {side.format(limit)}"
    reached = f"highest {p.max():.2f}" if value else f"lowest {p.min():.2f}"
    return (
        f"{has or 'none'} of {len(table)} labelled {name}={value}, abstained {none}; {takes}, "
        f"{reached}"
    )
