"""The compiled, channels-last denoiser: the same images, the original left usable."""

from __future__ import annotations

import pytest
import torch
from augment_doubles import TinyNetwork, tiny_denoiser, tiny_unet
from torch import Tensor

from augment import Denoiser, ImageFormat, Schedule, SelfGuidance, optimised, reverse_process


class _Uncounted(TinyNetwork):
    """Without the counts, which a compiler cannot follow."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        hidden = self.first(x) + self.time(t.float().unsqueeze(1) / 1000)[..., None, None]
        output: Tensor = self.last(torch.tanh(hidden))
        return output


def _denoiser() -> Denoiser:
    image = ImageFormat(channels=3, size=8)
    return Denoiser(_Uncounted(3, 6), Schedule.cosine(), image, variance="learned_range")


def _final(denoiser: Denoiser, guidance: SelfGuidance | None) -> Tensor:
    *_, last = reverse_process(denoiser, range(3), steps=6, guidance=guidance)
    return last.x.clone()


@pytest.mark.parametrize("guidance", [None, SelfGuidance(every=2)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_compiled_images_are_the_same_up_to_rounding(
    channels_last: bool, guidance: SelfGuidance | None
) -> None:
    plain, denoiser = _denoiser(), _denoiser()
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


def test_a_network_of_diffusers_gives_the_same_images_channels_last() -> None:
    denoiser, twin = (
        Denoiser(tiny_unet(), Schedule.cosine(), ImageFormat(channels=3, size=8)) for _ in range(2)
    )
    guidance = SelfGuidance(every=2)
    found = _final(optimised(twin, compiled=False), guidance)
    torch.testing.assert_close(found, _final(denoiser, guidance), atol=1e-4, rtol=0)
