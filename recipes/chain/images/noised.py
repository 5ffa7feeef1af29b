"""The classifiers of noised images that sets ask for, trained on the run's own rows.

They lie under `<out>/noised/`, each in a folder named by what it follows from, so that sets which
differ in strength alone share one, and so that a stopped run goes on with what stands there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from numpy.typing import NDArray
from torch import Tensor

from augment import (
    ClassifierGuidance,
    Denoiser,
    DenoiserFeatures,
    generate,
    load_noised_classifier,
)
from augment.guidance import ClassifierOfNoised, Guidance, HardnessAscent, PushOfClass
from augment.images import ImageFiles, Pixels, pixels_sha256
from augment.metrics import Hardness
from augment.minority_score import minority_classes, score_files
from augment.train_classifier import ClassifierNetworkConfig, noise_name, train_classifier
from classify.datasets import load_images, read_image
from classify.files import done_once, write_text
from classify.trainer import alone
from recipes.chain.command.values import plain
from recipes.chain.inputs import Inputs
from recipes.chain.settings.classifier_terms import (
    AttributeBitsConfig,
    LowDensityConfig,
    MinorityClassConfig,
    TrainedConfig,
)
from recipes.chain.settings.distances import score_distance
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.targets import Plan, plan_bits
from recipes.chain.training import class_numbers, files_sha256

__all__ = ["bits_of", "classifier_terms", "hardness_of", "minority_labels"]

_FIRST_SAMPLE = 10**9
"""Seed of the first ordinary sample that a discriminator learns; no set reaches it."""
_BATCH = 256

Examples = tuple[Sequence[str], Mapping[str, Sequence[str]]]
"""Paths, and what is told of them: head -> the name of each one's class."""


def classifier_terms(inputs: Inputs, settings: SyntheticSet) -> list[Guidance]:
    """A set's guidances by classifiers of noised images, which are trained here if they are not.

    Raises:
        ValueError: a classifier that the run's rows cannot teach; one line.
    """
    terms: list[Guidance] = []
    if (minority := settings.minority_class) is not None:
        classifier, target = _minority(inputs, minority), minority.classes - 1
        terms.append(ClassifierGuidance(classifier=classifier, target=target, scale=minority.scale))
    if settings.low_density is not None:
        terms += _low_density(inputs, settings.low_density)
    if (bits := settings.attribute_bits) is not None:
        plan = bits_of(inputs, bits)
        terms.append(
            ClassifierGuidance(classifier=_attributes(inputs, bits), target=plan, scale=bits.scale)
        )
    return terms


def bits_of(inputs: Inputs, config: AttributeBitsConfig) -> Plan:
    """What each image is asked to be: a value of each attribute, by its seed."""
    return plan_bits(_asked(inputs, config))


def _minority(inputs: Inputs, config: MinorityClassConfig) -> ClassifierOfNoised:
    train, denoiser = inputs.train, inputs.denoiser
    known = {name: getattr(config, name) for name in ("classes", "class_column", "distance")}

    def examples(folder: Path) -> Examples:
        column = None if denoiser.classes is None else config.class_column
        own = class_numbers(train, column, denoiser, "minority_class.class_column")
        scores = _scores(inputs, config, folder / "scores.csv", own)
        heads = minority_labels(scores, config.classes, own)
        return list(train["path"]), heads

    return _trained(inputs, "minority", config, {**known, "score": asdict(config.score)}, examples)


def minority_labels(
    scores: NDArray[np.float32], classes: int, own: Sequence[int] | None = None
) -> dict[str, list[str]]:
    """Classes of equal size by minority score, as what a classifier is to tell.

    Args:
        scores: of N images.
        classes: how many; the last is the most minor.
        own: the images' class numbers, of a conditional generator: then there is a head for each
            class, which tells apart the images of that class alone.

    Raises:
        ValueError: there are fewer scores than classes, or so many are equal that a class is empty.
    """
    of = np.zeros(len(scores), dtype=int) if own is None else np.asarray(own)
    heads = {}
    for one in range(int(of.max()) + 1):
        rows = np.flatnonzero(of == one)
        found = minority_classes(scores[rows], classes)
        if empty := sorted(set(range(classes)) - set(found.tolist())):
            raise ValueError(
                f"of {classes} classes of minority scores, number {empty[0]} is empty, for too "
                "many scores are equal; give fewer minority_class.classes"
            )
        names = np.full(len(scores), "", dtype=object)
        names[rows] = found.astype(str)
        heads["minority_score" if own is None else str(one)] = list(names)
    return heads


def _scores(
    inputs: Inputs, config: MinorityClassConfig, file: Path, own: Sequence[int] | None
) -> NDArray[np.float32]:
    """The train rows' scores, kept in a file."""
    train, fabric = inputs.train, inputs.run.fabric
    if file.is_file():
        return pd.read_csv(file)["minority_score"].to_numpy(np.float32)
    with inputs.run.doing("scoring the real images"):
        scores = score_files(
            inputs.denoiser,
            list(train["path"]),
            score_distance(config.distance, inputs.denoiser),
            read=read_image,
            config=config.score,
            labels=own,
            fabric=fabric,
        )
    if fabric.is_global_zero:
        file.parent.mkdir(parents=True, exist_ok=True)
        told = pd.DataFrame({"file_name": train["file_name"], "minority_score": scores})
        write_text(file, told.to_csv(index=False))
    fabric.barrier()
    return scores


def _low_density(inputs: Inputs, config: LowDensityConfig) -> list[Guidance]:
    """Out of the dense and towards the real; a term of no strength is left out."""
    terms: list[Guidance] = []
    if config.alpha and config.others is None:
        denoiser = inputs.denoiser.to(inputs.run.fabric.device)
        hardness = hardness_of(denoiser, inputs.images.of(inputs.train))
        terms.append(HardnessAscent(hardness=hardness, scale=config.alpha, every=config.every))
    elif config.alpha:
        data = _data_or_others(inputs, config)
        terms.append(
            PushOfClass(
                classifier=data, target=1, away=True, scale=config.alpha, every=config.every
            )
        )
    if config.beta:
        real = _real_or_made(inputs, config)
        terms.append(PushOfClass(classifier=real, target=1, scale=config.beta, every=config.every))
    return terms


class _HardnessOf:
    """The hardness score of images in features, fitted on real ones of known hash."""

    def __init__(self, features: DenoiserFeatures, real: Tensor, sha256: str) -> None:
        self._features, self._fitted, self._sha256 = features, Hardness.fitted(real), sha256

    def __repr__(self) -> str:
        return f"hardness({self._sha256[:16]!r})"

    def __call__(self, images: Tensor) -> Tensor:
        return self._fitted(self._features(images))


def hardness_of(denoiser: Denoiser, images: Pixels) -> Callable[[Tensor], Tensor]:
    """The hardness score of float images in the generator's own activations.

    Args:
        denoiser: the generator.
        images: the real ones at its size, of which a batch is held.
    """
    features = DenoiserFeatures(denoiser, grid=1)
    with torch.no_grad():
        real = [
            features(denoiser.image.from_uint8(images[rows]).to(denoiser.device))
            for rows in torch.split(torch.arange(len(images)), _BATCH)
        ]
    return _HardnessOf(features, torch.cat(real), pixels_sha256(images))


def _data_or_others(inputs: Inputs, config: LowDensityConfig) -> ClassifierOfNoised:
    def examples(_folder: Path) -> Examples:
        assert config.others is not None
        data, others = list(inputs.train["path"]), list(load_images(config.others)["path"])
        return _halves(data, others)

    return _trained(inputs, "data_or_others", config, {"others": str(config.others)}, examples)


def _real_or_made(inputs: Inputs, config: LowDensityConfig) -> ClassifierOfNoised:
    """The discriminator of real images and the run's ordinary samples. Both come to it as files at
    the generator's size, from the same crop: else it would learn the file and not the image.
    """
    data, sampler = list(inputs.train["path"]), inputs.run.config.sampler
    count = config.samples or len(data)

    def examples(folder: Path) -> Examples:
        seeds = range(_FIRST_SAMPLE, _FIRST_SAMPLE + count)
        made = generate(
            inputs.denoiser,
            seeds,
            folder / "plain",
            sampler=sampler,
            fabric=inputs.run.fabric,
        )
        return _halves(data, list(made["path"]))

    known = {"sampler": asdict(sampler), "samples": count}
    return _trained(inputs, "real_or_made", config, known, examples)


def _halves(these: Sequence[str], others: Sequence[str]) -> Examples:
    """Equally many of both, the smaller half again and again; these are class 1."""
    count = max(len(these), len(others))
    paths = [[half[i % len(half)] for i in range(count)] for half in (others, these)]
    return [*paths[0], *paths[1]], {"these": ["0"] * count + ["1"] * count}


def _attributes(inputs: Inputs, config: AttributeBitsConfig) -> ClassifierOfNoised:
    names, train = _asked(inputs, config), inputs.train

    def examples(_folder: Path) -> Examples:
        labels = {
            name: ["" if pd.isna(cell) else str(int(cell)) for cell in train[name]]
            for name in names
        }
        return list(train["path"]), labels

    return _trained(inputs, "attributes", config, {"attributes": names}, examples)


def _asked(inputs: Inputs, config: AttributeBitsConfig) -> list[str]:
    """The attributes that each image is asked for a value of.

    Raises:
        ValueError: one that the run does not learn.
    """
    if config.attributes is None:
        return list(inputs.train[list(inputs.attributes)].mean().nsmallest(4).index)
    if unknown := [name for name in config.attributes if name not in inputs.attributes]:
        raise ValueError(
            f"attribute_bits.attributes name {unknown[0]}; the run learns "
            f"{', '.join(inputs.attributes)}; name some of these"
        )
    return config.attributes


def _trained(
    inputs: Inputs,
    kind: str,
    config: TrainedConfig,
    known: Mapping[str, Any],
    examples: Callable[[Path], Examples],
) -> ClassifierOfNoised:
    """A classifier, trained by one process or taken as it stands.

    Args:
        inputs: of the run.
        kind: of the classifier, for its folder's name.
        config: its network and training.
        known: what its examples follow from besides the run.
        examples: makes them, given the folder, in every process.
    """
    run = inputs.run
    told = {**known, "widths": config.widths, "training": asdict(config.training)}
    key = hashlib.sha256(json.dumps(plain(told), sort_keys=True, default=str).encode())
    folder = run.out / "noised" / f"{kind}-{key.hexdigest()[:8]}"
    card = folder / "classifier" / "card.json"
    run.fabric.barrier()  # or one process might look after another has written
    if not card.is_file():
        made = examples(folder)
        with run.stage(f"Training a classifier of noised images, {folder.name}"):
            fit = partial(_fit, inputs, config, made, folder)
            done_once(folder.with_name(f".{folder.name}.lock"), card.is_file, fit)
    return load_noised_classifier(folder / "classifier")


def _fit(inputs: Inputs, config: TrainedConfig, examples: Examples, folder: Path) -> None:
    """Train a classifier of images of the generator's size and noise."""
    run, image, (paths, labels) = inputs.run, inputs.denoiser.image, examples
    network = ClassifierNetworkConfig(
        size=image.size,
        channels=image.channels,
        widths=config.widths,
        attention_levels=(len(config.widths) - 1,),
        schedule=noise_name(inputs.denoiser.schedule),
    )
    device = run.fabric.device
    with alone():
        train_classifier(
            ImageFiles(paths, read_image, size=image.size, channels=image.channels),
            labels,
            folder,
            network,
            config.training,
            sources={"images_sha256": files_sha256(paths)},
            trained_on=inputs.source,
            accelerator=device.type,
            devices=1 if device.index is None or device.type == "cpu" else [device.index],
            plugins=[LightningEnvironment()],  # a job of its own, whatever has started the run
        )
