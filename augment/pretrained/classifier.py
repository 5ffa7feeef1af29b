"""Classifiers of noised images: guided-diffusion's, for the classifier term of guidance.

The network is the encoder half of the denoisers' U-Net, hence made of diffusers' blocks, and an
attention pool, which diffusers does not have.

Reference: Dhariwal & Nichol 2021, sec. 4, https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from augment.denoiser import ImageFormat
from augment.pretrained.architecture import Architecture
from augment.pretrained.files import hold_to_hash, read_tensors, sha256_of
from augment.pretrained.guided_diffusion import build_unet, load_tensors, schedule_of
from augment.pretrained.options import CheckpointOptions, Settings
from augment.pretrained.recognise import read_architecture, recognise

__all__ = ["NoisedClassifier", "load_noised_classifier"]


class NoisedClassifier(nn.Module):
    """log p(y | x_t, t) up to a constant, for images noised by `schedule`."""

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        width, side = architecture.widths[-1], architecture.pool or 1
        self.image = ImageFormat(channels=architecture.in_channels, size=settings.image_size)
        self.schedule = schedule_of(settings)
        self.classes = architecture.out_channels
        self.card = dict(card or {})
        unet: Any = build_unet(architecture, settings)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks
        self.mid_block = unet.mid_block
        self.norm = nn.GroupNorm(32, width)
        self.pool = AttentionPool(width, side, settings.heads_of(width), self.classes)

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
    """Load a guided-diffusion classifier of noised images, frozen, in evaluation mode.

    Args:
        path: its `.pt` file.
        options: what the tensors cannot tell of a file that is no known checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such classifier, tensors are missing, or it takes an option to know
            it entirely; the message says which.
    """
    path, options = Path(path).expanduser(), options or CheckpointOptions()
    state = read_tensors(path)
    architecture = read_architecture(state, path, options.image_size)
    if architecture.pool is None:
        raise ValueError(
            f"{path} is a denoiser; allowed is a noised classifier with an attention pool; "
            "give it to load_denoiser or load_upsampler"
        )
    # Its size is told by the pool's grid, whatever the card of one built alike says.
    told = architecture.pool * 2 ** (len(architecture.widths) - 1)
    sha256 = sha256_of(path)
    recognised = recognise(architecture, sha256, replace(options, image_size=told), path)
    with torch.device("meta"):
        classifier = NoisedClassifier(
            architecture, recognised.settings, recognised.card(path, sha256)
        )
    load_tensors(classifier, state, architecture, recognised.settings, path)
    hold_to_hash(path, sha256)
    return classifier.eval().requires_grad_(False)
