"""A labeler: uint8 images in, one probability an attribute out.

It owns its preprocessing and carries its card, so whoever calls it needs to know neither the size
it was trained at nor its normalisation. `Predictor` is all that labelling asks for; `Labeler` is
one with a torch network, whose features and gradients can be used besides. Where either comes from
is the business of `labeling.adapters`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labeling.card import LabelerCard

__all__ = ["Labeler", "Predictor", "check_images", "preprocess"]


class Predictor(Protocol):
    """Whatever gives probabilities for images."""

    card: LabelerCard
    """Preprocessing and provenance."""
    sha256: str
    """Of what the probabilities depend on, for records; empty if unknown."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names, in the order of the probabilities' columns."""
        return tuple(self.card.attributes)

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of every attribute, present where the probability is at least this; 0.5 where
        the card has none.
        """
        return self.card.all_thresholds

    def to(self, device: torch.device | str) -> Predictor:
        """Work on a device, where the predictor can choose it; returns itself."""

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities float32 (N, A) in [0, 1] of uint8 (N, 1 or 3, H, W)."""


class Labeler(Predictor):
    """A frozen torch network with its card.

    Args:
        card: attribute names, preprocessing, thresholds and provenance.
        network: maps float32 (N, 3, S, S) preprocessed images, S = `card.image_size`, to float (N,
            A) log-odds, A = `len(card.attributes)`. It is put in evaluation mode and its parameters
            are frozen.
        sha256: of the file that the weights came from, for records; empty if from none.
    """

    def __init__(self, card: LabelerCard, network: nn.Module, *, sha256: str = "") -> None:
        self.card = card
        self.sha256 = sha256
        self.network = network.eval().requires_grad_(False)
        self._device = next((p.device for p in network.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Labeler:
        """Move the network to a device, in place as `nn.Module.to` does; returns itself."""
        self._device = torch.device(device)
        self.network.to(self._device)
        return self

    def preprocess(self, images: Tensor) -> Tensor:
        """`preprocess` by the labeler's card."""
        return preprocess(images, self.card)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Probability of each attribute.

        Args:
            images: uint8 (N, C, H, W), C = 1 or 3, of any height and width and on any device.

        Returns:
            float32 (N, A) in [0, 1] on the labeler's device, columns in the order of `attributes`.
        """
        check_images(images)
        if len(images) == 0:
            return torch.empty(0, len(self.attributes), device=self._device)
        logits: Tensor = self.network(self.preprocess(images.to(self._device).float() / 255))
        return logits.float().sigmoid()


def preprocess(images: Tensor, card: LabelerCard) -> Tensor:
    """Resize and normalise, differentiably.

    Args:
        images: float (N, C, H, W) in [0, 1], C = 1 (grey, repeated) or 3 (RGB).
        card: says how.

    Returns:
        float (N, 3, S, S), S = `card.image_size`, less `card.mean` and divided by `card.std`, on
        the images' device.

    Raises:
        ValueError: images of another shape or dtype.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(_refusal(images, "float (N, 1 or 3, H, W) in [0, 1]"))
    size = (card.image_size, card.image_size)
    images = images.expand(-1, 3, -1, -1)
    if images.shape[-2:] != size:
        # as `pseudo_label` and training resize files: a blurrier image gets other labels
        images = F.interpolate(images, size, mode=card.interpolation, antialias=True)
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (card.mean, card.std))
    return (images - mean) / std


def check_images(images: Tensor) -> None:
    """Refuse what is not uint8 (N, 1 or 3, H, W) with a ValueError."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        raise ValueError(_refusal(images, "uint8 (N, 1 or 3, H, W)"))


def _refusal(images: Tensor, allowed: str) -> str:
    got = f"{images.dtype} {tuple(images.shape)}"
    return f"images are {got}; a labeler takes {allowed}; convert them first"
