"""Judge generated images, wherever they were made, against the real ones of a study."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment import RealImages, Signatures, admit, calibrate, in_manifold, refuse_leaks
from augment.images import Pixels
from augment.selection import Split
from classify import Images, decode
from classify.progress import Doing, progress, silently

__all__ = ["Judge"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_ENCODED, _DECODED = 64, 1024
"""Images at a time: through the encoder, and of the generated ones in memory."""


class Judge:
    """Calibrated once on the real images, called on each table of generated ones.

    Of the real images it holds signatures of 1 KB each and, with an encoder, their features; pixels
    are read batch by batch, from a cache where `images` is one.

    Args:
        real: real rows of all splits, with `path`; those whose image did not decode are passed
            over.
        images: the real images, decoded at the size at which all are compared.
        encoder: features, float (B, D), of at most 64 images, uint8 (B, 3, S, S), as an `Encoder`
            of augment gives them; left out, images are not judged by the real manifold.
        k: neighbours of the manifold's balls.
        doing: put around each part of the work.

    Raises:
        ValueError: no real train image decodes.
    """

    def __init__(
        self,
        real: pd.DataFrame,
        images: Images,
        *,
        encoder: Callable[[Tensor], Tensor] | None = None,
        k: int = 5,
        doing: Doing = silently,
    ) -> None:
        self.size, self.encoder, self.k = images.pixels.shape[-1], encoder, k
        self.doing = doing
        self.real: dict[Split, RealImages] = {}
        usable = images.usable(real)
        with doing("comparing the real images with one another"):
            for split in _SPLITS:
                rows = usable[usable["split"] == split]
                if len(rows):
                    signatures = Signatures.of(images.of(rows))
                    self.real[split] = RealImages(signatures=signatures, names=rows["file_name"])
            if "train" not in self.real:
                raise ValueError("no real train image decodes; give images to compare with")
            train = images.of(usable[usable["split"] == "train"])
            self.calibration = calibrate(train, self.real["train"].signatures)
        self._manifold = None if encoder is None else _features(encoder, train)

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table, one row per generated image with its `path`, with `admission` as by `admit`.

        Copies of val and test images are only marked; `refuse_leaks` stops at them.
        """
        starts = range(0, max(len(table), 1), _DECODED)
        with self.doing("looking for near copies"):
            return pd.concat([self._judged(table.iloc[n : n + _DECODED]) for n in starts])

    def refuse_leaks(self, table: pd.DataFrame) -> None:
        """Raise ValueError at a judged table whose images copy real val or test images."""
        held_out = sum(len(self.real[s].names) for s in ("val", "test") if s in self.real)
        refuse_leaks(table, self.calibration, held_out)

    def _judged(self, table: pd.DataFrame) -> pd.DataFrame:
        pixels, readable = decode(list(table["path"]), self.size, skip_bad=True)
        inside = None
        if self.encoder is not None and self._manifold is not None:
            inside = in_manifold(_features(self.encoder, pixels), self._manifold, k=self.k)
        return admit(table, pixels, self.real, self.calibration, readable=readable, inside=inside)


def _features(encoder: Callable[[Tensor], Tensor], images: Pixels) -> NDArray[np.floating]:
    """Float (N, D) of any number of images."""
    batches = torch.split(torch.arange(len(images)), _ENCODED)
    bar = progress(batches, "features", unit="batch")
    return torch.cat([encoder(images[positions]).cpu() for positions in bar]).numpy()
