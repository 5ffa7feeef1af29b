"""A run's labelers, and the policy that makes their probabilities labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from recipes.chain.command.sources import FITTED, GENERATOR, TRAIN
from recipes.chain.labels.labeler import train_labeler
from recipes.chain.labels.probe import generator_labeler
from recipes.chain.labels.trust import trusted
from recipes.chain.run import Run
from recipes.chain.settings.study import RunConfig

__all__ = [
    "OwnLabelers",
    "head_of",
    "labeler_of",
    "labeler_source",
    "load_labelers",
    "parts_of",
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


@dataclass(frozen=True, kw_only=True)
class OwnLabelers:
    """The labelers that a run fits on its own rows, each in a folder of its name."""

    run: Run
    table: pd.DataFrame
    """Real rows."""
    images: Images
    """Theirs, at the generator's size."""
    attributes: Sequence[str]
    """What is learned."""
    denoiser: Denoiser
    """The generator."""
    size: int
    """Side of a network's input in pixels."""
    source: str
    """What the images are, for the card."""

    def head(self, name: str) -> Labeler:
        """A linear head on the generator's activations."""
        with self._folder(name) as folder:
            return generator_labeler(
                self.denoiser,
                self.table,
                self.images,
                self.attributes,
                folder,
                source=self.source,
                fabric=self.run.fabric,
                mirror=self.run.config.train.augmentation.flip,
            )

    def network(self, name: str) -> Predictor:
        """A ResNet-34; for a preview one that is trained briefly."""
        run = self.run
        config = replace(
            run.config.train, architecture="resnet34", weights=None, image_size=self.size
        )
        if run.config.preview:
            config = replace(config, epochs=1, rounds=1)
        with self._folder(name) as folder:
            return train_labeler(
                self.table,
                self.attributes,
                folder,
                config=config,
                source=f"the real train split of {self.source}",
                licence="as the data's",
                command="--labeler train",
                fabric=run.fabric,
                cache=None if run.config.preview else run.cache,
            )

    @contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        """In the run's folder; for a preview one that stays until all processes have read it."""
        run = self.run
        if not run.config.preview:
            yield run.out / name
            return
        with TemporaryDirectory() as scratch:
            yield Path(run.fabric.broadcast(scratch))
            run.fabric.barrier()


def labeler_of(own: OwnLabelers, ready: Mapping[str, Predictor]) -> Predictor:
    """The run's labelers as one, in the order asked for; what is to be fitted is fitted.

    Args:
        own: those that are.
        ready: of `load_labelers`.
    """

    def fitted(source: str) -> Predictor:
        own.run.say("Fitting the labeler ...")
        return own.network("labeler") if source == TRAIN else own.head("labeler")

    names = own.run.config.labelers
    parts = [ready[name] if name in ready else fitted(name) for name in names]
    return parts[0] if len(parts) == 1 else Combination(parts)


def head_of(own: OwnLabelers, labeler: Predictor) -> Labeler:
    """The head on the generator's activations that steers: the run's own labeler where that is one,
    alone or among others, else one that is fitted as that would be, and labels nothing.
    """
    names = list(own.run.config.labelers)
    if GENERATOR in names:
        head = parts_of(labeler)[names.index(GENERATOR)]
        assert isinstance(head, Labeler)
        return head
    own.run.say("Fitting the head that steers ...")
    return own.head("steering/head")  # one level further down than a run's labeler is looked for


def parts_of(labeler: Predictor) -> Sequence[Predictor]:
    """The labelers that a run's labeler is made of."""
    return labeler.parts if isinstance(labeler, Combination) else (labeler,)


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
