"""Distances between images by the names that settings give them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from augment import LPIPS, ActivationDistance, Denoiser, FeatureDistance
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
    labeler's, and `lpips` is that of guidance, by AlexNet.

    Raises:
        ValueError: `features` of a labeler that has no gradients.
    """
    if name == "features":
        if not isinstance(labeler, Labeler):
            raise ValueError(NO_FEATURES)
        return FeatureDistance(labeler.network, preprocess=labeler.preprocess)
    return ActivationDistance(denoiser) if name == "activations" else NAMED[name]()


def score_distance(
    name: ModelDistance, denoiser: Denoiser, *, trunk: Path | None = None
) -> Distance:
    """The distance of a minority score, whose `lpips` is by VGG-16, as in the official code.

    Args:
        name: of the distance.
        denoiser: the generator.
        trunk: a local copy of VGG-16's weights.
    """
    return LPIPS("vgg", trunk=trunk) if name == "lpips" else named_distance(name, denoiser)
