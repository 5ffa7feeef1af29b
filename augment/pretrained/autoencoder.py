"""The autoencoders of latent models, as `Latents`: AutoencoderKL and VQModel of diffusers.

    z = scale (E(x) - shift),      x = D(z / scale + shift)

The scale brings the latents to about unit variance; it is read from the folder. They run in
float32, whatever precision the denoiser has, as SDXL's overflows in half of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from augment.denoiser import ImageFormat, Latents
from augment.distance import Distance
from augment.pretrained.parts import load_part, read_json

__all__ = ["Autoencoder", "DecodedDistance", "load_autoencoder"]

_PIXELS = 1 << 20
"""Pixels that are coded at a time: one image of 1024 a side, four of 512."""


class Autoencoder(nn.Module):
    """An autoencoder of square images, frozen."""

    def __init__(self, network: Any, size: int) -> None:
        """
        Args:
            network: diffusers' AutoencoderKL or VQModel, its scaling factor configured.
            size: height and width of the latents.
        """
        super().__init__()
        config = network.config
        self.network = network.eval().requires_grad_(False)
        self.quantises = isinstance(network, diffusers.VQModel)
        self.scale = float(config["scaling_factor"])
        self.shift = float(config.get("shift_factor") or 0)
        self.shape: tuple[int, int, int] = (config["latent_channels"], size, size)
        side = size * 2 ** (len(config["block_out_channels"]) - 1)
        self.image = ImageFormat(channels=config["out_channels"], size=side)
        self._at_once = max(_PIXELS // side**2, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Latents, float32 (B, c, h, w), of images (B, C, H, W) in [-1, 1]; of a distribution, its
        mode.
        """
        with torch.autocast(images.device.type, enabled=False):
            parts = torch.split(images.float(), self._at_once)
            found = [self.network.encode(part) for part in parts]
        codes = [one.latents if self.quantises else one.latent_dist.mode() for one in found]
        return self.scale * (torch.cat(codes) - self.shift)

    def decode(self, latents: Tensor, *, smooth: bool = False) -> Tensor:
        """Images float32 (B, C, H, W), about [-1, 1], a few at a time.

        With `smooth`, those of a VQModel are not quantised, which has no gradient.
        """
        codes = latents.float() / self.scale + self.shift
        options = {"force_not_quantize": True} if smooth and self.quantises else {}
        with torch.autocast(latents.device.type, enabled=False):
            parts = [
                self.network.decode(part, **options).sample
                for part in torch.split(codes, self._at_once)
            ]
        return torch.cat(parts)


class DecodedDistance:
    """A distance between the images of latents, at a pass through the decoder and back."""

    def __init__(self, distance: Distance, latents: Latents) -> None:
        """
        Args:
            distance: of images.
            latents: those of the model (`Denoiser.latents`).
        """
        self.distance, self.latents = distance, latents

    def __repr__(self) -> str:
        return f"DecodedDistance({self.distance!r})"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,) of latents (B, c, h, w), differentiable in `a`."""
        decode = self.latents.decode
        return self.distance(decode(a, smooth=True), decode(b, smooth=True))


def load_autoencoder(folder: Path, size: int) -> Autoencoder:
    """The autoencoder in a folder, for latents of `size` a side.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: another kind, an unknown scale of the latents, or images that are not pixels.
    """
    stated = read_json(folder / "config.json")
    network = load_part(folder, diffusers.AutoencoderKL, diffusers.VQModel)
    # An AutoencoderKL without it is older than the setting, whose default is what was then fixed.
    if stated["_class_name"] == "VQModel" and stated.get("scaling_factor") is None:
        raise ValueError(
            f"{folder / 'config.json'} has no scaling_factor, for which diffusers takes .18215 "
            "and CompVis' own VQ models have 1; write the one that the model was trained with there"
        )
    for name in ("latents_mean", "latents_std"):
        if network.config.get(name) is not None:
            raise ValueError(
                f"{folder} has {name}, a scale for each channel; allowed is scaling_factor, one "
                "for all; give such a model"
            )
    autoencoder = Autoencoder(network, size)
    if autoencoder.image.channels not in (1, 3):
        raise ValueError(
            f"{folder} makes images of {autoencoder.image.channels} channels; allowed are 1 (grey) "
            "and 3 (RGB); give such a model"
        )
    return autoencoder
