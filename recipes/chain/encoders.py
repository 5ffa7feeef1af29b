"""Encoders by name: those of `augment.metrics`, and the networks of the embedded labelers."""

from __future__ import annotations

from pathlib import Path

import labeling
from augment.metrics import Encoder
from augment.metrics import load_encoder as load
from labeling import embedded_labelers

__all__ = ["load_encoder"]


def load_encoder(source: str | Path, *, weights: Path | None = None) -> Encoder:
    """`augment.metrics.load_encoder`, to which an embedded labeler's name is one more.

    The features are what the labeler's last layer is given. The name wins over a folder of that
    name; write `./avatars` for the folder.

    Raises:
        FileNotFoundError, ValueError: as there.
    """
    if str(source) in embedded_labelers():
        source = Path(labeling.__file__).parent / "weights" / source
    return load(source, weights=weights)
