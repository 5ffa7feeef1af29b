"""What a run works on, checked before any work is done: real images, models, the labels' policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from augment import LPIPS, Denoiser, DenoiserFeatures
from augment.metrics import Encoder, Preprocessing
from augment.train_classifier import noise_name
from classify import FitConfig, Images, attribute_columns, decode_tables, labelled_attributes
from classify.datasets import read_image
from labeling import Labeler, LabelPolicy, Predictor, load_labeler, pseudo_label
from recipes.chain.checks import check_format, check_quota, check_table
from recipes.chain.command.sources import FITTED, GENERATOR
from recipes.chain.draw import labelled_draw
from recipes.chain.encoders import load_encoder
from recipes.chain.labels.labelers import (
    OwnLabelers,
    head_of,
    labeler_of,
    labeler_source,
    load_labelers,
    parts_of,
    policy_of,
)
from recipes.chain.labels.prompts import Prompts, load_with_prompts
from recipes.chain.labels.trust import counts_by_split, tell_counts
from recipes.chain.room import check_room
from recipes.chain.run import Run
from recipes.chain.settings.distances import NO_FEATURES
from recipes.chain.settings.sets import SteeringConfig, SyntheticSet
from recipes.chain.settings.targets import plan_targets
from recipes.chain.settings.untrained_terms import check_untrained_terms, through_labeler

__all__ = ["Inputs", "LogProbability", "manifold_encoder", "prepare"]

LogProbability = Callable[[pd.DataFrame], NDArray[np.float64]]
"""Exact log-probability (nats) of each row's attributes, where the distribution is known."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the stages of a run share; every part has been checked."""

    table: pd.DataFrame
    """Real rows of all three splits, with `path`."""
    images: Images
    """The real images at the generator's size."""
    attributes: Sequence[str]
    """What is learned: those with a label somewhere."""
    source: str
    """What the images are, in words."""
    denoiser: Denoiser
    labeler: Predictor
    head: Labeler | None
    """A head on the generator's activations, where a set is steered by one."""
    judge: Predictor | None
    """A second labeler, which only checks what was steered."""
    policy: LabelPolicy
    """Makes the labeler's probabilities labels."""
    fit: FitConfig
    """The classifier's settings, image size and precision resolved."""
    run: Run
    log_probability: LogProbability | None = None
    prompts: Prompts | None = None
    """Prompts of a text-to-image generator, whose classes they are."""

    @property
    def train(self) -> pd.DataFrame:
        """The real train rows."""
        return self.table[self.table["split"] == "train"]

    def asks(self, settings: SyntheticSet) -> bool:
        """Whether each image of a set is asked to be something, by its guidance or its prompt."""
        return settings.asks or (settings.folder is None and self.prompts is not None)

    def steerer(self, settings: SteeringConfig) -> Labeler:
        """Whose log-odds a steered set climbs."""
        found = self.head if settings.by == "generator" else self.labeler
        assert isinstance(found, Labeler)  # checked before any work
        return found

    def wishes(self, settings: SyntheticSet) -> Mapping[str, int] | None:
        """What the images of a set are asked for, the quota's wishes if it says nothing; None for
        what is rare.
        """
        return settings.wishes or self.run.config.quota.wanted or None

    def steerable(self, settings: SyntheticSet) -> list[str]:
        """What the images of a set can be asked for: what is labelled, and known to who steers."""
        known = [name for name in self.attributes if name in self.labeler.attributes]
        if settings.steering is None:
            return known
        return [name for name in known if name in self.steerer(settings.steering).attributes]

    def labeler_steers(self, settings: SyntheticSet) -> bool:
        """Whether the labeler, or one that is part of it, steered the images that it labels."""
        steering = settings.steering
        return steering is not None and self.steerer(steering) in parts_of(self.labeler)

    def label(self, table: pd.DataFrame, *, doubtful: bool = False) -> pd.DataFrame:
        """The table with the labeler's labels and probabilities in place of its own; with
        `doubtful`, also of attributes whose labels cannot be trusted.
        """
        with self.run.doing("labelling images"):
            return pseudo_label(
                table,
                self.labeler,
                self.attributes,
                policy=self.policy.doubting({}) if doubtful else self.policy,
                read=read_image,
                fabric=self.run.fabric,
            )

    def judged(self, table: pd.DataFrame) -> pd.DataFrame | None:
        """The second labeler's labels of the same rows; None if there is none."""
        if self.judge is None:
            return None
        return pseudo_label(
            table, self.judge, self.attributes, read=read_image, fabric=self.run.fabric
        )


@dataclass(frozen=True, kw_only=True)
class _Models:
    """What a run is given besides its images, loaded and able to make its sets."""

    prompts: Prompts | None
    denoiser: Denoiser
    labelers: Mapping[str, Predictor]
    """By source, those that are not fitted by the run."""
    judge: Predictor | None

    @classmethod
    def of(cls, run: Run) -> _Models:
        config = run.config
        prompts = None if config.prompts is None else Prompts.read(config.prompts)
        denoiser = load_with_prompts(config.generator, prompts)
        labelers = load_labelers(config)
        _check_sets(run, denoiser, list(labelers.values()))
        if config.labels.policy not in ("card", "fit"):
            LabelPolicy.read(config.labels.policy)
        if config.admission.encoder is not None:
            load_encoder(config.admission.encoder)
        elif config.admission.manifold and config.labelers[0] not in FITTED:
            manifold_encoder(run, denoiser)
        judge = None if config.judge is None else load_labeler(config.judge)
        return cls(prompts=prompts, denoiser=denoiser, labelers=labelers, judge=judge)


def prepare(
    run: Run,
    read: Callable[[], pd.DataFrame],
    *,
    source: str,
    log_probability: LogProbability | None = None,
) -> Inputs:
    """Check everything that could stop the run before any work is done, and load the models.

    Args:
        run: the run; its folder is claimed here.
        read: makes the table of the real images; called when the models are known to be there.
        source: what the images are, for the card of a labeler trained on them.
        log_probability: of their attributes, where known.

    Raises:
        ValueError: an input that does not fit, or another run in the folder; one line.
        FileNotFoundError: a file that is missing.
    """
    config = run.config
    models = _Models.of(run)
    size = config.image_size or models.denoiser.image.size
    settings_of_fit = config.fit_at(size)  # says what they do not allow
    table, attributes, images = _real(run, read, models)
    if run.fabric.is_global_zero and not config.preview:
        run.claim()
    run.fabric.barrier()
    own = OwnLabelers(
        run=run,
        table=table,
        images=images,
        attributes=attributes,
        denoiser=models.denoiser,
        size=size,
        source=source,
    )
    with run.doing("getting the labeler ready"):
        labeler = labeler_of(own, models.labelers)
        steered = (made.is_steered_by("generator") for made in config.synthetic_sets.values())
        head = head_of(own, labeler) if any(steered) else None
    for made in config.synthetic_sets.values():  # a labeler that was trained just now
        check_untrained_terms(made, [labeler], models.denoiser.image.shape)
    policy = _judged(run, table, attributes, labeler)
    inputs = Inputs(
        run=run,
        table=table,
        images=images,
        attributes=attributes,
        source=source,
        denoiser=models.denoiser,
        labeler=labeler,
        head=head,
        judge=models.judge,
        policy=policy,
        fit=settings_of_fit,
        log_probability=log_probability,
        prompts=models.prompts,
    )
    for made in config.synthetic_sets.values():
        if made.steering is not None:  # says what cannot be asked for, before any image is made
            plan_targets(inputs.train, inputs.steerable(made), inputs.wishes(made))
    return inputs


def _judged(
    run: Run, table: pd.DataFrame, attributes: Sequence[str], labeler: Predictor
) -> LabelPolicy:
    """What the labeler's word is worth on the real images, where that is enough for the run."""
    if unknown := [name for name in attributes if name not in labeler.attributes]:
        run.note(
            f"The labeler does not know {', '.join(unknown)}: synthetic images have no label there."
        )
    with run.doing("judging the labeler"):
        policy = policy_of(run, table, attributes, labeler)
    given = [n for n in attributes if n in labeler.attributes and n not in policy.doubts]
    check_quota(run.config.quota, int((table["split"] == "train").sum()), given)
    _check_labels_suffice(run, policy)
    return policy


def _check_labels_suffice(run: Run, policy: LabelPolicy) -> None:
    """Refuse arms that would learn an attribute from synthetic images without a label of it."""
    alone = [name for name, arm in run.config.chosen_arms.items() if arm.real == "none"]
    if alone and policy.doubts:
        raise ValueError(
            f"arm {alone[0]} trains on no real image, and synthetic ones have no label of "
            f"{', '.join(policy.doubts)}; leave the arm out, choose other --attributes, or keep "
            "the labels by --labels.trust"
        )


def _real(
    run: Run, read: Callable[[], pd.DataFrame], models: _Models
) -> tuple[pd.DataFrame, list[str], Images]:
    """The run's labelled rows, what is learned of them, and the decoded images; all checked."""
    config, denoiser = run.config, models.denoiser
    known = [name for labeler in models.labelers.values() for name in labeler.attributes]
    with run.doing("reading the data"):
        table = read()
    attributes = labelled_attributes(table, config.attributes or attribute_columns(table))
    table = labelled_draw(table, attributes, config.num_real, config.num_val)
    if models.prompts is not None:
        models.prompts.check(attributes)
    check_table(table, attributes, known)
    check_room(config, len(table), denoiser)
    tell_counts(run, counts_by_split(table, attributes))
    if any(made.folder is None for made in config.synthetic_sets.values()):
        check_format(table, denoiser, config.generator)
    every_one_is_ready = len(models.labelers) == len(config.labelers)
    labelled = [name for name in attributes if name in known] if every_one_is_ready else attributes
    check_quota(config.quota, int((table["split"] == "train").sum()), labelled)
    for made in config.synthetic_sets.values():
        if made.steering is not None and made.wishes:
            plan_targets(table, labelled, made.wishes)  # says what cannot be asked for
    run.check_claim()
    with run.doing("decoding the images"), run.fabric.rank_zero_first():
        if run.fabric.is_global_zero and not config.preview:
            run.hold()
        images = decode_tables(
            [table],
            denoiser.image.size,
            skip_bad=config.skip_bad,
            cache=None if config.preview else run.cache,
        )
    table = images.usable(table)
    check_table(table, attributes, known)  # without the images that were left out
    return table, attributes, images


def manifold_encoder(run: Run, denoiser: Denoiser) -> Encoder:
    """Whose features the manifold of the real images is judged in.

    Raises:
        ValueError: the labeler has no features.
    """
    wanted = run.config.admission.encoder
    if wanted is not None:
        return load_encoder(wanted)
    if run.config.labelers[0] == GENERATOR:
        preprocessing = Preprocessing(size=denoiser.image.size, mean=[0.5] * 3, std=[0.5] * 3)
        return Encoder.of(DenoiserFeatures(denoiser), preprocessing, name="generator")
    source = labeler_source(run.config)
    try:
        return load_encoder(source)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"admission.manifold needs features, which the labeler {source} does not give "
            f"({error}); name another network by admission.encoder"
        ) from error


def _check_sets(run: Run, denoiser: Denoiser, labelers: Sequence[Predictor]) -> None:
    """Refuse a set before any work that the models could not make."""
    for name, made in run.config.synthetic_sets.items():
        if made.folder is not None:
            if not made.folder.is_dir():
                raise FileNotFoundError(
                    f"sets.{name}.folder {made.folder} is no folder; give a folder of images"
                )
            continue
        start = None if made.start is None else made.start.images
        if start is not None and not start.exists():
            raise FileNotFoundError(
                f"sets.{name}.start.images {start} is missing; give an image or a folder of images"
            )
        denoiser.schedule.respaced(made.sampler.steps)  # says what is allowed
        if made.sampler.label is not None:
            denoiser.check_labels(torch.tensor([made.sampler.label]))
        has_network = len(run.config.labelers) == 1 and all(
            isinstance(found, Labeler) for found in labelers
        )
        if made.needs_gradients and not has_network:
            raise ValueError(
                f"the set {name} is guided by the labeler {' '.join(run.config.labelers)}, which "
                f"has no gradients; give {_instead(made)}one labeler with a torch network, or "
                "other arms"
            )
        if made.has_trained_terms:
            _check_terms(name, made, denoiser)
        check_untrained_terms(made, labelers, denoiser.image.shape)
        if made.guidance is None:
            continue
        if made.guidance.distance == "lpips":
            LPIPS()  # says how to get its weights
        elif made.guidance.distance == "features" and (
            not has_network or GENERATOR in run.config.labelers
        ):
            raise ValueError(NO_FEATURES)


def _instead(made: SyntheticSet) -> str:
    """What does without the labeler's gradients, where that is all that needs them."""
    return "" if through_labeler(made) else "steering.by generator, "


def _check_terms(name: str, made: SyntheticSet, denoiser: Denoiser) -> None:
    """Refuse guidances whose classifier could not be trained."""
    noise_name(denoiser.schedule)  # says which are known
    minority, low_density = made.minority_class, made.low_density
    if minority is not None and minority.distance == "lpips":
        LPIPS("vgg")  # says how to get its weights
    others = None if low_density is None else low_density.others
    if others is not None and not others.is_dir():
        raise FileNotFoundError(
            f"sets.{name}.low_density.others {others} is no folder; give a folder of images"
        )
