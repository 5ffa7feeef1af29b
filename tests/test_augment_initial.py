"""What a training begins with: the recommended network, and other generators, adapted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from augment import Denoiser, ImageFormat, Schedule, load_denoiser
from augment.classifier_free import towards_class
from augment.fitting import recommended_steps
from augment.initial import NetworkConfig, adapted, recommended_network
from augment.pretrained import save_pipeline

T = torch.tensor([3, 700])


def _noise(size: int = 8) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def plain() -> Denoiser:
    """A DDPM of fixed variance without classes, as most of the hub's are."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    return Denoiser(network, Schedule.linear(), ImageFormat(channels=3, size=8))


@pytest.mark.parametrize("name", ["avatars-32", "fashion-longtail-28"])
def test_the_recommended_network_is_that_of_embedded_generators(name: str) -> None:
    theirs = load_denoiser(name)
    ours = recommended_network(theirs.image.size, theirs.image.channels).build()
    shapes = [{k: v.shape for k, v in d.network.state_dict().items()} for d in (theirs, ours)]
    assert shapes[0] == shapes[1]
    assert ours.record()["process"] == theirs.record()["process"]


@pytest.mark.parametrize(
    ("size", "widths", "attending"),
    [(8, (16, 32), (0,)), (64, (16, 32, 64, 96, 128), (3,)), (30, (16, 32), (1,))],
)
def test_other_sizes_go_down_to_a_few_pixels(
    size: int, widths: tuple[int, ...], attending: tuple[int, ...]
) -> None:
    network = recommended_network(size)
    assert (network.widths, network.attention_levels) == (widths, attending)


def test_the_recommended_steps_grow_with_the_root_within_bounds() -> None:
    assert [recommended_steps(n) for n in (1, 12_408, 50_000, 10**6)] == [2000, 3600, 7200, 20_000]


def test_a_fixed_variance_becomes_a_learned_one_that_predicts_the_same(plain: Denoiser) -> None:
    begun = adapted(plain)
    noise, v = begun.network(_noise(), T).sample.chunk(2, dim=1)
    torch.testing.assert_close(noise, plain.network(_noise(), T).sample)
    assert not v.any()
    assert (begun.variance, begun.prediction) == ("learned_range", "epsilon")
    assert begun.schedule is plain.schedule
    assert plain.network.config["out_channels"] == 3  # left as it is


def test_new_classes_change_nothing_at_first_and_known_ones_are_kept(plain: Denoiser) -> None:
    begun = adapted(plain, classes=2)
    before = adapted(plain).network(_noise(), T).sample
    for label in (0, 1, 2):
        labels = torch.full((2,), label)
        torch.testing.assert_close(begun.network(_noise(), T, labels).sample, before)
    torch.nn.init.normal_(begun.network.class_embedding.weight)
    table = begun.network.class_embedding.weight
    assert torch.equal(adapted(begun, classes=2).network.class_embedding.weight, table)
    assert not adapted(begun, classes=3).network.class_embedding.weight.any()


def test_another_size_keeps_the_weights_and_one_that_does_not_divide_is_refused(
    plain: Denoiser,
) -> None:
    begun = adapted(plain, size=16)
    assert begun.image.size == begun.network.config["sample_size"] == 16
    assert begun.network(_noise(16), T).sample.shape == (2, 6, 16, 16)
    with pytest.raises(ValueError, match=r"halves its images 1 times, .* give a multiple of 2 for"):
        adapted(plain, size=9)


def test_guidance_towards_the_class_is_the_papers_combination() -> None:
    """eps_0 + s (eps_c - eps_0), eq. 6 with s = 1 + w, and the variance of the class."""
    torch.manual_seed(0)
    network = NetworkConfig(size=8, widths=(8, 8), attention_levels=())
    begun = adapted(network.build(), classes=2)
    torch.nn.init.normal_(begun.network.class_embedding.weight)
    labels, none = torch.tensor([0, 1]), torch.tensor([2, 2])
    schedule = begun.schedule
    of_class, of_any, guided = (
        model(_noise(), 500, schedule, kind)
        for model, kind in ((begun, labels), (begun, none), (towards_class(begun, 2.5), labels))
    )
    torch.testing.assert_close(guided.eps, of_any.eps + 2.5 * (of_class.eps - of_any.eps))
    torch.testing.assert_close(guided.v, of_class.v)
    assert not torch.allclose(of_class.eps, of_any.eps)
    assert towards_class(begun, 1.0) is begun
    with pytest.raises(ValueError, match=r"class_scale is 2.0, but .* null class; leave it out"):
        towards_class(network.build(), 2.0)


def test_a_null_class_that_is_not_the_last_is_refused(tmp_path: Path) -> None:
    network = NetworkConfig(size=8, widths=(8, 8), attention_levels=())
    save_pipeline(adapted(network.build(), classes=2), tmp_path, card={})
    assert load_denoiser(tmp_path).null_class == 2
    (tmp_path / "card.json").write_text(json.dumps({"null_class": 1}))
    with pytest.raises(ValueError, match="has the null class 1 of 3 embeddings; allowed is the"):
        load_denoiser(tmp_path)
