"""What has to be known about a labeler: its outputs, its preprocessing, where it is from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from labeling.files import read_json

__all__ = ["DEFAULT_THRESHOLD", "Interpolation", "LabelerCard", "head", "read_card"]

DEFAULT_THRESHOLD = 0.5
_MOST_PIXELS = 4096
"""A side of what a labeler sees, of which a batch takes some GB."""
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
        for name in ("architecture", "source", "licence", "command"):
            value = getattr(self, name)
            self._check(isinstance(value, str), name, value, "text")
        # Tuples, so that the order of the outputs cannot change under a loaded network.
        for name in ("attributes", "mean", "std"):
            value = getattr(self, name)
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            self._check(is_list, name, value, "a list")
            object.__setattr__(self, name, tuple(value))
        self._check_attributes()
        self._check_preprocessing()
        self._check_thresholds()
        self._check_scores()

    @staticmethod
    def _check(holds: bool, name: str, value: object, kind: str) -> None:
        """Raise a ValueError about a field that does not hold."""
        if not holds:
            raise ValueError(
                f"{name} is {value!r}; it has to be {kind}; correct the labeler's card"
            )

    def _check_attributes(self) -> None:
        names = self.attributes
        self._check(all(isinstance(name, str) for name in names), "attributes", names, "names")
        repeated = sorted({name for name in self.attributes if self.attributes.count(name) > 1})
        if not self.attributes or repeated:
            got = f"{repeated[0]!r} twice" if repeated else "none"
            raise ValueError(
                f"attributes has {got}; names are distinct, one per output; correct the labeler's "
                "card"
            )

    def _check_preprocessing(self) -> None:
        size, mean, std = self.image_size, self.mean, self.std
        whole = type(size) is int and 1 <= size <= _MOST_PIXELS
        self._check(whole, "image_size", size, f"a whole number of pixels, 1 to {_MOST_PIXELS:,}")
        self._check(len(mean) == 3 and _are_finite(mean), "mean", mean, "3 finite numbers")
        positive = len(std) == 3 and _are_finite(std) and min(std) > 0
        self._check(positive, "std", std, "3 numbers above 0")
        methods = get_args(Interpolation)
        known = self.interpolation in methods
        self._check(known, "interpolation", self.interpolation, " or ".join(methods))

    def _check_thresholds(self) -> None:
        thresholds = self.thresholds
        self._check(isinstance(thresholds, Mapping), "thresholds", thresholds, "name: number")
        for name, value in thresholds.items():
            if name not in self.attributes:
                raise ValueError(
                    f"thresholds names {name!r}; the attributes are {head(self.attributes)}; "
                    "correct the labeler's card"
                )
            in_range = _are_finite([value]) and 0 <= value <= 1
            self._check(in_range, f"the threshold of {name!r}", value, "a number in [0, 1]")

    def _check_scores(self) -> None:
        rows = list(self.scores.values()) if isinstance(self.scores, Mapping) else [self.scores]
        are_known = self.scores is None or all(
            isinstance(row, Mapping) and _are_finite([v for v in row.values() if v is not None])
            for row in rows
        )
        self._check(are_known, "scores", self.scores, "attribute: {measure: number}")


Card = TypeVar("Card", bound=LabelerCard)


def read_card(path: Path, kind: type[Card], defaults: Mapping[str, Any] | None = None) -> Card:
    """Read a card.

    Args:
        path: of a JSON object with the fields of `kind`; further keys are left alone.
        kind: the card's class.
        defaults: values of fields that the file may leave out, besides those `kind` has.

    Raises:
        ValueError: the file is no such JSON; the message names it.
    """
    content = {**(defaults or {}), **read_json(path)}
    required = [f.name for f in fields(kind) if f.default is MISSING]
    if missing := [name for name in required if name not in content]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; a card has all of these; write the card again"
        )
    try:
        return kind(**{f.name: content[f.name] for f in fields(kind) if f.name in content})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def head(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line."""
    more = f", ... {len(names)} in all" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _are_finite(values: Sequence[float]) -> bool:
    try:
        return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    except OverflowError:  # a whole number of hundreds of digits
        return False
