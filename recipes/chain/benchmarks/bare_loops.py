"""Labelling and training as the toolkit does them, and the same work in loops written by hand.

The loops are plain PyTorch, with the channels last in memory, as a tuning guide has it: no policy,
no progress, no state that a stopped run continues from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from classify import FitConfig, Images, decode_tables, fit, label_tensor
from classify.datasets.avatars import ATTRIBUTES, avatar_table
from labeling import Labeler, pseudo_label

__all__ = ["LOOPS", "Classified", "bare_labels"]

_AT_ONCE = 256
"""Images that are labelled at a time, as `pseudo_label` takes them."""
_FIT = FitConfig(epochs=2, rounds=1)
_VALIDATED = 128


class Classified(NamedTuple):
    """Embedded images to label and to train on."""

    train: pd.DataFrame
    val: pd.DataFrame
    images: Images
    """Both, decoded."""
    attributes: list[str]
    """Those that can be learned from them."""
    labeler: Labeler

    @classmethod
    def drawn(cls, folder: Path, images: int, labeler: Labeler) -> Classified:
        """So many images to train on, drawn into a folder."""
        table = avatar_table(folder, train=images, val=_VALIDATED, test=0)
        train, val = (table[table["split"] == split] for split in ("train", "val"))
        learnable = [name for name in ATTRIBUTES if (train[name] == 1).any()]
        decoded = decode_tables([train, val], _FIT.image_size)
        return cls(train, val, decoded, learnable, labeler)


_Loop = Callable[[Classified], int]


def _labelled(of: Classified) -> int:
    return len(pseudo_label(of.train, of.labeler, of.labeler.attributes, batch_size=_AT_ONCE))


def bare_labels(of: Classified) -> Tensor:
    """Whether each train image has each of the labeler's attributes, bool (N, A)."""
    card, device, found = of.labeler.card, of.labeler.device, []
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (card.mean, card.std))
    method = Image.Resampling[card.interpolation.upper()]
    for first in range(0, len(of.train), _AT_ONCE):
        paths = of.train["path"].iloc[first : first + _AT_ONCE]
        opened = (Image.open(path).convert("RGB") for path in paths)
        images = np.stack([np.asarray(i.resize((card.image_size,) * 2, method)) for i in opened])
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found.append(of.labeler.network((x - mean) / std).sigmoid().cpu())
    thresholds = torch.tensor(list(of.labeler.thresholds.values()))
    return torch.cat(found) >= thresholds


def _labelled_bare(of: Classified) -> int:
    return len(bare_labels(of))


def _trained(of: Classified) -> int:
    device = of.labeler.device
    result = fit(of.train, of.val, of.attributes, _FIT, images=of.images, device=device)
    return result.steps * _FIT.batch_size


def _trained_bare(of: Classified) -> int:
    """The network, optimiser, batches and random mirroring of `_trained`, and one validation."""
    device, size = of.labeler.device, _FIT.batch_size
    (x, y), (val, _) = (_pixels_and_labels(of, table) for table in (of.train, of.val))
    network = torchvision.models.resnet18(num_classes=len(of.attributes))
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), _FIT.lr, fused=True)
    steps = _FIT.steps(len(x))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _FIT.lr, steps)
    order = torch.cat([torch.randperm(len(x)) for _ in range(-(-steps * size // len(x)))])
    for rows in torch.split(order[: steps * size], size):
        images = x[rows].to(device)
        mirrored = torch.rand(size, 1, 1, 1, device=device) < 0.5
        logits = network(_normalised(torch.where(mirrored, images.flip(-1), images)))
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(logits, y[rows].to(device))
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        network(_normalised(val.to(device))).sigmoid().cpu()
    return steps * size


def _pixels_and_labels(of: Classified, table: pd.DataFrame) -> tuple[Tensor, Tensor]:
    return of.images.pixels[of.images.rows(table)], label_tensor(table, of.attributes)


def _normalised(images: Tensor) -> Tensor:
    x = (images.float() / 255 - 0.45) / 0.225
    return x.contiguous(memory_format=torch.channels_last)


LOOPS: Mapping[str, tuple[_Loop, _Loop]] = {
    "labelling": (_labelled, _labelled_bare),
    "training": (_trained, _trained_bare),
}
"""Ours and the bare one; each gives the number of images it went through."""
