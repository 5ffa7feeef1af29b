"""An encoder: uint8 images in, one feature vector an image out.

It owns its preprocessing, and a card that says all its features depend on. So whoever calls it
needs to know neither the network's size nor its normalisation, and features can be kept by card.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from augment.state_hash import state_sha256

__all__ = ["Encoder", "EncoderCard", "Preprocessing"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From uint8 images of any size to what a network takes.

    The whole image is resized to a square, its proportions aside, in float32 and without rounding
    in between (as clean-fid does), clipped to [0, 255] where bicubic overshoots, and normalised.
    """

    size: int
    """Side in pixels of the square image that the network sees."""
    mean: Sequence[float]
    """Mean of R, G and B, of images in [0, 1]."""
    std: Sequence[float]
    """Standard deviation of R, G and B, of images in [0, 1]."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How an image is resized."""
    antialias: bool = True
    """Whether shrinking averages over all it shrinks, as Pillow does; pytorch-fid's does not."""

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}; give the side in pixels, 1 or more")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, str) or len(value) != 3 or not all(map(math.isfinite, value)):
                raise ValueError(f"{name} is {value!r}; give 3 finite numbers, of R, G and B")
            object.__setattr__(self, name, tuple(map(float, value)))
        if min(self.std) <= 0:
            raise ValueError(f"std is {self.std}; give 3 numbers above 0")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(
                f"interpolation is {self.interpolation!r}; give bilinear or bicubic, the one "
                "that the network was trained with"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 1 or 3, H, W), grey repeated, to normalised float32 (N, 3, size, size)."""
        pixels = images.float().expand(-1, 3, -1, -1)
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(
                pixels, (self.size, self.size), mode=self.interpolation, antialias=self.antialias
            ).clamp(0, 255)
        mean, std = (pixels.new_tensor(value).view(3, 1, 1) for value in (self.mean, self.std))
        return (pixels / 255 - mean) / std


@dataclass(frozen=True, kw_only=True)
class EncoderCard:
    """Everything that an encoder's features depend on, and where it is from."""

    name: str
    """What it is called, in tables and plots."""
    architecture: str
    """Name of the network."""
    layer: str
    """Which of its values the features are."""
    preprocessing: Preprocessing
    """What it does to an image first."""
    sha256: str
    """Hash of the weights: of their file, or of the tensors in memory (`state_sha256`)."""
    source: str
    """Where the weights are from."""

    @property
    def key(self) -> str:
        """32 hexadecimal digits, the same for encoders that give the same features.

        Neither the name nor the source has a part in it.
        """
        # The number is of how files are decoded: features kept under an earlier one are not these.
        content: dict[str, Any] = {"decoding": 2, **asdict(self)}
        del content["name"], content["source"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


class Encoder:
    """A frozen network behind its preprocessing.

    Args:
        network: float32 (N, 3, size, size) in, features out, of whatever shape after the first
            dimension; frozen here and put in evaluation mode.
        card: what it is; `Encoder.of` writes one for any module.
    """

    def __init__(self, network: nn.Module, card: EncoderCard) -> None:
        self.network = network.eval()
        for parameter in network.parameters():  # at once is not for TorchScript
            parameter.requires_grad_(False)
        self.card = card
        tensors = (*network.parameters(), *network.buffers(), torch.empty(0))
        self._device = tensors[0].device

    @classmethod
    def of(cls, network: nn.Module, preprocessing: Preprocessing, *, name: str) -> Encoder:
        """An encoder around any module, whose output are the features."""
        kind = type(network).__name__
        sha256 = state_sha256(network.state_dict())
        card = EncoderCard(
            name=name,
            architecture=f"{kind} {hashlib.sha256(repr(network).encode()).hexdigest()[:8]}",
            layer="output",
            preprocessing=preprocessing,
            sha256=sha256,
            source=f"a {kind} in memory",
        )
        return cls(network, card)

    def __repr__(self) -> str:
        return f"Encoder({self.card.name!r}, {self.card.key[:8]})"

    def to(self, device: torch.device | str) -> Encoder:
        """Move the network to a device, in place; returns itself."""
        self._device = torch.device(device)
        self.network.to(self._device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Features of images.

        Args:
            images: uint8 (N, C, H, W), or N images (C, H, W) of unlike sizes; C is 1 or 3.

        Returns:
            float32 (N, D) on the encoder's device.

        Raises:
            ValueError: none, or images of another type or shape.
        """
        network_inputs = [self._prepared(group) for group in _groups(images)]
        output = self.network(torch.cat(network_inputs))
        if not isinstance(output, Tensor):
            raise ValueError(
                f"encoder {self.card.name} gives a {type(output).__name__}; wrap the network "
                "in one that returns its features, a tensor (N, ...)"
            )
        return output.flatten(1).float()

    def _prepared(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}; give uint8 (N, 1 or 3, H, W)"
            )
        return self.card.preprocessing(images.to(self._device))


def _groups(images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The images in stacks of one size, in order."""
    if not len(images):
        raise ValueError("there is no image to encode; give 1 or more")
    if isinstance(images, Tensor):
        return [images]
    if len({image.shape for image in images}) == 1:
        return [torch.stack(list(images))]
    return [image.unsqueeze(0) for image in images]
