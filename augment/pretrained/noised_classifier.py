"""Classifiers of noised images, for the classifier term of guidance: guided-diffusion's or ours.

The network is the encoder half of the denoisers' U-Net, hence made of diffusers' blocks, and an
attention pool, which diffusers does not have. Weights come as a `.pt` file of guided-diffusion, or
as a folder of safetensors and a card, which `augment.train_classifier` writes.

Reference: Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from augment.denoiser import ImageFormat
from augment.files import one_line
from augment.pretrained.architecture import Architecture
from augment.pretrained.checkpoints import CheckpointOptions, Settings
from augment.pretrained.files import CARD, replacing, sha256_of
from augment.pretrained.guided_diffusion import build_unet, load_network, schedule_of

__all__ = ["NoisedClassifier", "load_noised_classifier", "save_noised_classifier"]

_WEIGHTS = "model.safetensors"


class NoisedClassifier(nn.Module):
    """log p(y | x_t, t) up to a constant for each head, for images noised by `schedule`.

    `heads` are the names of what it tells and how many classes each has, in the order of the
    logits; a card with `heads`, name -> names of the classes, says so, and without it there is one.
    """

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.architecture, self.settings = architecture, settings
        width, side = architecture.widths[-1], architecture.pool or 1
        self.image = ImageFormat(channels=architecture.in_channels, size=settings.image_size)
        self.schedule = schedule_of(settings)
        self.card = dict(card or {})
        named: Mapping[str, Any] = self.card.get("heads") or {}
        self.heads = {name: len(classes) for name, classes in named.items()}
        if not self.heads:
            self.heads = {"class": architecture.out_channels}
        unet: Any = build_unet(architecture, settings)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block = unet.mid_block
        self.norm = nn.GroupNorm(32, width)
        self.pool = AttentionPool(width, side, settings.heads_of(width), sum(self.heads.values()))

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Logits (B, classes) of noisy images `x` (B, C, H, W) at timesteps int64 (B,).

        Timesteps are the schedule's own, not indices of a respacing.
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(x.dtype))
        hidden = self.conv_in(x)
        for block in self.down_blocks:
            hidden, _ = block(hidden, embedding)
        hidden = self.mid_block(hidden, embedding)
        logits: Tensor = self.pool(silu(self.norm(hidden)))
        return logits


class AttentionPool(nn.Module):
    """One step of self-attention from the mean of all positions, then a linear layer (CLIP's)."""

    def __init__(self, width: int, side: int, heads: int, classes: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(width, side**2 + 1) / width**0.5)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, classes)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, side, side) to (B, classes)."""
        pixels = hidden.flatten(2)
        tokens = torch.cat([pixels.mean(2, keepdim=True), pixels], dim=2) + self.positions
        rows = self.qkv(tokens.transpose(1, 2)).unflatten(2, (3, self.heads, -1))
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        pooled: Tensor = self.out(
            scaled_dot_product_attention(query[:, :, :1], key, value).flatten(1)
        )
        return pooled


def load_noised_classifier(
    path: str | Path, options: CheckpointOptions | None = None
) -> NoisedClassifier:
    """Load a classifier of noised images, frozen, in evaluation mode.

    Args:
        path: a guided-diffusion `.pt` file, or a folder of `augment.train_classifier`.
        options: what the tensors cannot tell of a file that is no known checkpoint.

    Raises:
        FileNotFoundError: there is no such file, or a part of the folder is missing.
        ValueError: it is no such classifier, tensors are missing, or it takes an option to know
            it entirely; the message says which.
    """
    path, given = Path(path).expanduser(), options or CheckpointOptions()
    if not path.is_dir():
        found = load_network(path, given, NoisedClassifier, classifier=True)
        classifier = found.network
        classifier.card = found.card
    elif given == CheckpointOptions():
        classifier = _load_folder(path)
    else:
        raise ValueError(
            f"{path} is a folder, whose card says everything; options are allowed for a .pt "
            "file only; leave them out"
        )
    return classifier.eval().requires_grad_(False)


def save_noised_classifier(
    classifier: NoisedClassifier, folder: Path, *, card: Mapping[str, Any]
) -> None:
    """Write a classifier's weights and card; those of an earlier one in the folder are replaced.

    Args:
        classifier: left as it is.
        folder: made if absent.
        card: where the weights came from, and what their classes mean.
    """
    described = {
        "architecture": asdict(classifier.architecture),
        "settings": asdict(classifier.settings),
        **card,
    }
    weights = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    with replacing(folder) as written:
        save_file(weights, written / _WEIGHTS)
        (written / CARD).write_text(json.dumps(described, indent=2, default=str) + "\n")


def _load_folder(folder: Path) -> NoisedClassifier:
    """The classifier that `save_noised_classifier` wrote."""
    for name in (CARD, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing; give a folder of augment.train_classifier, or a "
                "guided-diffusion .pt file"
            )
    try:
        card = dict(json.loads((folder / CARD).read_text()))
        architecture: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value  # JSON knows no tuple
            for name, value in card["architecture"].items()
        }
        classifier = NoisedClassifier(
            Architecture(**architecture),
            Settings(**card["settings"]),
            {"source": str(folder), **card, "sha256": sha256_of(folder / _WEIGHTS)},
        )
        classifier.load_state_dict(load_file(folder / _WEIGHTS))
    except Exception as error:  # A card can be wrong in as many ways as it has values.
        raise ValueError(
            f"the card and weights in {folder} make no classifier ({one_line(error)}); "
            "give the folder as it was saved"
        ) from error
    return classifier
