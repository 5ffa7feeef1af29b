"""The minority score: how badly a generator restores an image from noise (Eq. 5).

Reference: Um, Lee & Ye 2024, "Don't Play Favorites: Minority Guidance for Diffusion Models",
https://arxiv.org/abs/2301.12334
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from augment.denoiser import Denoiser, ImageFormat
from augment.devices import settled
from augment.distance import Distance
from augment.images import ImageFiles, Read, centre_crop
from augment.noise import SCORE, NoiseStream
from augment.sampler import class_labels
from augment.schedule import Schedule

__all__ = ["ScoreConfig", "check_classes", "minority_classes", "minority_score", "score_files"]

_CHAIN = 100
"""Steps of the respacing whose index `perturb` is, as in the official code."""
_ALPHA_BAR = 0.03
"""Signal left, at most, where `perturb` is left out: index 60 if linear, 90 if cosine."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How images are noised and restored."""

    perturb: int | None = None
    """How much noise: an index of 100 steps, 0 to 99; left out, the papers' 60 or 90."""
    samples: int = 5
    """How many times each image is noised and restored; the score is the mean."""
    batch_size: int = 64
    """Images at a time on each device; changes only the rounding."""
    seed: int = 0
    """Another seed draws other noise; an image's own follows from it and the pixels alone."""

    def __post_init__(self) -> None:
        if self.perturb is not None and not 0 <= self.perturb < _CHAIN:
            raise ValueError(
                f"score.perturb is {self.perturb}; give 0 to {_CHAIN - 1}: the paper's are 60 for "
                "linear schedules, 90 for cosine ones"
            )
        for name, least in (("samples", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"score.{name} is {getattr(self, name)}; give at least {least}")

    def index(self, schedule: Schedule) -> int:
        """`perturb` on a respaced schedule; left out, the first ten of low enough signal."""
        if self.perturb is not None:
            return self.perturb
        tens = range(0, len(schedule), 10)
        low = (i for i in tens if schedule.alpha_bar[i] <= _ALPHA_BAR)
        return next(low, len(schedule) - 1)


@torch.no_grad()
def minority_score(
    denoiser: Denoiser,
    images: Tensor,
    distance: Distance,
    config: ScoreConfig = ScoreConfig(),
    labels: Tensor | None = None,
) -> Tensor:
    """Eq. 5: the mean, over draws of noise e, of d(x, x0) with

        x0 = clip(x0h(sqrt(alpha_bar) x + sqrt(1 - alpha_bar) e), -1, 1).

    Args:
        denoiser: the generator.
        images: uint8 (B, C, H, W) of its format.
        distance: d; the official code's is LPIPS with VGG.
        config: how much noise and how many draws.
        labels: the images' classes, int64 (B,), for a class-conditional denoiser.

    Returns:
        float32 (B,) on the CPU, one score per image, whatever images are beside it.

    Raises:
        ValueError: images of another format, or a class-conditional denoiser without labels.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != denoiser.image.shape:
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}; give uint8 (B, C, H, W) with the "
            f"generator's {denoiser.image.shape}, cropped by `centre_crop`"
        )
    denoiser.check_labels(labels)
    device = denoiser.device
    schedule = denoiser.schedule.respaced(_CHAIN)
    i = config.index(schedule)
    x = denoiser.encoded(ImageFormat.from_uint8(images).to(device))
    given = None if labels is None else labels.to(device)
    noise = NoiseStream(_seeds(images, config.seed), SCORE, denoiser.shape, device)
    total = torch.zeros(len(x), device=device)
    for _ in range(config.samples):
        x_i = schedule.q_sample(x, i, noise.draw())
        x0 = schedule.predict_x0(x_i, i, denoiser(x_i, i, schedule, given).eps)
        total += distance(x, x0 if denoiser.latents else x0.clamp(-1, 1))
    return (total / config.samples).cpu()


def minority_classes(
    scores: ArrayLike, count: int, fitted_on: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Classes of equal size by quantiles of the score; the last holds the most minor images.

    With q_j the quantile (j + 1) / count of the scores, class 0 is what is at most q_0, and class j
    what is above q_{j-1} and at most q_j.

    Args:
        scores: (N,).
        count: L, at least 2; the official code's is 100.
        fitted_on: (M,) scores that the quantiles are of, if not these.

    Returns:
        int64 (N,) in 0..count - 1.

    Raises:
        ValueError: see `check_classes`.
    """
    fitted = np.asarray(scores if fitted_on is None else fitted_on, dtype=np.float64)
    check_classes(count, len(fitted))
    inner = np.quantile(fitted, np.arange(1, count) / count)
    return np.searchsorted(inner, np.asarray(scores), side="left").astype(np.int64)


def check_classes(count: int, scores: int) -> None:
    """Refuse a number of classes that so many scores cannot be cut into."""
    if not 2 <= count <= scores:
        raise ValueError(
            f"classes is {count} for {scores} scores; give 2 to as many classes as there are scores"
        )


def score_files(
    denoiser: Denoiser,
    paths: Sequence[str | Path],
    distance: Distance,
    *,
    read: Read,
    config: ScoreConfig = ScoreConfig(),
    labels: Sequence[int] | None = None,
    fabric: Fabric | None = None,
) -> NDArray[np.float32]:
    """`minority_score` of image files, cropped and resized as the official code does.

    Args:
        denoiser: the generator.
        paths: the images.
        distance: d.
        read: how a file is decoded, `classify.datasets.read_image` for instance.
        config: how much noise, how many draws, images at a time.
        labels: the class of each, for a class-conditional denoiser.
        fabric: a launched Lightning Fabric, to whose device the denoiser is moved and whose
            processes take batches in turn; left out, this process works where the denoiser is.

    Returns:
        float32 (N,) in every process.

    Raises:
        ValueError: an image does not decode, a score is not finite, or classes are missing, beyond
            the generator's, or given to one that has none.
    """
    classes = None if labels is None else class_labels(denoiser, range(len(paths)), labels)
    denoiser.check_labels(classes)
    fabric = settled(denoiser, fabric)
    image = denoiser.image
    files = ImageFiles(paths, read, size=image.size, channels=image.channels, crop=centre_crop)
    scores = torch.zeros(len(files))
    batches = torch.split(torch.arange(len(files)), config.batch_size)
    mine = batches[fabric.global_rank :: fabric.world_size]
    for rows in tqdm(mine, "score", unit="batch", disable=not fabric.is_global_zero):
        images = files[rows]
        given = None if classes is None else classes[rows]
        found = minority_score(denoiser, images, distance, config, given)
        if len(bad := rows[~found.isfinite()]):
            raise ValueError(
                f"the score of {paths[int(bad[0])]} is not finite; take another generator or "
                "another distance"
            )
        scores[rows] = found
    summed: Tensor = fabric.all_reduce(scores, reduce_op="sum")  # type: ignore[assignment]
    return summed.cpu().numpy()


def _seeds(images: Tensor, seed: int) -> list[int]:
    """One seed per image, by its pixels: neither its place nor its name decides its noise."""
    key = seed.to_bytes(8, "little")
    contents = (image.cpu().numpy().tobytes() for image in images)
    digests = (hashlib.blake2b(c, digest_size=8, key=key).digest() for c in contents)
    return [int.from_bytes(digest, "little") for digest in digests]
