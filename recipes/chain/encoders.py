"""Encoders by name: those of `augment.metrics`, and the networks of the embedded labelers."""

from __future__ import annotations

from pathlib import Path

import labeling
from augment.metrics import Encoder
from augment.metrics import load_encoder as load
from labeling import embedded_labelers

__all__ = ["encoders_beside", "load_encoder"]

_BESIDE_INCEPTION = {
    "fid_pytorch_fid": "inception-pytorch-fid",
    "sfid": "inception-pytorch-fid-6d",
}
"""Columns added with the encoder inception, whose own Frechet distance is clean-fid's FID."""


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


def encoders_beside(source: str, *, weights: Path | None = None) -> dict[str, Encoder]:
    """Column -> encoder of one more Frechet distance that is measured with an encoder's own."""
    beside = _BESIDE_INCEPTION if source == "inception" else {}
    return {column: load_encoder(name, weights=weights) for column, name in beside.items()}
