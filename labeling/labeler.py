"""A labeler: uint8 images in, one probability an attribute out.

It owns its preprocessing and carries its card, so whoever calls it needs to know neither the size
it was trained at nor its normalisation. The network may be anything that maps preprocessed images
to one logit an attribute; where it comes from is the business of `labeling.adapters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Labeler", "LabelerCard"]

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class LabelerCard:
    """What has to be known about a labeler's weights to use, cite and repeat them."""

    architecture: str
    """Name of the network, for checkpoints of ours torchvision's."""
    attributes: Sequence[str]
    """Attribute names, in the order of the network's outputs."""
    image_size: int
    """Side in pixels of the square image the network sees."""
    mean: Sequence[float]
    """Mean of each colour channel (R, G, B) for images in [0, 1]."""
    std: Sequence[float]
    """Standard deviation of each colour channel for images in [0, 1]."""
    thresholds: Mapping[str, float]
    """Probability from which an attribute counts as present; 0.5 for an attribute not listed."""
    source: str
    """What the weights were trained on and by whom."""
    licence: str
    """Terms under which the weights may be used."""
    command: str
    """Command that made the weights."""
    scores: Mapping[str, Mapping[str, float | None]] | None = None
    """The labeler's scores by attribute on its own validation images; None where not judged."""

    def __post_init__(self) -> None:
        # Tuples, so that the order of the outputs cannot change under a loaded network.
        for name in ("attributes", "mean", "std"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(
                    f"{name} is {value!r}; expected a list; correct the labeler's card"
                )
            object.__setattr__(self, name, tuple(value))
        self._check_attributes()
        self._check_preprocessing()
        self._check_thresholds()

    def _check_attributes(self) -> None:
        repeated = sorted({name for name in self.attributes if self.attributes.count(name) > 1})
        if not self.attributes or repeated:
            got = f"{repeated[0]!r} twice" if repeated else "none"
            raise ValueError(
                f"attributes has {got}; expected distinct names, one an output; correct the "
                "labeler's card"
            )

    def _check_preprocessing(self) -> None:
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(
                f"image_size is {self.image_size!r}; expected a whole number of pixels of at least "
                "1; "
                "correct the labeler's card"
            )
        if not _are_finite(self.mean) or len(self.mean) != 3:
            raise ValueError(
                f"mean is {self.mean}; expected 3 finite numbers; correct the labeler's card"
            )
        if not _are_finite(self.std) or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"std is {self.std}; expected 3 numbers above 0; correct the labeler's card"
            )

    def _check_thresholds(self) -> None:
        if not isinstance(self.thresholds, Mapping):
            raise ValueError(
                f"thresholds is {self.thresholds!r}; expected name: number; correct the labeler's "
                "card"
            )
        for name, value in self.thresholds.items():
            if name not in self.attributes:
                raise ValueError(
                    f"thresholds names {name!r}, which is not among the attributes "
                    f"({head(self.attributes)}); "
                    "correct the labeler's card"
                )
            if not _are_finite([value]) or not 0 <= value <= 1:
                raise ValueError(
                    f"thresholds has {value!r} for {name!r}; expected a number in [0, 1]; correct "
                    "the labeler's card"
                )


class Labeler:
    """A frozen network with its card.

    Args:
        card: attribute names, preprocessing, thresholds and provenance.
        network: maps float32 (N, 3, S, S) preprocessed images, S = `card.image_size`, to float (N,
            A) logits, A = `len(card.attributes)`. It is put in evaluation mode and its parameters
            are frozen.
        sha256: of the file that the weights came from, for records; empty if from none.
    """

    def __init__(self, card: LabelerCard, network: nn.Module, *, sha256: str = "") -> None:
        self.card = card
        self.sha256 = sha256
        self.network = network.eval().requires_grad_(False)
        self._mean = torch.tensor(card.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(card.std).view(1, 3, 1, 1)
        self._device = torch.device("cpu")
        self.to(next((p.device for p in network.parameters()), self._device))

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names, in the order of the probabilities' columns."""
        return tuple(self.card.attributes)

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of every attribute, 0.5 where the card has none."""
        return {name: self.card.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.attributes}

    def to(self, device: torch.device | str) -> Labeler:
        """Move the network to a device, in place as `nn.Module.to` does; returns itself."""
        self._device = torch.device(device)
        self.network.to(self._device)
        self._mean, self._std = self._mean.to(self._device), self._std.to(self._device)
        return self

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize and normalise, differentiably.

        Args:
            images: float (N, C, H, W) in [0, 1], C = 1 (grey, repeated) or 3 (RGB), on the
                labeler's device.

        Returns:
            float (N, 3, S, S), S = `card.image_size`, zero mean and unit variance by the card's
            `mean` and `std`.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
            raise ValueError(_refusal(images, "float (N, 1 or 3, H, W) in [0, 1]"))
        size = (self.card.image_size, self.card.image_size)
        images = images.expand(-1, 3, -1, -1)
        if images.shape[-2:] != size:
            # as `pseudo_label` and training resize files: a blurrier image gets other labels
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        return (images - self._mean) / self._std

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Probability of each attribute.

        Args:
            images: uint8 (N, C, H, W), C = 1 or 3, of any height and width and on any device.

        Returns:
            float32 (N, A) in [0, 1] on the labeler's device, columns in the order of `attributes`.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            raise ValueError(_refusal(images, "uint8 (N, 1 or 3, H, W)"))
        if len(images) == 0:
            return torch.empty(0, len(self.attributes), device=self._device)
        logits: Tensor = self.network(self.preprocess(images.to(self._device).float() / 255))
        return logits.float().sigmoid()


def head(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line."""
    more = f", ... {len(names)} in all" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _are_finite(values: Sequence[float]) -> bool:
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)


def _refusal(images: Tensor, allowed: str) -> str:
    got = f"{images.dtype} {tuple(images.shape)}"
    return f"images are {got}; a labeler takes {allowed}; convert them first"
