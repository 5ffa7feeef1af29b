"""The blocks of guided-diffusion restated in plain PyTorch, with its names of tensors.

Written for the tests from the paper and the released state dicts' names, without diffusers, so that
a converted network can be held against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate


@dataclass(frozen=True, kw_only=True)
class Adm:
    """Flags of guided-diffusion; the defaults make a tiny network of 16 pixels."""

    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    attention: tuple[int, ...] = (1,)
    order: str = "new"
    heads: int | None = None
    head_channels: int = 16
    in_channels: int = 3
    out_channels: int = 6
    classes: int | None = None
    scale_shift: bool = True
    residual_steps: bool = True
    size: int = 16

    def heads_of(self, width: int) -> int:
        return self.heads or width // self.head_channels


class Residual(nn.Module):
    """norm, SiLU, (resample), convolution, time, norm, SiLU, convolution, plus the input."""

    def __init__(self, adm: Adm, before: int, after: int, resample: str = "none") -> None:
        super().__init__()
        self.resample, self.scale_shift = resample, adm.scale_shift
        time = 4 * adm.widths[0]
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(time, 2 * after if adm.scale_shift else after)
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, after),
            nn.SiLU(),
            nn.Dropout(0.1),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return avg_pool2d(x, 2)
        return interpolate(x, scale_factor=2) if self.resample == "up" else x

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        norm, silu, convolution = self.in_layers
        h = convolution(self.resampled(silu(norm(x))))
        shift = self.emb_layers(time)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + shift)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self.resampled(x)) + h


def attend(rows: Tensor, heads: int, order: str) -> Tensor:
    """Softmax attention of rows (B, 3C, T), one head at a time."""
    width = rows.shape[1] // 3
    d = width // heads
    results = []
    for head in range(heads):
        if order == "new":
            q, k, v = (rows[:, part * width + head * d :][:, :d] for part in range(3))
        else:
            q, k, v = (rows[:, (3 * head + part) * d :][:, :d] for part in range(3))
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(d), dim=-1)
        results.append(torch.einsum("bts,bcs->bct", weights, v))
    return torch.cat(results, dim=1)


class Attention(nn.Module):
    """Self-attention over the pixels, plus the input."""

    def __init__(self, adm: Adm, width: int) -> None:
        super().__init__()
        self.heads, self.order = adm.heads_of(width), adm.order
        self.norm = nn.GroupNorm(32, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        pixels = x.flatten(2)
        attended = attend(self.qkv(self.norm(pixels)), self.heads, self.order)
        return x + self.proj_out(attended).reshape(x.shape)


class Down(nn.Module):
    """A strided convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    """Nearest neighbours, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2))


class First(nn.Conv2d):
    """The first convolution, which takes no notice of the time."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return super().forward(x)


def run(modules: Sequence[nn.Module], x: Tensor, time: Tensor) -> Tensor:
    for module in modules:
        x = module(x, time)
    return x


class Encoder(nn.Module):
    """The time embedding, the input blocks and the middle."""

    def __init__(self, adm: Adm) -> None:
        super().__init__()
        self.adm = adm
        first, deepest = adm.widths[0], adm.widths[-1]
        self.time_embed = nn.Sequential(
            nn.Linear(first, 4 * first), nn.SiLU(), nn.Linear(4 * first, 4 * first)
        )
        if adm.classes is not None:
            self.label_emb = nn.Embedding(adm.classes, 4 * first)
        blocks = [nn.ModuleList([First(adm.in_channels, first, 3, padding=1)])]
        self.skips = [first]
        width = first
        for level, after in enumerate(adm.widths):
            for _ in range(adm.blocks):
                block = nn.ModuleList([Residual(adm, width, after)])
                if level in adm.attention:
                    block.append(Attention(adm, after))
                width = after
                blocks.append(block)
                self.skips.append(width)
            if level < len(adm.widths) - 1:
                step = Residual(adm, width, width, "down") if adm.residual_steps else Down(width)
                blocks.append(nn.ModuleList([step]))
                self.skips.append(width)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.ModuleList(
            [
                Residual(adm, deepest, deepest),
                Attention(adm, deepest),
                Residual(adm, deepest, deepest),
            ]
        )

    def encode(
        self, x: Tensor, t: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        half = self.adm.widths[0] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = t.float()[:, None] * frequencies
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if labels is not None:
            time = time + self.label_emb(labels)
        kept = []
        for block in self.input_blocks:
            x = run(block, x, time)
            kept.append(x)
        return run(self.middle_block, x, time), kept, time


class AdmUnet(Encoder):
    """The denoiser."""

    def __init__(self, adm: Adm) -> None:
        super().__init__(adm)
        skips, width, blocks = list(self.skips), adm.widths[-1], []
        for level, after in reversed(list(enumerate(adm.widths))):
            for number in range(adm.blocks + 1):
                block = nn.ModuleList([Residual(adm, width + skips.pop(), after)])
                width = after
                if level in adm.attention:
                    block.append(Attention(adm, width))
                if level and number == adm.blocks:
                    block.append(
                        Residual(adm, width, width, "up") if adm.residual_steps else Up(width)
                    )
                blocks.append(block)
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, adm.out_channels, 3, padding=1)
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        h, kept, time = self.encode(x, t, labels)
        for block in self.output_blocks:
            h = run(block, torch.cat([h, kept.pop()], dim=1), time)
        return self.out(h)


class Pool(nn.Module):
    """Attention among the pixels and their mean, of which the mean's result is kept."""

    def __init__(self, adm: Adm) -> None:
        super().__init__()
        width, side = adm.widths[-1], adm.size // 2 ** (len(adm.widths) - 1)
        self.heads = adm.heads_of(width)
        self.positional_embedding = nn.Parameter(torch.empty(width, side * side + 1))
        self.qkv_proj = nn.Conv1d(width, 3 * width, 1)
        self.c_proj = nn.Conv1d(width, adm.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)
        tokens = torch.cat([pixels.mean(dim=2, keepdim=True), pixels], dim=2)
        rows = self.qkv_proj(tokens + self.positional_embedding)
        return self.c_proj(attend(rows, self.heads, "new"))[:, :, 0]


class AdmClassifier(Encoder):
    """The classifier of noised images."""

    def __init__(self, adm: Adm) -> None:
        super().__init__(adm)
        self.out = nn.Sequential(nn.GroupNorm(32, adm.widths[-1]), nn.SiLU(), Pool(adm))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.out(self.encode(x, t, None)[0])


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights of a size that lets every one of them matter, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                module.weight.add_(1)
    return network.eval()
