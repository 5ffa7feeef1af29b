"""The compiled, channels-last denoiser: the same images, the original left usable."""

from __future__ import annotations

import pytest
import torch
from augment_doubles import tiny_denoiser
from torch import Tensor

from augment import Denoiser, SelfGuidance, optimised, reverse_process


def _final(denoiser: Denoiser, guidance: SelfGuidance | None) -> Tensor:
    *_, last = reverse_process(denoiser, range(3), steps=6, guidance=guidance)
    return last.x.clone()


@pytest.mark.parametrize("guidance", [None, SelfGuidance(every=2)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_compiled_images_are_the_same_up_to_rounding(
    channels_last: bool, guidance: SelfGuidance | None
) -> None:
    plain, denoiser = tiny_denoiser(), tiny_denoiser()
    fast = optimised(denoiser, channels_last=channels_last, backend="aot_eager")
    found = _final(fast, guidance)
    torch.testing.assert_close(found, _final(plain, guidance), atol=1e-4, rtol=0)
    assert not any(p.requires_grad for p in fast.parameters())
    # The one it was made of goes on as it was, and both carry the same contract.
    torch.testing.assert_close(found, _final(denoiser, guidance), atol=1e-4, rtol=0)
    assert type(fast) is Denoiser
    assert fast.schedule is denoiser.schedule


def test_the_network_gets_its_images_and_weights_channels_last() -> None:
    denoiser = tiny_denoiser()
    fast = optimised(denoiser, compiled=False)
    seen: list[Tensor] = []
    denoiser.network.first.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    _final(fast, None)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    weight = denoiser.network.first.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
