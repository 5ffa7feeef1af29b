"""Half precision of the convolutions alone."""

from __future__ import annotations

import pytest
import torch
from augment_doubles import tiny_unet
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from augment import load_denoiser
from augment.pretrained.unet import halve_convolutions

NAME = "avatars-32"


def _output_and_gradient(dtype: torch.dtype, i: int) -> tuple[Tensor, Tensor]:
    denoiser = load_denoiser(NAME, dtype=dtype)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    schedule = denoiser.schedule.respaced(50)
    eps = denoiser(x, i, schedule).eps
    assert eps.dtype == torch.float32
    x0 = schedule.predict_x0(x, i, eps)
    return eps.detach(), torch.autograd.grad(x0.square().sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("i", [5, 25, 45])
def test_outputs_and_gradients_stay_near_those_of_single_precision(
    dtype: torch.dtype, i: int
) -> None:
    expected, gradient = _output_and_gradient(torch.float32, i)
    found, its_gradient = _output_and_gradient(dtype, i)
    assert not torch.equal(found, expected)
    assert (found - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()
    assert cosine_similarity(gradient.flatten(1), its_gradient.flatten(1)).min() > 0.999


def test_norms_embeddings_and_head_keep_single_precision() -> None:
    network = load_denoiser(NAME, dtype=torch.bfloat16).network
    kept = {name for name, p in network.named_parameters() if p.dtype == torch.float32}
    halved = {name for name, p in network.named_parameters() if p.dtype == torch.bfloat16}
    assert kept | halved == {name for name, _ in network.named_parameters()}
    parts = ("norm", "time_emb", "conv_in", "conv_out")
    assert all(any(part in name for part in parts) for name in kept)
    assert not any(any(part in name for part in parts) for name in halved)
    assert sum(p.numel() for p in network.parameters() if p.dtype == torch.bfloat16) > 0.9 * sum(
        p.numel() for name, p in network.named_parameters() if "time_emb" not in name
    )


def test_each_part_computes_in_its_precision() -> None:
    network = load_denoiser(NAME, dtype=torch.bfloat16).network
    seen: dict[str, set[torch.dtype]] = {}
    for module in network.modules():
        if isinstance(module, (nn.GroupNorm, nn.Conv2d, nn.Linear)):
            kind = "head" if module in (network.conv_norm_out, network.conv_out) else ""
            kind = kind or (
                "norm" if isinstance(module, nn.GroupNorm) else str(module.weight.dtype)
            )
            module.register_forward_hook(
                lambda m, inputs, _, kind=kind: seen.setdefault(kind, set()).add(inputs[0].dtype)
            )
    network(torch.zeros(1, 3, 32, 32), torch.tensor([5]))
    assert seen == {
        "norm": {torch.float32},
        "head": {torch.float32},
        "torch.float32": {torch.float32},
        "torch.bfloat16": {torch.bfloat16},
    }


def test_a_network_without_a_middle_is_halved_too() -> None:
    network = tiny_unet(mid_block_type=None).eval()
    x, t = torch.ones(1, 3, 8, 8), torch.tensor([5])
    expected = network(x, t).sample
    halve_convolutions(network, torch.bfloat16)
    assert network.up_blocks[0].resnets[0].conv1.weight.dtype == torch.bfloat16
    torch.testing.assert_close(network(x, t).sample, expected, atol=0.05, rtol=0.05)


def test_another_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is torch\.float64; allowed are torch\.float16 and"):
        halve_convolutions(tiny_unet(), torch.float64)
