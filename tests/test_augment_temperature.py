"""Temperature and score rescaling: closed forms of a Gaussian, limits, and that they are free."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from augment_doubles import GaussianMixture, class_denoiser, tiny_denoiser
from torch import Tensor

from augment import (
    Ancestral,
    Denoiser,
    ImageFormat,
    SamplerConfig,
    Schedule,
    Temperature,
    generate,
    reverse_process,
    sample,
)
from augment.denoiser import PredictionType

_SCHEDULE = Schedule.cosine()


def _gaussian(std: float) -> Denoiser:
    network = GaussianMixture(_SCHEDULE, [0.0], [1.0], std)
    return Denoiser(network, _SCHEDULE, ImageFormat(channels=1, size=4), clip=False)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rescale", [0.5, 0.93, 2.0])
def test_rescaling_a_gaussians_score_is_the_score_of_another_variance(rescale: float) -> None:
    """With s its standard deviation: N(0, s^2) becomes N(0, s^2 / k), at every noise level."""
    std = 0.4
    rescaled = Temperature(rescale=rescale, spread=std).applied(_gaussian(std))
    expected = _gaussian(std / math.sqrt(rescale))
    for i in (0, 3, 17, 39):
        kept, x = _SCHEDULE.respaced(40), _noise(2, 1, 4, 4)
        found, known = rescaled(x, i, kept).eps, expected(x, i, kept).eps
        torch.testing.assert_close(
            found, known, rtol=1e-3, atol=1e-4
        )  # of float32 where x is clean


def test_rescaling_leaves_the_noisy_steps_and_reaches_k_at_the_clean_ones() -> None:
    warm = Temperature(rescale=0.9, spread=2.0)
    factors = [warm.factor(float(level)) for level in _SCHEDULE.alpha_bar]
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(1, abs=1e-6)
    assert factors[0] == pytest.approx(0.9, abs=1e-4)
    assert {Temperature(spread=3.0).factor(level) for level in (1e-6, 0.5, 0.999)} == {1}


def test_a_score_temperature_divides_the_prediction_everywhere() -> None:
    hot = Temperature(score=1.25)
    assert {hot.factor(level) for level in (1e-9, 0.3, 0.999)} == {0.8}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_it_holds_for_whatever_the_network_predicts(prediction: PredictionType) -> None:
    denoiser = tiny_denoiser()
    denoiser.prediction = prediction
    kept, x = denoiser.schedule.respaced(10), _noise(2, 3, 8, 8)
    plain, hot = denoiser(x, 6, kept), Temperature(score=2.0).applied(denoiser)(x, 6, kept)
    torch.testing.assert_close(hot.eps, plain.eps / 2)
    torch.testing.assert_close(hot.v, plain.v)


def test_one_changes_nothing_and_another_costs_nothing() -> None:
    denoiser = tiny_denoiser()
    assert Temperature(spread=2.0, noise=1.5).applied(denoiser) is denoiser
    hot = Temperature(score=1.1, rescale=0.9).applied(denoiser)
    images = sample(hot, range(2), steps=7)
    assert denoiser.network.forwards == 7
    assert not torch.equal(images, sample(denoiser, range(2), steps=7))


def test_classes_are_handed_on() -> None:
    denoiser = class_denoiser()
    sample(Temperature(score=1.1).applied(denoiser), [1, 2], steps=2, labels=[3, 0])
    assert all(seen.tolist() == [3, 0] for seen in denoiser.network.seen)  # type: ignore[union-attr]


def test_a_noise_temperature_multiplies_the_variance_of_the_same_draws() -> None:
    denoiser, first = tiny_denoiser(), {}
    for temperature in (0.0, 1.0, 1.44):
        solver = Ancestral(temperature=temperature)
        first[temperature] = next(reverse_process(denoiser, [0, 1], steps=5, solver=solver)).x
    mean = first[0.0]
    torch.testing.assert_close(first[1.44] - mean, 1.2 * (first[1.0] - mean), rtol=1e-3, atol=1e-3)


def test_the_settings_reach_the_images_and_the_record(tmp_path: Path) -> None:
    denoiser = tiny_denoiser()
    warm = Temperature(noise=1.2, score=1.1)
    sampler = SamplerConfig(steps=4, temperature=warm)
    assert sampler.rule == Ancestral(temperature=1.2)
    generate(denoiser, range(2), tmp_path / "warm", sampler=sampler)
    record = json.loads((tmp_path / "warm" / "settings.json").read_text())
    assert record["temperature"] == {"noise": 1.2, "score": 1.1, "rescale": 1.0, "spread": 1.0}
    generate(denoiser, range(2), tmp_path / "plain", sampler=SamplerConfig(steps=4))
    assert "temperature" not in json.loads((tmp_path / "plain" / "settings.json").read_text())
    pixels = [(tmp_path / name / "0.png").read_bytes() for name in ("warm", "plain")]
    assert pixels[0] != pixels[1]


def test_what_is_no_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature\.score is 0; give a number above 0"):
        Temperature(score=0)
    with pytest.raises(ValueError, match=r"temperature\.noise is 1\.1 with the solver ddim; give"):
        SamplerConfig(solver="ddim", temperature=Temperature(noise=1.1))
