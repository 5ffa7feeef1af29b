"""Encoders by name, those of `augment.metrics` and the networks of the embedded labelers, and what
they see of sets of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor

import labeling
from augment.metrics import Encoder, Orders, extract
from augment.metrics import load_encoder as load
from augment.metrics.pictures import ImageSet
from augment.metrics.report import Results, add_frechet, measure_sets
from classify.datasets import read_image
from labeling import embedded_labelers

__all__ = ["Encoders", "SetFeatures", "load_encoder"]

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


class Encoders:
    """An encoder by name, and those with which one more Frechet distance each is measured.

    Args:
        source: of the encoder.
        weights: a local file of a published encoder's.

    Raises:
        FileNotFoundError, ValueError: as `load_encoder` does.
    """

    def __init__(self, source: str, *, weights: Path | None = None) -> None:
        self.own = load_encoder(source, weights=weights)
        beside = _BESIDE_INCEPTION if source == "inception" else {}
        self._beside = {c: load_encoder(name, weights=weights) for c, name in beside.items()}

    def features(
        self,
        sets: Sequence[ImageSet],
        *,
        fabric: Fabric,
        cache: Path | None = None,
        batch_size: int = 64,
    ) -> SetFeatures:
        """What they see of sets, the real one first; `extract` says how it is kept and shared."""
        # Not on Apple's GPUs, which have no float64.
        device = fabric.device if fabric.device.type == "cuda" else torch.device("cpu")

        def of(encoder: Encoder) -> list[Tensor]:
            return [
                torch.from_numpy(
                    extract(
                        one.paths,
                        encoder,
                        read=read_image,
                        cache=cache,
                        batch_size=batch_size,
                        name=one.name,
                        fabric=fabric,
                    )
                ).to(device)
                for one in sets
            ]

        beside = {column: of(encoder) for column, encoder in self._beside.items()}
        return SetFeatures(tuple(sets), of(self.own), beside)


@dataclass(frozen=True)
class SetFeatures:
    """Features of sets, float32 (N, D) each."""

    sets: Sequence[ImageSet]
    """The real set, and the others."""
    own: Sequence[Tensor]
    """By the encoder that was asked for."""
    beside: dict[str, list[Tensor]]
    """By those beside it: column of a Frechet distance -> features."""

    def measured(self, *, tail_count: int | None = None, orders: Orders | None = None) -> Results:
        """`measure_sets`, with the further Frechet distances."""
        real, *others = self.sets
        results = measure_sets(real, others, self.own, tail_count=tail_count, orders=orders)
        add_frechet(results, self.beside)
        return results
