"""The denoiser's contract: pixels, halves of the output, variances, timesteps, frozenness."""

from __future__ import annotations

import re

import pytest
import torch
from augment_doubles import TinyNetwork, mixture_denoiser, tiny_denoiser, tiny_unet
from torch import Tensor, nn

from augment import Denoiser, ImageFormat, Schedule
from augment.denoiser import VarianceType

IMAGE = ImageFormat(channels=3, size=8)


def test_pixels_are_truncated_not_rounded_and_clamped() -> None:
    x = torch.tensor([-2.0, -1.0, -1 + 1.99 / 127.5, 0.0, 254.9 / 127.5 - 1, 1.0, 3.0])
    assert IMAGE.to_uint8(x).tolist() == [0, 0, 1, 127, 254, 255, 255]
    levels = torch.arange(256)
    just_below_the_next = (levels + 0.99) / 127.5 - 1
    assert torch.equal(IMAGE.to_uint8(just_below_the_next), levels.to(torch.uint8))


def test_uint8_levels_span_minus_one_to_one() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    x = IMAGE.from_uint8(levels)
    assert (x.dtype, x[0].item(), x[255].item()) == (torch.float32, -1.0, 1.0)
    assert (IMAGE.to_uint8(x).int() - levels.int()).abs().max() <= 1
    assert torch.equal(IMAGE.to_uint8(x + 1e-4), levels)


def test_the_exact_denoiser_predicts_the_noise_of_an_image_known_beforehand() -> None:
    denoiser = mixture_denoiser([0.3], [1.0], std=1e-4)
    eps = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    schedule = denoiser.schedule.respaced(50)
    for i in (5, 25, 45):
        x_i = schedule.q_sample(torch.full_like(eps, 0.3), i, eps)
        torch.testing.assert_close(denoiser(x_i, i, schedule).eps, eps, atol=2e-3, rtol=0)


class _Recorder(nn.Module):
    """Keeps the timesteps it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.asked.append(t)
        return x


def test_the_network_is_asked_for_the_original_timestep() -> None:
    network = _Recorder()
    denoiser = Denoiser(network, Schedule.cosine(), IMAGE)
    denoiser(torch.zeros(2, 3, 8, 8), 200, denoiser.schedule.respaced(250))
    denoiser(torch.zeros(2, 3, 8, 8), 200, denoiser.schedule)
    assert [t.tolist() for t in network.asked] == [[802, 802], [200, 200]]
    assert all(t.dtype == torch.int64 for t in network.asked)


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
def test_halves_and_log_variance(variance: VarianceType) -> None:
    denoiser = tiny_denoiser(variance)
    schedule, x, i = denoiser.schedule.respaced(50), torch.ones(2, 3, 8, 8), 30
    prediction = denoiser(x, i, schedule)
    output = denoiser.network(x, torch.full((2,), int(schedule.timesteps[i])))
    assert torch.equal(prediction.eps, output[:, :3])
    log_variance = denoiser.log_variance(prediction, i, schedule)
    if variance == "learned_range":
        assert torch.equal(prediction.v, output[:, 3:])
        assert torch.equal(log_variance, schedule.learned_log_variance(i, output[:, 3:]))
    else:
        assert prediction.v is None
        large = variance == "fixed_large"
        assert torch.equal(log_variance, schedule.fixed_log_variance(i, x, large=large))
    assert (log_variance + 0 * x).shape == x.shape


def test_a_network_of_diffusers_is_taken_as_it_is() -> None:
    network = tiny_unet(3, 3).eval()
    x = torch.ones(1, 3, 8, 8)
    denoiser = Denoiser(network, Schedule.cosine(), IMAGE)
    assert torch.equal(denoiser(x, 3, denoiser.schedule).eps, network(x, 3).sample)


def test_the_network_is_frozen_and_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)).train()
    denoiser = Denoiser(network, Schedule.cosine(), IMAGE)
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in denoiser.parameters())


def test_half_precision_output_is_predicted_in_single() -> None:
    denoiser = Denoiser(_Recorder(), Schedule.cosine(), IMAGE)
    assert denoiser(torch.ones(1, 3, 8, 8).half(), 3, denoiser.schedule).eps.dtype == torch.float32


def test_the_device_is_the_networks_and_a_network_without_parameters_has_one() -> None:
    assert Denoiser(TinyNetwork(), Schedule.cosine(), IMAGE).device.type == "cpu"
    assert Denoiser(_Recorder(), Schedule.cosine(), IMAGE).device.type == "cpu"


class _Conditional(nn.Module):
    """Answers with the label, everywhere."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(x) + labels[:, None, None, None]


def test_each_image_is_denoised_under_its_own_label() -> None:
    denoiser = Denoiser(_Conditional(), Schedule.cosine(), IMAGE, classes=10)
    labels = torch.tensor([3, 9])
    denoiser.check_labels(labels)
    eps = denoiser(torch.zeros(2, 3, 8, 8), 5, denoiser.schedule, labels).eps
    assert eps[:, 0, 0, 0].tolist() == [3, 9]


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (10, None, "class-conditional and got no labels; give one per image, 0 to 9"),
        (None, torch.tensor([0]), "labels are given, and the model is unconditional"),
        (10, torch.tensor([3, 10]), "label 10 is no class of the model; give one of 0 to 9"),
        (10, torch.tensor([-1]), "label -1 is no class of the model; give one of 0 to 9"),
        (10, torch.tensor([1.0]), "torch.float32 of shape (1,); give int64 of shape (N,)"),
        (10, torch.tensor([[1]]), "torch.int64 of shape (1, 1); give int64 of shape (N,)"),
    ],
)
def test_labels_that_do_not_belong_to_the_model_are_refused(
    classes: int | None, labels: Tensor | None, message: str
) -> None:
    denoiser = Denoiser(_Recorder(), Schedule.cosine(), IMAGE, classes=classes)
    with pytest.raises(ValueError, match=re.escape(message)):
        denoiser.check_labels(labels)
    if (labels is None) != (classes is None):
        with pytest.raises(ValueError, match=re.escape(message)):
            denoiser(torch.zeros(1, 3, 8, 8), 5, denoiser.schedule, labels)
