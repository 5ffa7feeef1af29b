"""What has to be known about a labeler: its outputs, its preprocessing, where it is from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["DEFAULT_THRESHOLD", "Interpolation", "LabelerCard", "head"]

DEFAULT_THRESHOLD = 0.5
Interpolation = Literal["bicubic", "bilinear"]


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
    interpolation: Interpolation = "bicubic"
    """How images are resized to `image_size`, antialiased."""

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

    @property
    def all_thresholds(self) -> dict[str, float]:
        """Threshold of every attribute, 0.5 for one not listed."""
        return {name: self.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.attributes}

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
                "1; correct the labeler's card"
            )
        if not _are_finite(self.mean) or len(self.mean) != 3:
            raise ValueError(
                f"mean is {self.mean}; expected 3 finite numbers; correct the labeler's card"
            )
        if not _are_finite(self.std) or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"std is {self.std}; expected 3 numbers above 0; correct the labeler's card"
            )

        if self.interpolation not in get_args(Interpolation):
            raise ValueError(
                f"interpolation is {self.interpolation!r}; expected "
                f"{' or '.join(get_args(Interpolation))}; correct the labeler's card"
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
                    f"({head(self.attributes)}); correct the labeler's card"
                )
            if not _are_finite([value]) or not 0 <= value <= 1:
                raise ValueError(
                    f"thresholds has {value!r} for {name!r}; expected a number in [0, 1]; correct "
                    "the labeler's card"
                )


def head(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line."""
    more = f", ... {len(names)} in all" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _are_finite(values: Sequence[float]) -> bool:
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
