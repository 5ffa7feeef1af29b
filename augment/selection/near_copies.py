"""Near copies: which image is one of the real images, but for how copies get changed on the way.

An image is compared by its *signature*: grey, 16 x 16, centred, of unit length, so that brightness,
contrast and fine noise do not count. It is compared in 18 poses, mirrored or not and moved by up to
a pixel either way, with every reference; the smallest distance counts. Distances are Euclidean, in
[0, 2], and what is small depends on the data: `calibrate` reads it off the real images themselves.
Of the references nothing but the signatures is held, 1 KB an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from augment.images import Pixels

_SIDE = 16
"""Side of the signature, in pixels: JPEG's and noise's marks are gone, faces still differ."""
_REACH = 1
"""Pixels an image may be moved by."""
_POSES = tuple(product((False, True), range(-_REACH, _REACH + 1), range(-_REACH, _REACH + 1)))
_AS_IS = (False, 0, 0)
_UNMOVED = [_POSES.index((mirrored, 0, 0)) for mirrored in (False, True)]
_GREY = (0.299, 0.587, 0.114)
_IMAGES, _REFERENCES = 128, 8192
"""Looked at and compared at a time: 128 x 18 poses with 8192 references, 75 MB."""
_ENOUGH = 20
"""Real images from which a threshold can be read off."""
_SAME = 0.01
"""Distance of images that are the same but for rounding."""
_FLAT = 1e-3
"""Length of a signature, in grey levels, under which there is nothing to compare."""

_progress = partial(tqdm, unit="batch", delay=2, leave=False, disable=None)
"""On a terminal alone, of what takes longer than two seconds, while it lasts."""


@dataclass(frozen=True, eq=False)
class Signatures:
    """What is held of the images to compare with."""

    values: Tensor
    """float32 (M, 256), of unit length; zero for an image of one colour."""
    size: tuple[int, int]
    """Height and width of the images, which those compared with them have too."""

    @classmethod
    def of(cls, images: Pixels) -> Signatures:
        """The signatures of at least one image, read in small batches.

        Raises:
            ValueError: no image, or not uint8 of 1 or 3 channels.
        """
        if not len(images):
            raise ValueError("there is no reference to compare with; give at least 1 image")
        parts = []
        batches = torch.split(torch.arange(len(images)), _IMAGES)
        for positions in _progress(batches, "signatures"):
            batch = images[positions]
            _check(batch)
            parts.append(_signatures(batch, _AS_IS))
        return cls(torch.cat(parts), (batch.shape[2], batch.shape[3]))


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
    certain: float
    """Distance up to which it is one without doubt: that of nine in ten edited images."""
    chance: float
    """Probability, at most, that a distinct image comes within the threshold of any one real
    image: one more than were found to, of those that could be looked at."""


def calibrate(
    images: Pixels,
    known: Signatures | None = None,
    *,
    sample: int = 1000,
    false_alarms: float = 0.001,
    seed: int = 0,
) -> Calibration:
    """The threshold for copies of images like these, from nothing but these.

    Two distances limit it: how far an edited image goes from its original (JPEG of quality 75,
    +-2 grey levels of noise, 8 % brighter, moved by a pixel both ways, mirrored; the 99th
    percentile), and how near distinct images come (of each image to the nearest other; the
    `false_alarms` quantile). The threshold is their geometric mean, or the second where they
    overlap: rather a copy missed than distinct images thrown out. Images that are nearer another
    one than half of the edited ones are to their own are repeats in the set, and left out.

    Args:
        images: N distinct real images. Of fewer than 20, or of images that all repeat one another,
            nothing can be read off: then only an image that is the same counts as a copy.
        known: their signatures, if they are known already.
        sample: images at most that are edited, and that look for their nearest other; the pixels of
            these alone are held.
        false_alarms: share of distinct images, in (0, 1), which the threshold may take for copies.
        seed: of the sample and of the noise.
    """
    same_only = Calibration(
        threshold=_SAME, found=math.nan, false_alarms=math.nan, certain=_SAME, chance=0.0
    )
    if len(images) < _ENOUGH:
        return same_only
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(np.sort(rng.permutation(len(images))[:sample]))
    originals = images[chosen]
    batches = _progress(torch.split(originals, _IMAGES), "edited images")
    edited = torch.cat([_moved(part, rng) for part in batches])
    others, _ = nearest(originals, known or Signatures.of(images), own=chosen)
    distinct = others[others > edited.median()]
    if not len(distinct):
        return same_only
    reach, apart = float(edited.quantile(0.99)), float(distinct.quantile(false_alarms))
    threshold = min(apart, (reach * apart) ** 0.5)
    return Calibration(
        threshold=threshold,
        found=float((edited < threshold).float().mean()),
        false_alarms=float((others < threshold).float().mean()),
        certain=min(threshold, float(edited.quantile(0.9))),
        chance=(int((distinct < threshold).sum()) + 1) / (len(distinct) + 1) / len(images),
    )


def nearest(
    images: Tensor, references: Signatures, *, own: Tensor | None = None, within: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Distance of each image, in its best pose, to the nearest reference, in blocks.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, of the references' size.
        references: M of them.
        own: int64 (N,), for each image the reference that is left out; -1 for none.
        within: distance in [0, 2] up to which the nearest is looked for; below 2 most references
            are passed over, which takes a fraction of the time.

    Returns:
        float32 (N,) in [0, 2], and the reference's position, int64 (N,). An image of one colour
        has nothing to compare: sqrt 2 from every other. Of an image that has no reference within
        the distance, only that it has none can be told: what is returned is above it.

    Raises:
        ValueError: another size or type.
    """
    _check(images)
    if images.shape[2:] != references.size:
        raise ValueError(
            f"images are of {tuple(images.shape[2:])} and references of {references.size} pixels; "
            "give images of one size"
        )
    cosine = torch.full((len(images),), -torch.inf)
    position = torch.zeros(len(images), dtype=torch.int64)
    for start in _progress(range(0, len(images), _IMAGES), "near copies"):
        rows = slice(start, start + _IMAGES)
        posed = torch.stack([_signatures(images[rows], pose) for pose in _POSES])
        reach = _reach(posed)
        for first in range(0, len(references.values), _REFERENCES):
            known = references.values[first : first + _REFERENCES]
            near = _best_pose(posed, known) if within == 2 else _close(posed, known, within + reach)
            if own is not None:
                inside = (own[rows] >= first) & (own[rows] < first + near.shape[1])
                near[inside.nonzero()[:, 0], own[rows][inside] - first] = -torch.inf
            best, at = near.max(dim=1)
            better = best > cosine[rows]
            cosine[rows] = torch.where(better, best, cosine[rows])
            position[rows] = torch.where(better, at + first, position[rows])
    return _distance(cosine), position


def _reach(posed: Tensor) -> Tensor:
    """How far a pose lies from the unmoved one that is mirrored alike, at most; float32 (B,)."""
    unmoved = posed[_UNMOVED].repeat_interleave(len(_POSES) // len(_UNMOVED), 0)
    return _distance((posed * unmoved).sum(2)).amax(0)


def _close(posed: Tensor, known: Tensor, limit: Tensor) -> Tensor:
    """Cosines (B, M) as of `_best_pose` where an unmoved pose comes within a distance (B,) of a
    reference, and those of the unmoved poses elsewhere.

    Distances obey the triangle inequality: no pose that lies within r of an unmoved one comes
    nearer to a reference than that one's distance less r.
    """
    near = _best_pose(posed[_UNMOVED], known)
    close = near >= 1 - limit[:, None] ** 2 / 2
    for row in close.any(1).nonzero().flatten():
        at = close[row].nonzero().flatten()
        near[row, at] = (posed[:, row] @ known[at].T).amax(0)
    return near


def _best_pose(posed: Tensor, known: Tensor) -> Tensor:
    """Cosines (B, M) of the best of the poses (18, B, 256) with references (M, 256)."""
    best = posed[0] @ known.T
    for signature in posed[1:]:
        best = torch.maximum(best, signature @ known.T)
    return best


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


def _moved(originals: Tensor, rng: np.random.Generator) -> Tensor:
    """Distance (N,) of each image, edited and in its best pose, to itself."""
    edited = torch.stack([_edited(image, rng) for image in originals])
    known = _signatures(originals, _AS_IS)
    return _distance(
        torch.stack([(_signatures(edited, pose) * known).sum(1) for pose in _POSES]).amax(0)
    )


def _distance(cosine: Tensor) -> Tensor:
    return (2 - 2 * cosine).clamp(0, 4).sqrt()


def _edited(image: Tensor, rng: np.random.Generator) -> Tensor:
    """uint8 (C, H, W) as a copy comes back: moved, mirrored, compressed and so on."""
    pixels = image.roll((1, -1), (1, 2)).flip(2).permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, format="JPEG", quality=75)
    with Image.open(file) as stored:
        decoded = np.asarray(stored, dtype=np.float64).reshape(pixels.shape)
    changed = (decoded + rng.integers(-2, 3, decoded.shape)) * 1.08
    return torch.from_numpy(changed.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}; give uint8 (N, 1 or 3, H, W)"
        )
    if min(images.shape[2:]) <= 2 * _REACH:
        raise ValueError(
            f"images are {tuple(images.shape[2:])} pixels; give at least {2 * _REACH + 1} a side"
        )
