"""What a run needs, checked before any work is done: devices, images, models, settings, folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from augment import LPIPS, Denoiser, FeatureDistance, SelfGuidance, load_denoiser
from augment.distance import NAMED, Distance
from augment.metrics.encoder import Encoder
from augment.metrics.encoders import load_encoder
from classify import (
    FitConfig,
    Images,
    attribute_columns,
    decode_tables,
    labelled_attributes,
)
from labeling import Labeler, LabelPolicy, Predictor, pseudo_label
from recipes.chain.admission import Judge
from recipes._check_data import check_fit, check_quota, check_table
from recipes._claim import check_claim, claim
from recipes._labels import (
    TRAIN,
    given_policy,
    joined,
    label_policy,
    labeler_source,
    load_labelers,
    train_in_run,
)
from recipes._settings import DistanceName, RunConfig

__all__ = ["ARMS", "Chain", "LogProbability", "launch", "named_distance", "prepare"]

ARMS = ("plain", "minority")
"""The synthetic arms: ordinary ancestral samples, and self-guided ones of the same seeds."""

_NO_FEATURES = (
    "distance features needs one labeler with a torch network, which an .onnx file and several "
    "labelers are not; give another labeler or distance"
)

LogProbability = Callable[[pd.DataFrame], NDArray[np.float64]]
"""Exact log-probability (nats) of each row's attributes, where the distribution is known."""


@dataclass(kw_only=True)
class Chain:
    """What the stages share; every part of it has been checked."""

    config: RunConfig
    fabric: Fabric
    table: pd.DataFrame
    """Real rows of all three splits, with `path`."""
    attributes: Sequence[str]
    """What is learned: those with a label somewhere."""
    denoiser: Denoiser
    labeler: Predictor
    policy: LabelPolicy | None
    """Makes the labeler's probabilities labels; None for the thresholds on its card."""
    judge: Judge
    """Of generated images; it has seen the real ones, and leaves it to the run to stop at leaks."""
    log_probability: LogProbability | None = None
    notes: list[str] = field(default_factory=list)
    """What the report should say besides the figures; a sentence each."""
    cautions: list[str] = field(default_factory=list)
    """Why its verdict should not be trusted; a sentence each."""

    @property
    def fit_config(self) -> FitConfig:
        """The classifier's, on the generator's image size if no other was asked for."""
        size = self.config.image_size or self.denoiser.image.size
        return replace(self.config.train, image_size=size, precision=self.config.precision)

    @property
    def guidance(self) -> SelfGuidance:
        """The minority arm's."""
        settings = self.config.guidance
        return settings.with_distance(named_distance(settings.distance, self.labeler))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage, and note how long it took."""
        self.say(f"{name} ...")
        started = time.perf_counter()
        yield
        self.notes.append(f"{name}: {time.perf_counter() - started:.0f} s in this session.")

    def label(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the labeler's labels and probabilities in place of its own."""
        return pseudo_label(
            table, self.labeler, self.attributes, policy=self.policy, fabric=self.fabric
        )

    def caution(self, text: str) -> None:
        """Print it, and put it beside the report's verdict."""
        self.cautions.append(text)
        self.say(f"caution: {text}")

    def note(self, text: str) -> None:
        """Print it and put it into the report."""
        self.notes.append(text)
        self.say(text)

    def say(self, text: str) -> None:
        """Print once, however many processes there are."""
        if self.fabric.is_global_zero:
            print(text, flush=True)


def launch(config: RunConfig) -> Fabric:
    """Lightning Fabric on the devices asked for, launched; refused where another run stands."""
    if not config.preview:
        check_claim(config)
    try:
        fabric = Fabric(
            devices=config.devices, num_nodes=config.num_nodes, precision=config.precision
        )
    except TypeError as error:  # Lightning's, for a word that is no number
        raise ValueError(
            f"devices is {config.devices!r}; give auto or a number of devices"
        ) from error
    fabric.launch()
    return fabric


def prepare(
    config: RunConfig,
    read: Callable[[], pd.DataFrame],
    fabric: Fabric,
    *,
    source: str,
    log_probability: LogProbability | None = None,
) -> Chain:
    """Check everything that could stop the run before any work is done, and load the models.

    Args:
        config: the settings.
        read: makes the table of the real images; called when the models are known to be there.
        fabric: launched.
        source: what the images are, for the card of a labeler trained on them.
        log_probability: of their attributes, where known.

    Raises:
        ValueError: an input that does not fit, or another run in `out`; one line.
        FileNotFoundError: a file that is missing.
    """
    denoiser = load_denoiser(config.generator)
    if config.sampler.steps > len(denoiser.schedule):
        denoiser.schedule.respaced(config.sampler.steps)  # says what is allowed
    if config.sampler.label is not None:
        denoiser.check_labels(torch.tensor([config.sampler.label]))
    given, labelers = given_policy(config), load_labelers(config)
    encoder = _encoder(config)
    _check_distance(config, labelers)
    table = read()
    attributes = labelled_attributes(table, config.attributes or attribute_columns(table))
    check_table(table, attributes, labelers)
    check_fit(table, denoiser, config.generator)
    with fabric.rank_zero_first():
        images = decode_tables([table], denoiser.image.size, skip_bad=config.skip_bad)
        table = images.usable(table)
        check_table(table, attributes, labelers)
        all_known = TRAIN in config.labelers
        check_quota(config.quota, table, attributes, None if all_known else labelers)
        if not config.preview:
            claim(config)
    if TRAIN in config.labelers:
        size = config.image_size or denoiser.image.size
        labelers[TRAIN] = train_in_run(config, table, attributes, fabric, size=size, source=source)
    labeler = joined(config, labelers)
    chain = Chain(
        config=config,
        fabric=fabric,
        table=table,
        attributes=attributes,
        denoiser=denoiser,
        labeler=labeler,
        policy=label_policy(config, table, attributes, labeler, given, fabric),
        judge=_judge(config, table, images, encoder, fabric),
        log_probability=log_probability,
    )
    if unknown := [name for name in attributes if name not in labeler.attributes]:
        chain.note(
            f"The labeler does not know {', '.join(unknown)}: synthetic images have no label there."
        )
    return chain


def _encoder(config: RunConfig) -> Encoder | None:
    """Whose features the manifold is judged in; None without, and for a labeler yet to train."""
    wanted = config.admission
    if wanted.encoder is not None:
        return load_encoder(wanted.encoder)
    if wanted.manifold is None or config.labelers[0] == TRAIN:
        return None
    source = labeler_source(config)
    try:
        return load_encoder(source)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"admission.manifold needs features, which the labeler {source} does not give "
            f"({error}); name another network by admission.encoder"
        ) from error


def _judge(
    config: RunConfig, table: pd.DataFrame, images: Images, encoder: Encoder | None, fabric: Fabric
) -> Judge:
    """Of generated images, by the manifold of the real ones too if that was asked for."""
    k = config.admission.manifold
    if k is None or config.preview:  # a preview judges nothing
        return Judge(table, images, allow_leak=True)
    encoder = encoder or load_encoder(labeler_source(config))
    return Judge(table, images, features=batched(encoder.to(fabric.device)), k=k, allow_leak=True)


def _check_distance(config: RunConfig, labelers: Mapping[str, Predictor]) -> None:
    """Refuse before any work a distance that the minority arm could not be guided by."""
    if config.guidance.distance == "lpips":
        LPIPS()  # says how to get its weights
    elif config.guidance.distance == "features":
        alone = len(config.labelers) == 1
        if not alone or not all(isinstance(found, Labeler) for found in labelers.values()):
            raise ValueError(_NO_FEATURES)


def named_distance(name: DistanceName, labeler: Predictor) -> Distance:
    """The distance that a setting names; `features` are the labeler's.

    Raises:
        ValueError: `features` of a labeler that has no gradients.
    """
    if name == "features":
        if not isinstance(labeler, Labeler):
            raise ValueError(_NO_FEATURES)
        return FeatureDistance(labeler.network, preprocess=labeler.preprocess)
    return NAMED[name]()
