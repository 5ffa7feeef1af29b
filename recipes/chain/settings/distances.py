"""Distances between images by the names that settings give them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from augment import LPIPS, ActivationDistance, DecodedDistance, Denoiser, FeatureDistance
from augment.distance import NAMED, Distance
from labeling import Labeler, Predictor

__all__ = ["NO_FEATURES", "DistanceName", "ModelDistance", "named_distance", "score_distance"]

ModelDistance = Literal["activations", "lpips", "l1", "l2"]
"""Distances that need no labeler."""

DistanceName = Literal[ModelDistance, "features"]

NO_FEATURES = (
    "distance features needs one labeler with a torch network of its own, which an .onnx file, "
    "several labelers and the generator are not; give another labeler, or distance activations, "
    "the generator's own"
)


def named_distance(
    name: DistanceName, denoiser: Denoiser, labeler: Predictor | None = None
) -> Distance:
    """The distance that a setting names; `activations` are the denoiser's, `features` the
    labeler's, and `lpips` is that of guidance, by AlexNet. The last two look at images, which the
    latents of a latent model are decoded to.

    Raises:
        ValueError: `features` of a labeler that has no gradients.
    """
    if name == "features":
        if not isinstance(labeler, Labeler):
            raise ValueError(NO_FEATURES)
        seen = FeatureDistance(labeler.network, preprocess=labeler.preprocess)
        return _of_images(seen, denoiser)
    if name == "activations":
        return ActivationDistance(denoiser)
    return _of_images(NAMED[name](), denoiser) if name == "lpips" else NAMED[name]()


def score_distance(
    name: ModelDistance, denoiser: Denoiser, *, trunk: Path | None = None
) -> Distance:
    """The distance of a minority score, whose `lpips` is by VGG-16, as in the official code.

    Args:
        name: of the distance.
        denoiser: the generator.
        trunk: a local copy of VGG-16's weights.
    """
    if name == "lpips":
        return _of_images(LPIPS("vgg", trunk=trunk), denoiser)
    return named_distance(name, denoiser)


def _of_images(distance: Distance, denoiser: Denoiser) -> Distance:
    """A distance between images as one of what the denoiser denoises."""
    latents = denoiser.latents
    return distance if latents is None else DecodedDistance(distance, latents)
