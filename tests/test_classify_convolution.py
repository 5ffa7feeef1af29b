"""Cropped kernels: the same function and the same gradients, with fewer taps."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
import torchvision
from torch import nn

from classify.convolution import CroppedConv2d, crop_kernels, used_taps

FITTING = [
    (size, kernel, padding)
    for size, kernel, padding in product((1, 2, 3, 5), (1, 2, 3, 5, 7), (0, 1, 2, 3))
    if size + 2 * padding >= kernel
]


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "stride", "taps"),
    [
        (1, 3, 1, 1, slice(1, 2)),  # a ResNet's last maps at 32 px
        (2, 3, 1, 2, slice(1, 3)),
        (2, 3, 1, 1, slice(0, 3)),
        (1, 1, 0, 1, slice(0, 1)),
        (1, 7, 3, 2, slice(3, 4)),
        (8, 3, 1, 2, slice(0, 3)),  # tap 0 is used but by the first position
    ],
)
def test_taps_that_meet_a_pixel(
    size: int, kernel: int, padding: int, stride: int, taps: slice
) -> None:
    assert used_taps(size, kernel, padding, stride) == taps


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "kernel", "padding"), FITTING)
def test_same_output_and_gradients(size: int, kernel: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    whole = nn.Conv2d(4, 6, (kernel, 1), stride, (padding, 0), groups=2).double()
    cropped = copy.deepcopy(whole)
    crop_kernels(cropped)
    assert isinstance(cropped, CroppedConv2d)
    x = torch.randn(2, 4, size, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for convolution in (whole, cropped):
        y = convolution(x)
        (on_x,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        y.square().sum().backward()
        assert convolution.weight.grad is not None
        results.append((y, on_x, convolution.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [28, 32, 64])
def test_resnet_is_the_same_network(size: int) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3).eval()
    cropped = copy.deepcopy(network)
    crop_kernels(cropped)
    assert sum(isinstance(m, CroppedConv2d) for m in cropped.modules()) == 20
    assert list(cropped.state_dict()) == list(network.state_dict())
    x = torch.randn(2, 3, size, size)
    torch.testing.assert_close(cropped(x), network(x))


def test_what_it_cannot_stand_for_stays() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, padding=2, dilation=2),
        nn.Conv2d(1, 1, 3, padding="same"),
    )
    crop_kernels(network)
    assert not any(isinstance(m, CroppedConv2d) for m in network)
