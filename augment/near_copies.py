"""Near-copies: which generated image is a real one, but for how copies get changed on the way.

An image is compared as a signature: grey, 16 x 16, centred, of unit length, so that brightness,
contrast and fine noise do not count. It is compared in 18 poses, mirrored or not and moved by up to
a pixel either way, with every reference; the smallest distance counts. Distances are Euclidean, in
[0, 2], and what is small depends on the data: `calibrate` reads it off the real images themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Calibration", "calibrate", "nearest"]

_SIDE = 16
"""Of the signature, in pixels: JPEG's and noise's marks are gone, faces still differ."""
_REACH = 1
"""Pixels an image may be moved by."""
_POSES = tuple(product((False, True), range(-_REACH, _REACH + 1), range(-_REACH, _REACH + 1)))
_AS_IS = (False, 0, 0)
_GREY = (0.299, 0.587, 0.114)
_QUERIES, _REFERENCES = 128, 8192
"""Compared at a time: 128 x 18 poses with 8192, 75 MB."""
_ENOUGH = 20
"""Real images from which a threshold can be read off."""
_SAME = 0.01
"""Distance of images that are the same but for rounding."""
_FLAT = 1e-3
"""Length of a signature, in grey levels, under which there is nothing to compare."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Up to which distance an image counts as a copy, and what that threshold does on real ones."""

    threshold: float
    """Distance in [0, 2]; a copy is nearer."""
    found: float
    """Share of edited real images that the threshold finds, in [0, 1]; NaN if none was edited."""
    false_alarms: float
    """Share of the real images that have another real image within the threshold, in [0, 1];
    NaN if that was not measured."""


def calibrate(
    images: Tensor, *, sample: int = 1000, false_alarms: float = 0.001, seed: int = 0
) -> Calibration:
    """The threshold for copies of images like these, from nothing but these.

    Two distances limit it: how far an edited image goes from its original (JPEG of quality 75,
    +-2 grey levels of noise, 8 % brighter, moved by a pixel both ways, mirrored; the 99th
    percentile), and how near distinct images come (of each image to the nearest other; the
    `false_alarms` quantile). The threshold is their geometric mean, or the second where they
    overlap: rather a copy missed than distinct images thrown out. Images that are nearer another
    one than half of the edited ones are to their own are repeats in the set, and left out.

    Args:
        images: uint8 (N, C, H, W), distinct real images, C 1 or 3. Of fewer than 20, or of
            images that all repeat one another, nothing can be read off: then only an image that
            is the same counts as a copy.
        sample: images at most that are edited, and that look for their nearest other.
        false_alarms: share of distinct images, in (0, 1), which the threshold may take for copies.
        seed: of the sample and of the noise.
    """
    same_only = Calibration(threshold=_SAME, found=math.nan, false_alarms=math.nan)
    if len(images) < _ENOUGH:
        return same_only
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(np.sort(rng.permutation(len(images))[:sample]))
    originals = images[chosen]
    edited = _moved(torch.cat([_edited(image, rng) for image in originals]), originals)
    others, _ = nearest(originals, images, own=chosen)
    distinct = others[others > edited.median()]
    if not len(distinct):
        return same_only
    reach, apart = float(edited.quantile(0.99)), float(distinct.quantile(false_alarms))
    threshold = min(apart, (reach * apart) ** 0.5)
    return Calibration(
        threshold=threshold,
        found=float((edited < threshold).float().mean()),
        false_alarms=float((others < threshold).float().mean()),
    )


def nearest(
    images: Tensor, references: Tensor, *, own: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Distance of each image, in its best pose, to the nearest reference, in blocks.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        references: uint8 (M, C', H, W) of the same size, M at least 1.
        own: int64 (N,), for each image the reference that is left out; -1 for none.

    Returns:
        float32 (N,) in [0, 2], and the reference's position, int64 (N,). An image of one colour
        has nothing to compare: sqrt 2 from every other.

    Raises:
        ValueError: other sizes or types, or no reference.
    """
    _check(images, references)
    cosine = torch.full((len(images),), -torch.inf)
    position = torch.zeros(len(images), dtype=torch.int64)
    known = torch.cat([_signatures(part, _AS_IS) for part in torch.split(references, _REFERENCES)])
    for start in range(0, len(images), _QUERIES):
        rows = slice(start, start + _QUERIES)
        posed = torch.stack([_signatures(images[rows], pose) for pose in _POSES])
        for first, near in _near(posed, known):
            if own is not None:
                inside = (own[rows] >= first) & (own[rows] < first + near.shape[1])
                near[inside.nonzero()[:, 0], own[rows][inside] - first] = -torch.inf
            best, at = near.max(dim=1)
            better = best > cosine[rows]
            cosine[rows] = torch.where(better, best, cosine[rows])
            position[rows] = torch.where(better, at + first, position[rows])
    return _distance(cosine), position


def _near(posed: Tensor, known: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First reference of a block, and the best pose's cosines (B, block)."""
    for first in range(0, len(known), _REFERENCES):
        block = known[first : first + _REFERENCES]
        best = posed[0] @ block.T
        for signature in posed[1:]:
            best = torch.maximum(best, signature @ block.T)
        yield first, best


def _signatures(images: Tensor, pose: tuple[bool, int, int]) -> Tensor:
    """float32 (N, 256) of unit length, zero where there is nothing but one colour."""
    mirrored, down, right = pose
    pixels = images.float()
    grey = (
        (pixels * pixels.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if images.shape[1] == 3
        else pixels
    )
    if mirrored:
        grey = grey.flip(3)
    height, width = grey.shape[2] - 2 * _REACH, grey.shape[3] - 2 * _REACH
    inner = grey[:, :, _REACH + down :, _REACH + right :][:, :, :height, :width]
    small = F.interpolate(inner, size=(_SIDE, _SIDE), mode="bilinear", antialias=True).flatten(1)
    centred = small - small.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > _FLAT, centred / length.clamp(min=_FLAT), 0.0)


def _moved(images: Tensor, originals: Tensor) -> Tensor:
    """Distance (N,) of each image, in its best pose, to its own original."""
    known = _signatures(originals, _AS_IS)
    return _distance(
        torch.stack([(_signatures(images, pose) * known).sum(1) for pose in _POSES]).amax(0)
    )


def _distance(cosine: Tensor) -> Tensor:
    return (2 - 2 * cosine).clamp(0, 4).sqrt()


def _edited(image: Tensor, rng: np.random.Generator) -> Tensor:
    """uint8 (C, H, W) as a copy comes back, (1, C, H, W): moved, mirrored, compressed and so on."""
    pixels = image.roll((1, -1), (1, 2)).flip(2).permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format="JPEG", quality=75)
    with Image.open(file) as stored:
        decoded = np.asarray(stored, dtype=np.float64).reshape(pixels.shape)
    changed = (decoded + rng.integers(-2, 3, decoded.shape)) * 1.08
    return torch.from_numpy(changed.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)[None]


def _check(images: Tensor, references: Tensor) -> None:
    for given in (images, references):
        if given.ndim != 4 or given.shape[1] not in (1, 3) or given.dtype != torch.uint8:
            raise ValueError(
                f"images are {given.dtype} {tuple(given.shape)}; "
                "give uint8 (N, 1 or 3, H, W), decoded to one size"
            )
    if images.shape[2:] != references.shape[2:] or min(images.shape[2:]) <= 2 * _REACH:
        raise ValueError(
            f"images are {tuple(images.shape[2:])} and references {tuple(references.shape[2:])} "
            "pixels; give both in one size, at least 3 pixels; decode them so"
        )
    if not len(references):
        raise ValueError("there is no reference to compare with; give at least one image")
