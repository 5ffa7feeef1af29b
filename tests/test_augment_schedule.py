"""The schedule's constants, its closed forms, and parity with diffusers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from augment import Schedule
from augment.schedule import Spacing, space_timesteps


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        (Schedule.cosine(), 0.999958716, 2.4287669e-9),
        (Schedule.linear(), 0.9999, 4.0358298e-5),
    ],
)
def test_alpha_bar_has_the_constants_of_guided_diffusion(
    schedule: Schedule, first: float, last: float
) -> None:
    assert len(schedule) == 1000
    assert schedule.alpha_bar.dtype == np.float64
    assert schedule.alpha_bar[0] == pytest.approx(first, rel=1e-8)
    assert schedule.alpha_bar[-1] == pytest.approx(last, rel=1e-7)
    assert schedule.timesteps.tolist() == list(range(1000))


def test_respacing_to_250_keeps_the_timesteps_of_guided_diffusion() -> None:
    kept = space_timesteps(1000, 250)
    assert kept[:3].tolist() == [0, 4, 8]
    assert kept[-3:].tolist() == [991, 995, 999]
    assert kept[200] == 802
    assert space_timesteps(1000, 100)[80] == 807
    assert space_timesteps(1000, 1000).tolist() == list(range(1000))
    assert space_timesteps(1000, 1).tolist() == [0]
    assert space_timesteps(1000, 2).tolist() == [0, 999]


@pytest.mark.parametrize("steps", [25, 50, 100, 250, 500, 1000])
def test_respacing_is_evenly_spaced_at_the_usual_numbers(steps: int) -> None:
    even = np.linspace(0, 999, steps).round().astype(int)
    assert space_timesteps(1000, steps).tolist() == even.tolist()


@pytest.mark.parametrize("steps", [2, 7, 21, 23, 31, 333, 999])
def test_respacing_never_repeats_a_step_and_keeps_both_ends(steps: int) -> None:
    kept = space_timesteps(1000, steps)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, steps)
    assert (np.diff(kept) > 0).all()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_an_impossible_number_of_steps_is_refused_in_one_line(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"^steps is {steps}, .*; give 1 to 1000 steps$"):
        Schedule.cosine().respaced(steps)


@pytest.mark.parametrize("bad", [[], [0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.5, 0.0], [[0.5]]])
def test_alpha_bar_that_is_no_schedule_is_refused(bad: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"strictly decreases within.*check the betas it came from"
    ):
        Schedule(np.array(bad))


def test_a_respaced_schedule_has_the_same_alpha_bar_and_its_own_beta() -> None:
    full = Schedule.linear()
    kept = full.respaced(50)
    np.testing.assert_array_equal(kept.alpha_bar, full.alpha_bar[kept.timesteps])
    np.testing.assert_allclose(np.cumprod(1 - kept.beta), kept.alpha_bar, rtol=1e-12)
    # A step over several is as noisy as they are together.
    between = full.beta[kept.timesteps[3] + 1 : kept.timesteps[4] + 1]
    assert kept.beta[4] == pytest.approx(1 - np.prod(1 - between))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Schedule.linear(), {"beta_schedule": "linear"}),
        (Schedule.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
        (
            Schedule.scaled_linear(1000, 0.00085, 0.012),
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        ),
    ],
)
def test_betas_and_variances_are_those_of_diffusers(
    ours: Schedule, theirs: dict[str, object]
) -> None:
    scheduler = DDPMScheduler(**theirs)
    np.testing.assert_allclose(ours.beta, scheduler.betas.double(), rtol=1e-4, atol=1e-7)
    for t in (1, 10, 500, 998):
        variance = float(scheduler._get_variance(t))
        assert np.exp(ours.posterior_log_variance[t]) == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("steps", [10, 1000])
def test_the_posterior_is_bayes_rule(steps: int) -> None:
    """Of x_{i-1}, q(x_i | x_{i-1}) q(x_{i-1} | x_0) is a product of two Gaussians."""
    schedule = Schedule.cosine().respaced(steps)
    x0, x_i = _noise(0, 2, 1, 3, 3), _noise(1, 2, 1, 3, 3)
    for i in (1, steps // 2, steps - 1):
        before, beta = schedule.alpha_bar[i - 1], schedule.beta[i]
        precision = (1 - beta) / beta + 1 / (1 - before)
        mean = ((1 - beta) ** 0.5 / beta * x_i + before**0.5 / (1 - before) * x0) / precision
        torch.testing.assert_close(schedule.posterior_mean(x0, x_i, i), mean)
        assert np.exp(schedule.posterior_log_variance[i]) == pytest.approx(1 / precision)
    torch.testing.assert_close(schedule.posterior_mean(x0, x_i, 0), x0)


def test_noising_and_tweedies_estimate_are_inverse() -> None:
    schedule = Schedule.cosine().respaced(250)
    x0, eps = _noise(0, 3, 3, 4, 4), _noise(1, 3, 3, 4, 4)
    i = torch.tensor([0, 125, 240])
    x_i = schedule.q_sample(x0, i, eps)
    torch.testing.assert_close(schedule.predict_x0(x_i, i, eps), x0)
    # One index for the batch is each image's own.
    torch.testing.assert_close(schedule.q_sample(x0[1:2], 125, eps[1:2]), x_i[1:2])


def test_noise_keeps_unit_variance_of_unit_variance_images() -> None:
    schedule = Schedule.linear()
    x_t = schedule.q_sample(_noise(0, 64, 1, 32, 32), 300, _noise(1, 64, 1, 32, 32))
    assert x_t.var().item() == pytest.approx(1.0, rel=0.02)


def test_the_last_step_uses_the_variance_of_the_one_before() -> None:
    schedule = Schedule.cosine().respaced(250)
    like = torch.zeros(1, 3, 2, 2)
    log_tilde_1 = float(schedule.posterior_log_variance[1])
    beta_0 = float(np.log(schedule.beta[0]))
    for found, expected in [
        (schedule.fixed_log_variance(0, like), log_tilde_1),
        (schedule.fixed_log_variance(0, like, large=True), log_tilde_1),
        (schedule.learned_log_variance(0, like - 1), log_tilde_1),
        (schedule.learned_log_variance(0, like + 1), beta_0),
    ]:
        torch.testing.assert_close(found, torch.full_like(found, expected))


def test_learned_variance_runs_from_the_posteriors_to_the_forwards_and_beyond() -> None:
    schedule = Schedule.linear().respaced(100)
    small = schedule.fixed_log_variance(40, torch.zeros(1, 1, 1, 1))
    large = schedule.fixed_log_variance(40, torch.zeros(1, 1, 1, 1), large=True)
    assert small < large
    v = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(4, 1, 1, 1)
    expected = torch.cat([small, (small + large) / 2, large, 2 * large - small])
    torch.testing.assert_close(schedule.learned_log_variance(40, v), expected)


def test_constants_are_cast_last() -> None:
    """In float32 throughout, 1 - alpha_bar_0 of the cosine schedule has lost three digits."""
    schedule = Schedule.cosine()
    one = torch.ones(1, 1, 1, 1)
    noise = float(schedule.q_sample(0 * one, 0, one))
    assert noise == pytest.approx((1 - schedule.alpha_bar[0]) ** 0.5, rel=1e-7)
    assert schedule.q_sample(one.half(), 3, one.half()).dtype == torch.float16


@pytest.mark.parametrize("rule", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 4, 7, 30, 50, 250])
def test_spacings_are_diffusers(rule: Literal["leading", "trailing"], steps: int) -> None:
    offset = 1 if rule == "leading" else 0
    scheduler = DDIMScheduler(timestep_spacing=rule, steps_offset=offset)
    scheduler.set_timesteps(steps)
    spacing = Spacing(rule=rule, offset=offset)
    kept = replace(Schedule.linear(), spacing=spacing).respaced(steps)
    assert kept.timesteps.tolist() == scheduler.timesteps.tolist()[::-1]
    np.testing.assert_array_equal(kept.alpha_bar, Schedule.linear().alpha_bar[kept.timesteps])


def test_a_spacing_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"timestep would be 1000, but .* ends at 999"):
        Spacing(rule="leading", offset=1).kept(1000, 1000)
    for rule in ("leading", "trailing"):
        with pytest.raises(ValueError, match="give 1 to 1000 steps"):
            Spacing(rule=rule).kept(1000, 1001)  # type: ignore[arg-type]
