"""EDM's U-Nets, DDPM++ (SongUNet) and ADM (DhariwalUNet), by their own tensors' names.

diffusers has neither: its UNet2DModel computes no sum of two branches over sqrt(2), and has one
number of groups for all widths. What a network is like is read off its tensors.

Reference: Karras et al. 2022, appendix F.1, https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from augment.files import one_line

__all__ = ["Architecture", "EdmUNet", "architecture_of"]

_HEAD = 64
"""Channels of an attention head of ADM's; DDPM++ has one head of all."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the tensors tell of a network."""

    adm: bool
    """ADM's conventions or DDPM++'s, which differ in what no tensor tells."""
    size: int
    """Height and width of the images in pixels."""
    channels: int
    classes: int | None
    """Number of the images' classes; None if it knows none."""
    encoder: Sequence[str]
    """Names of its blocks in order, such as 64x64_conv, 64x64_block0, 32x32_down."""
    decoder: Sequence[str]


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture of tensors by EDM's names, in the network's own order.

    Raises:
        ValueError: it is neither of the two; the message says what was met.
    """
    parts = {side: list(dict.fromkeys(_blocks(state, side))) for side in ("enc", "dec")}
    first = next(iter(parts["enc"]), "")
    if not first.endswith("_conv") or f"enc.{first}.weight" not in state or not parts["dec"]:
        raise ValueError(f"its {len(state)} tensors are of no U-Net of EDM (enc.64x64_conv ...)")
    if odd := [b for b in parts["enc"] if "aux" in b] or [b for b in parts["dec"] if "aux_up" in b]:
        raise ValueError(f"it has a block {odd[0]}, as NCSN++ networks (ve) have")
    if any(not torch.allclose(t, torch.full_like(t, 0.25)) for n, t in state.items() if _filter(n)):
        raise ValueError("it resamples by another filter than [1, 1], as NCSN++ networks (ve) do")
    labels = state.get("map_label.weight")
    return Architecture(
        adm="out_conv.weight" in state,
        size=int(first.split("x")[0]),
        channels=state[f"enc.{first}.weight"].shape[1],
        classes=None if labels is None else labels.shape[1],
        encoder=parts["enc"],
        decoder=parts["dec"],
    )


def _blocks(state: Mapping[str, Tensor], side: str) -> list[str]:
    return [name.split(".")[1] for name in state if name.startswith(f"{side}.")]


def _filter(name: str) -> bool:
    return name.endswith("resample_filter")


class EdmUNet(nn.Module):
    """F of the preconditioned denoiser: images and noise labels in, images out."""

    map_layer0: nn.Linear
    map_layer1: nn.Linear
    map_label: nn.Linear
    enc: nn.ModuleDict
    dec: nn.ModuleDict
    out_norm: nn.Module
    out_conv: nn.Module

    def __init__(self, architecture: Architecture, state: Mapping[str, Tensor]) -> None:
        """
        Args:
            architecture: of the tensors.
            state: the tensors by EDM's names. Those of its augmentation labels, which are zero in
                sampling, and the filters, which are known, are left out.

        Raises:
            ValueError: a tensor is missing, unknown or of another shape.
        """
        super().__init__()
        self.architecture, adm = architecture, architecture.adm
        wanted = {n: t for n, t in state.items() if not (_filter(n) or n.startswith("map_augment"))}
        with torch.device("meta"):
            self.map_layer0, self.map_layer1 = (_linear(wanted, f"map_layer{k}") for k in (0, 1))
            if architecture.classes is not None:
                self.map_label = _linear(wanted, "map_label", bias=not adm)
            for side, names in (("enc", architecture.encoder), ("dec", architecture.decoder)):
                made = {name: _layer(wanted, f"{side}.{name}", adm) for name in names}
                setattr(self, side, nn.ModuleDict(made))
            if adm:
                self.out_norm, self.out_conv = (
                    _layer(wanted, f"out_{n}", adm) for n in ("norm", "conv")
                )
        try:
            self.load_state_dict({n: t.float() for n, t in wanted.items()}, assign=True)
        except RuntimeError as error:
            raise ValueError(one_line(error)) from error

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), noise labels ln(sigma) / 4 float (B,) and classes int64 (B,)."""
        embedding = self._embedded(noise.to(x.dtype), labels)
        skips: list[Tensor] = []
        for block in self.enc.values():
            x = block(x, embedding) if isinstance(block, _Block) else block(x)
            skips.append(x)
        head: list[nn.Module] = []
        for block in self.dec.values():
            if not isinstance(block, _Block):
                head.append(block)  # DDPM++'s last two: a normalisation and a convolution
                continue
            if x.shape[1] != block.norm0.num_channels:
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(x, embedding)
        norm, convolution = head or (self.out_norm, self.out_conv)
        images: Tensor = convolution(F.silu(norm(x)))
        return images

    def _embedded(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        adm, width = self.architecture.adm, self.map_layer0.in_features
        embedding = _positions(noise, width, adm)
        of_class = 0.0
        if labels is not None:
            one_hot = F.one_hot(labels, self.map_label.in_features).to(noise.dtype)
            # DDPM++ multiplies a class by the root of their number, and adds it to the noise.
            of_class = self.map_label(one_hot if adm else one_hot * math.sqrt(one_hot.shape[1]))
        if not adm:
            hidden = F.silu(self.map_layer0(embedding + of_class))
            return F.silu(self.map_layer1(hidden))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))) + of_class)


class _Block(nn.Module):
    """A residual block, perhaps with attention, perhaps to half or twice the size."""

    def __init__(self, state: Mapping[str, Tensor], name: str, adm: bool) -> None:
        super().__init__()
        made, taken = state[f"{name}.conv0.weight"].shape[:2]
        self.adm, self.eps = adm, 1e-5 if adm else 1e-6
        self.up, self.down = name.endswith("_up"), name.endswith("_down")
        self.norm0, self.norm1 = _norm(taken, self.eps), _norm(made, self.eps)
        self.conv0, self.conv1 = (
            nn.Conv2d(taken, made, 3, padding=1),
            nn.Conv2d(made, made, 3, padding=1),
        )
        self.affine = _linear(state, f"{name}.affine")
        self.skip = nn.Conv2d(taken, made, 1) if f"{name}.skip.weight" in state else nn.Identity()
        self.heads = 0
        if f"{name}.qkv.weight" in state:
            self.heads = made // _HEAD if adm else 1
            if not self.heads:
                raise ValueError(f"{name} has {made} channels, fewer than a head's {_HEAD}")
            self.norm2 = _norm(made, self.eps)
            self.qkv, self.proj = nn.Conv2d(made, 3 * made, 1), nn.Conv2d(made, made, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale = 1.0 if self.adm else math.sqrt(0.5)
        hidden = self.conv0(self._resized(F.silu(self.norm0(x))))
        told = self.affine(embedding)[:, :, None, None]
        if self.adm:
            factor, shift = told.chunk(2, dim=1)
            hidden = F.silu(shift + self.norm1(hidden) * (factor + 1))
        else:
            hidden = F.silu(self.norm1(hidden + told))
        made: Tensor = scale * (self.conv1(hidden) + self.skip(self._resized(x)))
        return scale * (made + self._attended(made)) if self.heads else made

    def _resized(self, x: Tensor) -> Tensor:
        if self.up:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.down else x

    def _attended(self, x: Tensor) -> Tensor:
        # Of each head, a channel's query, key and value stand side by side.
        rows = self.qkv(self.norm2(x)).reshape(len(x), self.heads, -1, 3, x[0, 0].numel())
        query, key, value = (rows[:, :, :, k].transpose(2, 3) for k in range(3))
        found = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.proj(found.transpose(2, 3).reshape(x.shape))
        return projected


def _layer(state: Mapping[str, Tensor], name: str, adm: bool) -> nn.Module:
    """A block, or a normalisation or convolution by itself."""
    if f"{name}.conv0.weight" in state:
        return _Block(state, name, adm)
    weight = state[f"{name}.weight"]
    if weight.ndim == 1:
        return _norm(len(weight), 1e-5 if adm else 1e-6)
    return nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)


def _norm(channels: int, eps: float) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, max(channels // 4, 1)), channels, eps=eps)


def _linear(state: Mapping[str, Tensor], name: str, *, bias: bool = True) -> nn.Linear:
    made, taken = state[f"{name}.weight"].shape
    return nn.Linear(taken, made, bias=bias)


def _positions(noise: Tensor, width: int, adm: bool) -> Tensor:
    """Cosines and sines of the noise label, (B, width); DDPM++ has the last frequency at 1e-4, and
    the sines first.
    """
    half = width // 2
    powers = torch.arange(half, dtype=noise.dtype, device=noise.device) / (
        half if adm else half - 1
    )
    angles = noise[:, None] * (1e-4**powers)
    parts = [angles.cos(), angles.sin()]
    return torch.cat(parts if adm else parts[::-1], dim=1)
