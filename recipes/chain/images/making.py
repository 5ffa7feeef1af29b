"""The images of a set that is made here: what guides them, and where they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from augment import (
    AttributeGuidance,
    AttributeGuidanceConfig,
    Denoiser,
    Edit,
    Joint,
    Sum,
    generate,
)
from augment.guidance import Ascent, Guidance
from augment.images import ImageFiles
from augment.start import Start
from classify.datasets import read_image
from recipes.chain.command.values import plain
from recipes.chain.images.noised import bits_of, classifier_terms
from recipes.chain.inputs import Inputs
from recipes.chain.settings.distances import named_distance
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.targets import Plan, plan_targets, rare_rows
from recipes.chain.settings.untrained_terms import through_labeler, untrained_terms
from recipes.chain.training import train_rows

__all__ = ["guidance_of", "is_independent", "make_images", "plan_of", "start_of", "train_images"]


def is_independent(settings: SyntheticSet) -> bool:
    """Whether a set's images are made here, and are the same for all labelers and real rows."""
    guidance, start = settings.guidance, settings.start
    return (
        settings.folder is None
        and not settings.has_trained_terms
        and settings.steering is None
        and not through_labeler(settings)
        and (guidance is None or guidance.distance != "features")
        and (start is None or start.rows is None)
    )


def make_images(
    inputs: Inputs, settings: SyntheticSet, seeds: Sequence[int], folder: Path
) -> pd.DataFrame:
    """The images of some seeds of a set that is made here, without labels; see `generate`."""
    guidance = guidance_of(inputs, settings)
    return generate(
        inputs.denoiser,
        seeds,
        folder,
        sampler=settings.sampler,
        guidance=guidance,
        start=start_of(inputs, settings),
        settings=_record(inputs, settings, guidance),
        fabric=inputs.run.fabric,
    )


def _record(
    inputs: Inputs, settings: SyntheticSet, guidance: Guidance | None
) -> dict[str, Any] | None:
    """The part of a folder's provenance that the guidance determines; None for ordinary samples."""
    record = {} if settings.guidance is None else plain(asdict(settings.guidance))
    if settings.has_trained_terms:
        record["terms"] = repr(guidance)  # tells the classifiers' weights
    if settings.guidance is not None and settings.guidance.distance == "features":
        record["network"] = inputs.labeler.sha256
    if settings.steering is not None:
        record["steering"] = plain(asdict(settings.steering))
        record["steering"] |= {
            "targets": inputs.wishes(settings) or "auto",
            "plan": plan_of(inputs, settings).identity,
            "labeler": inputs.steerer(settings.steering).sha256,
        }
    for name in ("jacobian", "uncertainty", "particles"):
        if (term := getattr(settings, name)) is not None:
            record[name] = plain(asdict(term))
    if through_labeler(settings):
        record["labeler"] = inputs.labeler.sha256
    return record or None


def guidance_of(inputs: Inputs, settings: SyntheticSet) -> Guidance | None:
    """The guidance of a set: up the minority measure, to what is asked for, and by whatever else
    its settings name; None for ordinary samples.
    """
    parts: list[Ascent] = []
    if settings.guidance is not None:
        distance = named_distance(settings.guidance.distance, inputs.denoiser, inputs.labeler)
        parts.append(settings.guidance.with_distance(distance))
    if settings.steering is not None:
        steerer = inputs.steerer(settings.steering)
        strength = settings.steering.settings(AttributeGuidanceConfig)
        plan = plan_of(inputs, settings)
        parts.append(AttributeGuidance(**strength, labeler=steerer, wish=plan))
    joint = settings.steering is not None and settings.steering.joint and len(parts) > 1
    terms: list[Guidance] = [
        *([Joint(*parts)] if joint else parts),
        *classifier_terms(inputs, settings),
        *untrained_terms(settings, inputs.denoiser, inputs.labeler),
    ]
    return Sum.of(terms)


def plan_of(inputs: Inputs, settings: SyntheticSet) -> Plan:
    """What each image of a set is asked to be: by its prompt, where no guidance asks; `auto` takes
    the quota's wishes, if it has any.
    """
    if inputs.prompts is not None and not settings.asks:
        return inputs.prompts.plan(settings.sampler.label)
    if settings.attribute_bits is not None:
        return bits_of(inputs, settings.attribute_bits)
    return plan_targets(inputs.train, inputs.steerable(settings), inputs.wishes(settings))


def start_of(inputs: Inputs, settings: SyntheticSet) -> Start | None:
    """What the images of a set start from; None for ordinary noise."""
    if settings.start is None:
        return None
    if settings.start.boost is not None:
        return settings.start.boost
    source = settings.start.images
    if source is None:
        rows = rare_rows(inputs.table, inputs.attributes)
        references = image_files(list(rows["path"]), inputs.denoiser)
    else:
        references = train_images(source, inputs.denoiser, "start.images")
    return Edit(references=references, strength=settings.start.strength)


def train_images(source: Path, denoiser: Denoiser, what: str) -> ImageFiles:
    """The image, or the train images of a folder, in the generator's format.

    Raises:
        FileNotFoundError, ValueError: there are none; one line, which calls the source `what`.
    """
    if not source.exists():
        raise FileNotFoundError(f"{what} {source} is missing; give an image or a folder of images")
    paths = [str(source)] if source.is_file() else list(train_rows(source)["path"])
    return image_files(paths, denoiser)


def image_files(paths: Sequence[str], denoiser: Denoiser) -> ImageFiles:
    """Images that are cropped and resized to the generator's format when they are read."""
    image = denoiser.image
    return ImageFiles(paths, read_image, size=image.size, channels=image.channels)
