"""A labeler: uint8 images in, one probability an attribute out.

It owns its preprocessing and carries its card, so whoever calls it needs to know neither the size
it was trained at nor its normalisation. `Predictor` is all that labelling asks for; `Labeler` is
one with a torch network, whose features and gradients can be used besides; `Combination` is several
as one. Where they come from is the business of `labeling.adapters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labeling.card import DEFAULT_THRESHOLD, LabelerCard

__all__ = ["Combination", "Labeler", "Predictor", "check_images", "preprocess"]


class Predictor(Protocol):
    """Whatever gives probabilities for images."""

    card: LabelerCard
    """Preprocessing and provenance."""
    sha256: str
    """Hash of what the probabilities depend on, for records; empty if unknown."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names, in the order of the probabilities' columns."""
        return tuple(self.card.attributes)

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of every attribute, present where the probability is at least this; 0.5 where
        the card has none.
        """
        listed = self.card.thresholds
        return {name: listed.get(name, DEFAULT_THRESHOLD) for name in self.attributes}

    def to(self, device: torch.device | str) -> Predictor:
        """Work on a device, where the predictor can choose it; returns itself."""

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities float32 (N, A) in [0, 1] of uint8 (N, 1 or 3, H, W)."""


class Labeler(Predictor):
    """A frozen torch network with its card.

    `labeler.log_odds` is differentiable in the images.

    Args:
        card: attribute names, preprocessing, thresholds and provenance.
        network: maps float32 (N, 3, S, S) preprocessed images, S = `card.image_size`, to float (N,
            A) log-odds, A = `len(card.attributes)`. It is put in evaluation mode and its parameters
            are frozen. It may hold modules that others use too, such as a generator's: only `to`
            moves it, and it is used wherever it is then.
        sha256: of the file that the weights came from, for records; empty if from none.
    """

    def __init__(self, card: LabelerCard, network: nn.Module, *, sha256: str = "") -> None:
        self.card = card
        self.sha256 = sha256
        self.network = network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the network is; the CPU for one without parameters."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Labeler:
        """Move the network to a device, in place as `nn.Module.to` does; returns itself."""
        self.network.to(device)
        return self

    def preprocess(self, images: Tensor) -> Tensor:
        """`preprocess` by the labeler's card."""
        return preprocess(images, self.card)

    def log_odds(self, images: Tensor) -> Tensor:
        """Differentiable log-odds (N, A) of float images (N, 1 or 3, H, W), about [0, 1]."""
        logits: Tensor = self.network(self.preprocess(images))
        return logits.float()

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
            return torch.empty(0, len(self.attributes), device=self.device)
        return self.log_odds(images.to(self.device).float() / 255).sigmoid()


class Combination(Predictor):
    """Labelers side by side: each attribute is the first's that knows it.

    Args:
        parts: the labelers, the most trusted first; each keeps its own preprocessing.

    Raises:
        ValueError: no parts, or one that has no attribute left to itself.
    """

    def __init__(self, parts: Sequence[Predictor]) -> None:
        if not parts:
            raise ValueError("no labeler is given; name at least one")
        self.parts = tuple(parts)
        self.sha256 = "+".join(part.sha256 for part in parts)
        self._columns: list[list[int]] = []
        thresholds: dict[str, float] = {}
        for part in parts:
            columns = [i for i, name in enumerate(part.attributes) if name not in thresholds]
            if not columns:
                raise ValueError(
                    f"labeler {part.card.source} adds nothing; those before it know all its "
                    "attributes; leave it out or name it earlier"
                )
            self._columns.append(columns)
            thresholds = {**part.thresholds, **thresholds}
        names = [
            part.attributes[i]
            for part, columns in zip(parts, self._columns, strict=True)
            for i in columns
        ]
        self.card = _joint_card([part.card for part in parts], names, thresholds)

    def to(self, device: torch.device | str) -> Combination:
        """Move all parts; returns itself."""
        for part in self.parts:
            part.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities float32 (N, A) in [0, 1] on the CPU, of uint8 (N, 1 or 3, H, W)."""
        return self.join([part(images).cpu() for part in self.parts])

    def join(self, probabilities: Sequence[Tensor]) -> Tensor:
        """(N, A) from the parts' own (N, A_i)."""
        pairs = zip(probabilities, self._columns, strict=True)
        return torch.cat([p[:, columns] for p, columns in pairs], dim=1)


def _joint_card(
    cards: Sequence[LabelerCard], names: Sequence[str], thresholds: dict[str, float]
) -> LabelerCard:
    """What is known of all together; the parts' own preprocessing stays theirs."""
    return LabelerCard(
        architecture=" + ".join(card.architecture for card in cards),
        source=" + ".join(card.source for card in cards),
        licence=" + ".join(card.licence for card in cards),
        command=" + ".join(card.command for card in cards),
        attributes=names,
        image_size=max(card.image_size for card in cards),
        mean=[0.0] * 3,
        std=[1.0] * 3,
        thresholds=thresholds,
    )


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
    _check(images, images.is_floating_point(), "float (N, 1 or 3, H, W) in [0, 1]")
    size = (card.image_size, card.image_size)
    images = images.expand(-1, 3, -1, -1)
    if images.shape[-2:] != size:
        # as `pseudo_label` and training resize files: a blurrier image gets other labels
        images = F.interpolate(images, size, mode=card.interpolation, antialias=True)
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (card.mean, card.std))
    return (images - mean) / std


def check_images(images: Tensor) -> None:
    """Refuse what is not uint8 (N, 1 or 3, H, W) with a ValueError."""
    _check(images, images.dtype == torch.uint8, "uint8 (N, 1 or 3, H, W)")


def _check(images: Tensor, is_dtype: bool, allowed: str) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not is_dtype:
        got = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"images are {got}; a labeler takes {allowed}; convert them first")
