"""Views of an image that no generator, guidance or labeler here has been fitted to.

Each turns images into features, and each sees what others are blind to: few pixels see where things
lie, the spectrum sees noise, blur and mosaics, a network of random weights sees colours and texture
(which serve where pretrained features mislead: Naeem et al. 2020, https://arxiv.org/abs/2002.09797,
Sec. 4.4). An `Encoder` is one more view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TEXTURE", "View", "batch_of", "few_pixels", "look", "plain_views"]

View = Callable[[Tensor], Tensor]
"""uint8 (N, 3, S, S) to floating (N, D)."""

TEXTURE = "random network"
"""The view of colours and texture, at which neither guidance nor a change of size aims."""
_SIDE = 8
"""Side of the view of few pixels."""
_WIDTHS = (32, 64, 128)
_AT_ONCE = 64 * 64**2
"""Pixels that are looked at at once: 64 images of 64 pixels per side, 4 of 256."""


def plain_views() -> dict[str, View]:
    """The views that need no weights from anywhere: pixels, spectrum, random network."""
    return {"pixels": few_pixels, "spectrum": _spectrum, TEXTURE: _RandomNetwork()}


def batch_of(side: int) -> int:
    """How many images of this size, in pixels, are looked at together; in another batch, what a
    network sees is rounded otherwise.
    """
    return max(1, min(64, _AT_ONCE // side**2))


@torch.no_grad()
def look(images: Tensor, views: Mapping[str, View]) -> dict[str, Tensor]:
    """What every view sees of images.

    Args:
        images: uint8 (N, 3, S, S), N >= 1, S >= 8.
        views: name -> view.

    Returns:
        name -> float32 (N, D) on the CPU.
    """
    batches = torch.split(images, batch_of(images.shape[-1]))
    return {
        name: torch.cat([view(batch).float().cpu() for batch in batches])
        for name, view in views.items()
    }


def few_pixels(images: Tensor) -> Tensor:
    """Uint8 (N, 3, S, S) at 8 x 8, float32 (N, 192) in [0, 1], channel by channel."""
    return F.adaptive_avg_pool2d(images.float() / 255, _SIDE).flatten(1)


def _spectrum(images: Tensor) -> Tensor:
    """(N, S/2 + 6): log10 of the grey image's power by spatial frequency (1 to S/2 waves per image,
    a mean over directions), and each channel's mean and standard deviation.
    """
    colour = images.float() / 255
    side = colour.shape[-1]
    power = torch.fft.fft2(colour.mean(dim=1)).abs().square() / side**2
    waves = torch.fft.fftfreq(side, 1 / side, device=images.device)
    radius = torch.hypot(waves[:, None], waves[None, :]).round().long()
    rings = torch.stack(
        [power[:, radius == waves].mean(dim=1) for waves in range(1, side // 2 + 1)], dim=1
    )
    # 1e-6 is the power of a hundredth of a grey level: below it is rounding.
    return torch.cat([(rings + 1e-6).log10(), colour.mean((2, 3)), colour.std((2, 3))], dim=1)


class _RandomNetwork(nn.Module):
    """Three convolutions of random weights, the same everywhere; mean and deviation by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):  # the caller's stream stays where it is
            torch.manual_seed(0)
            for channels, width in zip((3, *_WIDTHS), _WIDTHS, strict=False):
                layer = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect")
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.normal_(layer.bias, std=0.1)
                self.layers.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 (N, 448) of uint8 (N, 3, S, S)."""
        values, found = images.float() / 127.5 - 1, []
        for layer in self.layers:
            values = F.relu(layer(values))
            found += [values.mean((2, 3)), values.std((2, 3))]
            values = F.avg_pool2d(values, 2)
        return torch.cat(found, dim=1)
