"""Several labelers as one: each attribute is the first's that knows it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labeling.card import LabelerCard
from labeling.labeler import Predictor

__all__ = ["Combination"]


class Combination(Predictor):
    """Labelers side by side.

    Args:
        parts: the labelers, the most trusted first; each keeps its own preprocessing.

    Raises:
        ValueError: no parts, or one that has no attribute left to itself.
    """

    def __init__(self, parts: Sequence[Predictor]) -> None:
        if not parts:
            raise ValueError("labelers are none; expected at least one; name one")
        self.parts = tuple(parts)
        self._columns: list[list[int]] = []
        names: list[str] = []
        for part in parts:
            columns = [i for i, name in enumerate(part.attributes) if name not in names]
            if not columns:
                raise ValueError(
                    f"labeler {part.card.source} adds nothing: those before it know all its "
                    "attributes; leave it out or name it earlier"
                )
            self._columns.append(columns)
            names += [part.attributes[i] for i in columns]
        self.card = _joint_card([part.card for part in parts], names, self._joint_thresholds())
        self.sha256 = "+".join(part.sha256 for part in parts)

    def _joint_thresholds(self) -> dict[str, float]:
        chosen: dict[str, float] = {}
        for part in self.parts:
            chosen = {**part.thresholds, **chosen}
        return chosen

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
        attributes=names,
        image_size=max(card.image_size for card in cards),
        mean=[0.0] * 3,
        std=[1.0] * 3,
        thresholds=thresholds,
        source=" + ".join(card.source for card in cards),
        licence=" + ".join(card.licence for card in cards),
        command=" + ".join(card.command for card in cards),
    )
