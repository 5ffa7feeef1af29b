"""A labeler from few labels: a linear head on features that were learned without any.

The features are any differentiable network's, such as the activations of a pretrained generator
(`augment.DenoiserFeatures`). It is kept as a folder with `card.json` and `head.safetensors`; the
features' own weights are not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from scipy.special import expit
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn

from labeling.card import LabelerCard, read_card
from labeling.files import one_line, refuse_existing, scratch_path, write_text
from labeling.head import LinearHead, ProbeConfig, Regressions, Space, progress
from labeling.labeler import Labeler, check_images, preprocess
from labeling.thresholds import Floats, fit_thresholds

__all__ = ["Pixels", "fit_probe", "load_probe", "save_probe"]

CARD, HEAD = "card.json", "head.safetensors"
_BATCH = 128


class Pixels(Protocol):
    """N images by their positions: a tensor, or what reads some of a file when it is asked for."""

    @property
    def shape(self) -> torch.Size:
        """(N, 3, S, S)."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """uint8 (B, 3, S, S) of int64 (B,)."""


def fit_probe(
    features: nn.Module,
    train: tuple[Pixels, Tensor],
    val: tuple[Pixels, Tensor],
    attributes: Sequence[str],
    *,
    mirror: bool = True,
    source: str = "not stated",
    licence: str = "as the data's and the features'",
    command: str = "labeling.fit_probe",
    config: ProbeConfig | None = None,
) -> Labeler:
    """Fit a head, and its temperatures and thresholds.

    Args:
        features: float32 (N, 3, S, S) in [-1, 1] to (N, D), differentiable; used where it is.
        train: N images, of which a batch is held, and labels (N, A) of 1, 0 or NaN = unlabelled;
            the head is fitted on them.
        val: others, on which temperatures and thresholds are fitted.
        attributes: the A names.
        mirror: whether a mirrored image has the same attributes, so that it is fitted on too.
        source: what the images are, for the card.
        licence: terms, for the card.
        command: what makes it again, for the card.
        config: of the fit.

    Returns:
        The labeler; of an attribute without both values in `train` it knows nothing.

    Raises:
        ValueError: no attribute has both values, or images of another shape or type.
    """
    config = config or ProbeConfig()
    images, labels = train
    rows = _drawn(len(images), config.rows)
    val_images, val_labels = val
    known = [column for column in range(len(attributes)) if _has_both(labels[rows, column])]
    if not known:
        raise ValueError(
            f"none of {len(attributes)} attributes has both values among the {len(rows)} train "
            "rows; label more of them"
        )
    names = [attributes[column] for column in known]
    card = LabelerCard(
        architecture=f"a linear head on {type(features).__name__}",
        attributes=names,
        image_size=images.shape[-1],
        mean=[0.5] * 3,
        std=[0.5] * 3,
        thresholds={},
        source=source,
        licence=licence,
        command=command,
    )
    views = (False, True) if mirror else (False,)
    see = partial(_features, features, card=card)

    def seen(part: Tensor) -> Tensor:
        return torch.cat([see(images, part, mirror=mirrored) for mirrored in views])

    few = config.at_once(see(images, rows[:1]).shape[1] * len(views))
    parts = torch.split(rows if len(rows) <= few else _shuffled(rows), few)
    space, z = _components(seen, parts, config)
    shown = torch.cat([part.repeat(len(views)) for part in parts])
    fits = Regressions.fitted(z, labels[shown][:, known].numpy(), shown.tolist(), config)
    val_parts = torch.split(torch.arange(len(val_images)), few)
    val_z = np.concatenate([space.project(see(val_images, part)) for part in val_parts])
    truth = val_labels[:, known].numpy()
    fits = fits.tempered(val_z, truth)
    p = expit(fits.log_odds(val_z))
    thresholds = fit_thresholds(p, truth, names)
    told = {**asdict(card), "thresholds": thresholds, "scores": _scores(p, truth, thresholds)}
    return _labeler(LabelerCard(**told), features, space.head(fits))


def _components(
    seen: Callable[[Tensor], Tensor], parts: Sequence[Tensor], config: ProbeConfig
) -> tuple[Space, Floats]:
    """The space of the features of the first rows, and the components in it of all."""
    first = seen(parts[0])
    space = Space.of(first, config)
    others = (space.project(seen(part)) for part in parts[1:])
    return space, np.concatenate([space.project(first), *others])


def save_probe(folder: Path, labeler: Labeler) -> None:
    """Write the head and, last, the card of what `fit_probe` returned.

    Raises:
        ValueError: they stand there already.
    """
    refuse_existing(folder / CARD)
    folder.mkdir(parents=True, exist_ok=True)
    head = _head(labeler)
    scratch = scratch_path(folder / HEAD)
    try:
        scratch.write_bytes(_bytes(head))
        scratch.replace(folder / HEAD)
    finally:
        scratch.unlink(missing_ok=True)
    write_text(folder / CARD, json.dumps(asdict(labeler.card), indent=1))


@torch.no_grad()
def load_probe(folder: Path, features: nn.Module) -> Labeler:
    """The labeler that a folder's head makes of features.

    Args:
        folder: of `save_probe`.
        features: the module that the head was fitted on, with the same weights.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged, or they do not fit together.
    """
    for name in (CARD, HEAD):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"probe {folder} has no {name}; fit it again")
    card = read_card(folder / CARD, LabelerCard)
    try:
        state = load_file(folder / HEAD)
        head = LinearHead(state["weight"].shape[1], len(card.attributes))
        head.load_state_dict(state)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{folder / HEAD} is not the head of its card ({one_line(error)}); fit it again"
        ) from error
    seen = features(torch.zeros(1, 3, card.image_size, card.image_size, device=_device(features)))
    if seen.shape[1] != head.in_features:
        raise ValueError(
            f"{folder / HEAD} takes {head.in_features} features, and these are {seen.shape[1]}; "
            "give the features that it was fitted on"
        )
    return _labeler(card, features, head)


def _drawn(count: int, most: int) -> Tensor:
    """At most so many of `count` rows, in their order."""
    rows = torch.arange(count)
    return rows if count <= most else _shuffled(rows)[:most].sort().values


def _shuffled(rows: Tensor) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


def _labeler(card: LabelerCard, features: nn.Module, head: LinearHead) -> Labeler:
    sha256 = hashlib.sha256(_bytes(head)).hexdigest()
    return Labeler(card, nn.Sequential(features, head.to(_device(features))), sha256=sha256)


def _bytes(head: LinearHead) -> bytes:
    return save({name: value.cpu().contiguous() for name, value in head.state_dict().items()})


def _head(labeler: Labeler) -> LinearHead:
    assert isinstance(labeler.network, nn.Sequential)
    head = labeler.network[1]
    assert isinstance(head, LinearHead)
    return head


def _has_both(labels: Tensor) -> bool:
    return bool((labels == 1).any() and (labels == 0).any())


@torch.no_grad()
def _features(
    features: nn.Module, images: Pixels, rows: Tensor, card: LabelerCard, *, mirror: bool = False
) -> Tensor:
    """Features of some of the images, mirrored if wanted; float32 (len(rows), D) on the CPU."""
    found = []
    batches = torch.split(rows, _BATCH)
    for positions in progress(batches, "features of labelled images", unit="batch"):
        part = images[positions]
        check_images(part)
        part = part.flip(-1) if mirror else part
        part = preprocess(part.to(_device(features)).float() / 255, card)
        found.append(features(part).cpu())
    return torch.cat(found)


def _device(features: nn.Module) -> torch.device:
    return next((p.device for p in features.parameters()), torch.device("cpu"))


def _scores(
    p: np.ndarray, truth: np.ndarray, thresholds: dict[str, float]
) -> dict[str, dict[str, float | None]]:
    """Scores of the positive class at the thresholds, by attribute; None where none can be told."""
    scores: dict[str, dict[str, float | None]] = {}
    for column, (name, threshold) in enumerate(thresholds.items()):
        known = ~np.isnan(truth[:, column])
        y, decided = truth[known, column], p[known, column] >= threshold
        values: tuple[float | None, ...] = (None, None, None)
        if len(set(y)) == 2:
            found = precision_recall_fscore_support(y, decided, average="binary", zero_division=0)
            values = tuple(map(float, found[:3]))
        scores[name] = dict(zip(("precision", "recall", "f1"), values, strict=True))
    return scores
