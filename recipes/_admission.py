"""Judge the generated images of a run: decode them and the real ones, calibrate, admit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment import Calibration, RealImages, admit, calibrate, in_manifold, refuse_leaks
from augment.admission import Split
from augment.metrics.encoder import Encoder
from classify import Images, decode

__all__ = ["Judge", "batched"]

Features = Callable[[Tensor], NDArray[np.floating]]
"""Float (N, D) of uint8 (N, 3, S, S) images."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Judge:
    """Calibrated once on the real images, called on each table of generated ones.

    Args:
        real: real rows of all splits, with `path`; those without image are passed over.
        images: the real images, decoded at the size at which all are compared.
        features: of a network; left out, images are not judged by the real manifold.
        k: neighbours of the manifold's balls.
        allow_leak: go on, without them, where images copy real val or test images.
    """

    def __init__(
        self,
        real: pd.DataFrame,
        images: Images,
        *,
        features: Features | None = None,
        k: int = 5,
        allow_leak: bool = False,
    ) -> None:
        self.size, self.features = images.pixels.shape[-1], features
        self.k, self.allow_leak = k, allow_leak
        usable = images.usable(real)
        self.real: dict[Split, RealImages] = {}
        for split in _SPLITS:
            rows = usable[usable["split"] == split]
            if len(rows):
                pixels = images.pixels[images.rows(rows)]
                self.real[split] = RealImages(pixels=pixels, names=rows["file_name"])
        train = self.real["train"].pixels
        self.calibration: Calibration = calibrate(train)
        self._manifold = None if features is None else features(train)

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its `admission`; see `augment.admit`.

        Raises:
            ValueError: copies of val or test images, unless they are allowed.
        """
        pixels, readable = decode(list(table["path"]), self.size, skip_bad=True)
        inside = None
        if self.features is not None and self._manifold is not None:
            inside = in_manifold(self.features(pixels), self._manifold, k=self.k)
        judged = admit(table, pixels, self.real, self.calibration, readable=readable, inside=inside)
        if not self.allow_leak:
            refuse_leaks(judged)
        return judged


def batched(encoder: Encoder, size: int = 64) -> Features:
    """The encoder for any number of images, some at a time."""

    def features(images: Tensor) -> NDArray[np.floating]:
        return torch.cat([encoder(part).cpu() for part in torch.split(images, size)]).numpy()

    return features
