"""EDM's networks as its paper describes them, small and random, and files as it writes them.

The convolutions of a step to another size are those of the filter [1, 1]: a mean of four pixels,
and each pixel four times.
"""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EDMPrecond", "network", "save_pickle"]


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("a reader that runs this has executed the pickle")


class _Persistent(nn.Module):
    """A module that is pickled as NVIDIA's are: its state, and the source to run."""

    def __reduce__(self) -> Any:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('executed')",
            "class_name": type(self).__name__,
            "state": dict(self.__dict__),
        }
        return _reconstruct_persistent_obj, (meta,)


class Layer(_Persistent):
    """A weight and perhaps a bias; a filter where it resizes."""

    def __init__(self, *shape: int, bias: bool = True, resizes: bool = False) -> None:
        super().__init__()
        scale = 0.5 / math.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.1
        self.weight = (
            nn.Parameter(torch.randn(shape) * scale + (len(shape) == 1)) if shape else None
        )
        self.bias = nn.Parameter(torch.randn(shape[0]) * 0.1) if shape and bias else None
        self.register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25) if resizes else None)

    def linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def convolved(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    def normed(self, x: Tensor, eps: float) -> Tensor:
        return F.group_norm(x, min(32, x.shape[1] // 4), self.weight, self.bias, eps)


class UNetBlock(_Persistent):
    """A residual block; `resize` is -1, 0 or 1."""

    def __init__(
        self, taken: int, made: int, emb: int, *, adm: bool, resize: int = 0, attends: bool = False
    ) -> None:
        super().__init__()
        self.adm, self.resize, self.taken = adm, resize, taken
        self.heads = 0 if not attends else made // 64 if adm else 1
        self.norm0, self.conv0 = Layer(taken), Layer(made, taken, 3, 3, resizes=resize != 0)
        self.affine = Layer(made * (2 if adm else 1), emb)
        self.norm1, self.conv1 = Layer(made), Layer(made, made, 3, 3)
        self.skip = None
        if taken != made or resize:
            projects = not adm or taken != made
            self.skip = Layer(*((made, taken, 1, 1) if projects else ()), resizes=resize != 0)
        if attends:
            self.norm2, self.qkv, self.proj = (
                Layer(made),
                Layer(3 * made, made, 1, 1),
                Layer(made, made, 1, 1),
            )

    def resized(self, x: Tensor) -> Tensor:
        if self.resize == 1:
            return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return F.avg_pool2d(x, 2) if self.resize == -1 else x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        eps, root = (1e-5, 1.0) if self.adm else (1e-6, 0.5**0.5)
        h = self.conv0.convolved(self.resized(F.silu(self.norm0.normed(x, eps))))
        told = self.affine.linear(emb)[..., None, None]
        if self.adm:
            scale, shift = told.chunk(2, dim=1)
            h = F.silu(self.norm1.normed(h, eps) * (scale + 1) + shift)
        else:
            h = F.silu(self.norm1.normed(h + told, eps))
        past = self.resized(x)
        if self.skip is not None and self.skip.weight is not None:
            past = self.skip.convolved(past)
        h = root * (self.conv1.convolved(h) + past)
        return root * (h + self.attention(h, eps)) if self.heads else h

    def attention(self, h: Tensor, eps: float) -> Tensor:
        b, c, size, _ = h.shape
        rows = self.qkv.convolved(self.norm2.normed(h, eps))
        q, k, v = rows.reshape(b * self.heads, c // self.heads, 3, -1).unbind(2)
        weights = torch.einsum("ncq,nck->nqk", q, k / q.shape[1] ** 0.5).softmax(dim=2)
        mixed = torch.einsum("nqk,nck->ncq", weights, v)
        return self.proj.convolved(mixed.reshape(b, c, size, size))


class UNet(_Persistent):
    """DDPM++ or ADM with two levels and one block each."""

    def __init__(self, size: int, width: int, classes: int, *, adm: bool) -> None:
        super().__init__()
        self.adm, self.width, self.classes, emb = adm, width, classes, 2 * width
        self.map_label = Layer(emb if adm else width, classes, bias=not adm) if classes else None
        self.map_augment = Layer(width, 9, bias=False)
        self.map_layer0, self.map_layer1 = Layer(emb, width), Layer(emb, emb)

        def block(taken: int, made: int, **options: Any) -> UNetBlock:
            return UNetBlock(taken, made, emb, adm=adm, **options)

        high, low, wide = f"{size}x{size}", f"{size // 2}x{size // 2}", 2 * width
        self.enc = nn.ModuleDict(
            {
                f"{high}_conv": Layer(width, 3, 3, 3),
                f"{high}_block0": block(width, width),
                f"{low}_down": block(width, width, resize=-1),
                f"{low}_block0": block(width, wide, attends=True),
            }
        )
        self.dec = nn.ModuleDict(
            {
                f"{low}_in0": block(wide, wide, attends=True),
                f"{low}_in1": block(wide, wide),
                f"{low}_block0": block(wide + wide, wide, attends=adm),
                f"{low}_block1": block(wide + width, wide, attends=True),
                f"{high}_up": block(wide, wide, resize=1),
                f"{high}_block0": block(wide + width, width),
                f"{high}_block1": block(width + width, width),
            }
        )
        if adm:
            self.out_norm, self.out_conv = Layer(width), Layer(3, width, 3, 3)
        else:
            self.dec[f"{high}_aux_norm"] = Layer(width)
            self.dec[f"{high}_aux_conv"] = Layer(3, width, 3, 3)

    def forward(self, x: Tensor, noise: Tensor, one_hot: Tensor | None) -> Tensor:
        half = self.width // 2
        angles = noise[:, None] / 1e4 ** (torch.arange(half) / (half if self.adm else half - 1))
        if self.adm:
            emb = torch.cat([angles.cos(), angles.sin()], dim=1)
            emb = self.map_layer1.linear(F.silu(self.map_layer0.linear(emb)))
            emb = emb if one_hot is None else emb + self.map_label.linear(one_hot)
            emb = F.silu(emb)
        else:
            emb = torch.cat([angles.sin(), angles.cos()], dim=1)
            if one_hot is not None:
                emb = emb + self.map_label.linear(one_hot * self.classes**0.5)
            emb = F.silu(self.map_layer1.linear(F.silu(self.map_layer0.linear(emb))))
        skips = []
        for part in self.enc.values():
            x = part(x, emb) if isinstance(part, UNetBlock) else part.convolved(x)
            skips.append(x)
        for name, part in self.dec.items():
            if isinstance(part, UNetBlock):
                x = torch.cat([x, skips.pop()], dim=1) if x.shape[1] != part.taken else x
                x = part(x, emb)
            elif name.endswith("norm"):
                x = F.silu(part.normed(x, 1e-6))
            else:
                x = part.convolved(x)
        if self.adm:
            x = self.out_conv.convolved(F.silu(self.out_norm.normed(x, 1e-5)))
        return x


class EDMPrecond(_Persistent):
    """D(x; sigma)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.sigma_data, self.sigma_max = 0.5, float("inf")
        self.model = model

    def forward(self, x: Tensor, sigma: float, one_hot: Tensor | None = None) -> Tensor:
        data = self.sigma_data
        c_skip, c_in = data**2 / (sigma**2 + data**2), 1 / (sigma**2 + data**2) ** 0.5
        noise = torch.full((len(x),), math.log(sigma) / 4)
        inner = self.model(c_in * x, noise, one_hot)
        return c_skip * x + sigma * data * c_in * inner


def network(*, adm: bool, classes: int = 0, size: int = 8) -> EDMPrecond:
    """A random network on 8 x 8 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(size, 64 if adm else 16, classes, adm=adm)
        return EDMPrecond(model).eval().requires_grad_(False)


def save_pickle(content: Any, path: Path) -> Path:
    """Write a pickle whose objects name NVIDIA's modules, which are not installed."""
    package, persistence = ModuleType("torch_utils"), ModuleType("torch_utils.persistence")
    function = _reconstruct_persistent_obj
    function.__module__ = persistence.__name__
    persistence._reconstruct_persistent_obj = function  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, persistence.__name__: persistence}
    try:
        path.write_bytes(pickle.dumps(content))
    finally:
        del sys.modules[package.__name__], sys.modules[persistence.__name__]
    return path
