"""What the tensors of a guided-diffusion network tell about its architecture.

Levels are counted from the image's own resolution (0) downwards, each half as wide as the one
above. An encoder level is `blocks` residual blocks, then a step down; a decoder level is one block
more, then a step up. Where a residual block does the step down it looks like any other, so that
the levels are told by the decoder's steps up, or, in a classifier, which has no decoder, by widths
and attention.

Reference: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, and openai/guided-diffusion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["Architecture", "OpenArchitectureError", "infer_architecture"]

Kind = Literal["residual", "attention", "resample"]

_KINDS: dict[str, Kind] = {
    "in_layers": "residual",
    "qkv": "attention",
    "op": "resample",
    "conv": "resample",
}
"""What a module is, by the name of a layer that only it has."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A guided-diffusion U-Net, or the encoder half of one with an attention pool: a classifier."""

    widths: tuple[int, ...]
    """Channels of each level."""
    blocks: int
    """Residual blocks of each encoder level."""
    attention: tuple[int, ...]
    """Levels that have self-attention."""
    in_channels: int = 3
    """Channels of the input: the image's, or twice as many in an upsampler."""
    out_channels: int = 6
    """Channels of a denoiser's output, classes of a classifier's."""
    classes: int | None = None
    """Classes a denoiser is conditioned on; None if it is not."""
    pool: int | None = None
    """Side in pixels of the grid that a classifier pools over; None in a denoiser."""
    scale_shift: bool = True
    """Whether the time embedding scales and shifts, or is only added."""
    residual_steps: bool = True
    """Whether residual blocks halve and double the resolution, or plain convolutions."""

    @property
    def channels(self) -> int:
        """Channels of the image: 1 or 3."""
        return {2: 1, 6: 3}.get(self.in_channels, self.in_channels)

    @property
    def upsampler(self) -> bool:
        """Whether a small image enters beside the noisy one."""
        return self.in_channels != self.channels

    @property
    def learned_variance(self) -> bool:
        return self.pool is None and self.out_channels == 2 * self.channels


class OpenArchitectureError(ValueError):
    """A network of guided-diffusion whose tensors fit several architectures."""


@dataclass(frozen=True)
class _Tensors:
    """The modules that a state dict's names speak of, and its shapes."""

    kinds: dict[str, Kind]
    """`input_blocks.4.1` and the like, and what it is."""
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> _Tensors:
        kinds = {}
        for name in state:
            parts = name.split(".")
            if len(parts) > 3 and parts[0].endswith("_blocks") and parts[3] in _KINDS:
                kinds[".".join(parts[:3])] = _KINDS[parts[3]]
        return cls(kinds, {name: tuple(tensor.shape) for name, tensor in state.items()})

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise ValueError(f"{name} is missing")
        return self.shapes[name]

    def size(self, name: str, axis: int = 0) -> int:
        shape = self.shape(name)
        if len(shape) <= axis or not shape[axis]:
            raise ValueError(f"{name} has the shape {shape}")
        return shape[axis]

    def count(self, side: str) -> int:
        """How many blocks there are, numbered from 0."""
        return 1 + max((int(n.split(".")[1]) for n in self.shapes if n.startswith(side)), default=0)

    def width(self, k: int) -> int:
        """Channels that encoder block `k` puts out."""
        step = f"input_blocks.{k}.0"
        layer = f"{step}.op" if self.kinds.get(step) == "resample" else f"{step}.out_layers.3"
        return self.size(f"{layer}.weight")

    def attends(self, k: int) -> bool:
        return self.kinds.get(f"input_blocks.{k}.1") == "attention"


def infer_architecture(
    state: Mapping[str, Tensor], *, image_size: int | None = None
) -> Architecture:
    """Read the architecture off a state dict.

    Args:
        state: tensors by guided-diffusion's names.
        image_size: pixels; needed only by a classifier whose widths and attention leave its levels
            open.

    Raises:
        OpenArchitectureError: the image size would decide, and is not given.
        ValueError: it is none, or one that is not supported; the message says by what it was told.
    """
    tensors = _Tensors.of(state)
    pool = _pool(tensors)
    levels = _levels(tensors, pool, image_size)
    period = tensors.count("input_blocks.") // levels
    starts = [1 + period * level for level in range(levels)]
    widths = tuple(tensors.width(k) for k in starts)
    if tensors.shape("time_embed.0.weight") != (4 * widths[0], widths[0]):
        raise ValueError("the time embedding is not as wide as the first level")
    return Architecture(
        widths=widths,
        blocks=period - 1,
        attention=tuple(level for level, k in enumerate(starts) if tensors.attends(k)),
        in_channels=tensors.size("input_blocks.0.0.weight", 1),
        out_channels=tensors.size("out.2.weight" if pool is None else "out.2.c_proj.weight"),
        classes=tensors.size("label_emb.weight") if "label_emb.weight" in state else None,
        pool=pool,
        scale_shift=tensors.size("input_blocks.1.0.emb_layers.1.weight") == 2 * widths[0],
        residual_steps=tensors.kinds.get(f"input_blocks.{period}.0") != "resample",
    )


def _pool(tensors: _Tensors) -> int | None:
    """Side of the grid whose positions, and that of their mean, a classifier's pool embeds."""
    if "out.2.positional_embedding" not in tensors.shapes:
        return None
    return math.isqrt(tensors.size("out.2.positional_embedding", 1) - 1)


def _levels(tensors: _Tensors, pool: int | None, image_size: int | None) -> int:
    """How many levels the encoder has, whose blocks, with the first convolution, they share."""
    count = tensors.count("input_blocks.")
    fitting = [n for n in range(1, count) if count % n == 0 and _fits(tensors, count // n, n)]
    if pool is None:
        steps_up = sum(
            name.startswith("output_blocks.")
            and not name.endswith(".0")
            and kind in ("residual", "resample")
            for name, kind in tensors.kinds.items()
        )
        fitting = [n for n in fitting if n == steps_up + 1]
    elif image_size is not None:
        fitting = [n for n in fitting if pool * 2 ** (n - 1) == image_size]
    if not fitting:
        raise ValueError(f"its {count} input blocks do not divide into levels")
    if len(fitting) > 1:
        sizes = " or ".join(str((pool or 1) * 2 ** (n - 1)) for n in fitting)
        raise OpenArchitectureError(
            f"its tensors cannot tell image_size, which is {sizes}; "
            "give it as CheckpointOptions(image_size=...)"
        )
    return fitting[0]


def _fits(tensors: _Tensors, period: int, levels: int) -> bool:
    """Whether every level has one width, attention all through or not at all, and a bare step."""
    for level in range(levels):
        blocks = range(1 + period * level, period * (level + 1))
        step = period * (level + 1)
        last = level == levels - 1
        members = blocks if last else [*blocks, step]
        if not blocks or len({tensors.width(k) for k in members}) > 1:
            return False
        if len({tensors.attends(k) for k in blocks}) > 1 or (not last and tensors.attends(step)):
            return False
    return True
