"""Features of a denoiser: which blocks, at which level, and that they can be differentiated."""

from __future__ import annotations

import math

import pytest
import torch
from augment_doubles import class_denoiser, tiny_denoiser, tiny_unet
from torch import nn

from augment import ActivationDistance, Denoiser, DenoiserFeatures, ImageFormat, Schedule


def _unet(channels: int = 3) -> Denoiser:
    return Denoiser(
        tiny_unet(channels, attention_head_dim=8),
        Schedule.cosine(),
        ImageFormat(channels=channels, size=8),
    )


def test_the_blocks_of_a_unet_are_its_lists_and_what_stands_between() -> None:
    assert DenoiserFeatures(_unet()).blocks == (
        "down_blocks.0",
        "down_blocks.1",
        "up_blocks.0",
        "up_blocks.1",
        "mid_block",
    )


def test_a_network_without_lists_gives_its_children() -> None:
    features = DenoiserFeatures(tiny_denoiser(), blocks=["first", "last"])
    assert features(torch.zeros(2, 3, 8, 8)).shape == (2, (8 + 6) * 16)


def test_features_are_the_blocks_outputs_averaged_over_the_grid() -> None:
    denoiser = _unet()
    features = DenoiserFeatures(denoiser, blocks=["mid_block"], alpha_bar=[0.9], grid=1)
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    (i,) = features.indices
    level = float(denoiser.schedule.alpha_bar[i])
    assert abs(level - 0.9) < 0.01
    seen: list[torch.Tensor] = []
    hook = denoiser.network.mid_block.register_forward_hook(lambda *a: seen.append(a[2]))
    denoiser.network(math.sqrt(level) * images, torch.full((2,), i))
    hook.remove()
    torch.testing.assert_close(features(images), seen[0].mean(dim=(2, 3)))


def test_wide_features_are_averaged_over_fewer_places(monkeypatch: pytest.MonkeyPatch) -> None:
    features, images = DenoiserFeatures(_unet()), torch.rand(2, 3, 8, 8) * 2 - 1
    whole = features(images).shape[1]
    for most, places in ((whole, 16), (whole - 1, 4), (whole // 4 - 1, 1), (1, 1)):
        monkeypatch.setattr("augment.activations._WIDEST", most)
        assert features(images).shape[1] == whole // 16 * places


def test_two_levels_stand_side_by_side() -> None:
    denoiser, images = _unet(), torch.rand(2, 3, 8, 8) * 2 - 1
    one, other = (DenoiserFeatures(denoiser, alpha_bar=[a])(images) for a in (0.98, 0.5))
    both = DenoiserFeatures(denoiser, alpha_bar=[0.98, 0.5])(images)
    torch.testing.assert_close(both, torch.cat([one, other], dim=1))


def test_large_images_are_looked_at_a_few_at_a_time_where_no_gradient_is_asked_for() -> None:
    denoiser = Denoiser(
        tiny_unet(sample_size=256, attention_head_dim=8),
        Schedule.cosine(),
        ImageFormat(channels=3, size=256),
    )
    features, images = DenoiserFeatures(denoiser, grid=1), torch.rand(6, 3, 256, 256) * 2 - 1
    seen: list[int] = []
    denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with torch.no_grad():
        found = features(images)
    assert seen == [4, 2]
    torch.testing.assert_close(found, features(images).detach())
    assert seen == [4, 2, 6]


def test_the_gradient_is_that_of_finite_differences() -> None:
    features = DenoiserFeatures(_unet(), grid=2)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    images.requires_grad_(True)
    (gradient,) = torch.autograd.grad(features(images).square().sum(), images)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        up, down = (features(images + s * 0.02 * direction).square().sum() for s in (1, -1))
    torch.testing.assert_close((up - down) / 0.04, gradient.norm(), rtol=0.02, atol=0)


def test_a_grey_image_is_its_colour_copy_to_a_colour_model_and_the_reverse() -> None:
    grey = torch.rand(2, 1, 8, 8) * 2 - 1
    colour = grey.expand(-1, 3, -1, -1)
    for channels in (1, 3):
        features = DenoiserFeatures(_unet(channels))
        torch.testing.assert_close(features(grey), features(colour))


def test_a_model_with_classes_is_asked_for_the_first() -> None:
    denoiser = class_denoiser()
    DenoiserFeatures(denoiser, blocks=["shared.first"])(torch.zeros(2, 1, 8, 8))
    assert denoiser.network.seen[-1].tolist() == [0, 0]


def test_places_of_a_transformer_are_a_square() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Identity()

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            tokens = self.block(x.flatten(2).transpose(1, 2))
            return tokens.transpose(1, 2).reshape(x.shape)

    denoiser = Denoiser(Tokens(), Schedule.cosine(), ImageFormat(channels=1, size=8))
    images = torch.rand(1, 1, 8, 8)
    features = DenoiserFeatures(denoiser, grid=2)
    level = math.sqrt(denoiser.schedule.alpha_bar[features.indices[0]])
    quarters = images.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)).flatten(1)
    torch.testing.assert_close(features(images), level * quarters)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": ["nowhere"]}, "'nowhere' is not in the network"),
        ({"alpha_bar": []}, "give levels in"),
        ({"alpha_bar": [1.0]}, "give levels in"),
    ],
)
def test_what_it_cannot_look_at_is_refused(settings: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenoiserFeatures(_unet(), **settings)


def _images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_distance_is_the_naive_loop_over_blocks_and_places() -> None:
    denoiser, a, b = _unet(), _images(0), _images(1)
    features = DenoiserFeatures(denoiser, blocks=["down_blocks.0", "down_blocks.1"])
    (i,) = features.indices
    expected = torch.zeros(2)
    for f, g in zip(features.maps(a, i), features.maps(b, i), strict=True):
        for n in range(2):
            places = [(y, x) for y in range(f.shape[2]) for x in range(f.shape[3])]
            for y, x in places:
                one, other = f[n, :, y, x], g[n, :, y, x]
                apart = (one / one.norm() - other / other.norm()).square().sum()
                expected[n] += apart / len(places)
    found = ActivationDistance(denoiser)(a, b)
    torch.testing.assert_close(found, expected)
    assert (found > 0.01).all()
    torch.testing.assert_close(ActivationDistance(denoiser)(a, a), torch.zeros(2))


def test_the_distance_is_differentiable_in_its_first_argument() -> None:
    a, b = _images(0)[:1].requires_grad_(True), _images(1)[:1]
    distance = ActivationDistance(_unet())
    (gradient,) = torch.autograd.grad(distance(a, b).sum(), a)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        up, down = (distance(a + s * 0.02 * direction, b).sum() for s in (1, -1))
    torch.testing.assert_close((up - down) / 0.04, gradient.norm(), rtol=0.02, atol=0)


def test_a_pass_of_the_distance_does_not_change_what_the_sampler_hears() -> None:
    """The distance looks through the very network that is being sampled; no hook may stay."""
    denoiser = _unet()
    ActivationDistance(denoiser)(_images(0), _images(1))
    assert not any(module._forward_hooks for module in denoiser.network.modules())


def test_a_pass_ends_with_the_last_block_that_is_looked_at() -> None:
    denoiser, ran = _unet(), list[str]()
    for name in DenoiserFeatures(denoiser).blocks:
        module = denoiser.network.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    ActivationDistance(denoiser)(_images(0), _images(1))
    assert ran == ["down_blocks.0", "down_blocks.1"] * 2
