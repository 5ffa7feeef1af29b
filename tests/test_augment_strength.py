"""How strong a guidance is, on which steps, and what keeps its push when they change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augment_doubles import mixture_denoiser, tiny_denoiser

from augment import Schedule, SelfGuidance, sample
from augment.guidance import Strength


@pytest.mark.parametrize(
    ("schedule", "every", "push"),
    [
        (Schedule.cosine(), 1, 9.65),
        (Schedule.cosine(), 2, 4.55),
        (Schedule.cosine(), 5, 1.55),
        (Schedule.linear(), 1, 9.79),
        (Schedule.linear(), 2, 4.88),
        (Schedule.linear(), 5, 1.93),
    ],
)
def test_the_scheduled_variances_of_250_steps_sum_to_known_pushes(
    schedule: Schedule, every: int, push: float
) -> None:
    assert Strength()._push(schedule.respaced(250), every) == pytest.approx(push, abs=0.005)


@pytest.mark.parametrize("schedule", [Schedule.cosine(), Schedule.linear()])
def test_a_budget_is_the_scale_at_250_steps_and_every_5(schedule: Schedule) -> None:
    for budget in (0.1, 0.3, 0.4, 0.7):
        assert Strength(budget=budget).resolved_scale(schedule, 250) == budget
    assert Strength(scale=0.7).resolved_scale(schedule, 50) == 0.7


@pytest.mark.parametrize(("steps", "every"), [(50, 5), (50, 1), (250, 1), (1000, 20), (25, 2)])
@pytest.mark.parametrize("switch_off", [None, 0.3])
def test_a_budget_pushes_as_far_whatever_the_steps_and_the_rate(
    steps: int, every: int, switch_off: float | None
) -> None:
    full = Schedule.cosine()

    def push(n: int, rate: int) -> float:
        variances = np.exp(full.respaced(n).posterior_log_variance)
        least = -1 if switch_off is None else n * switch_off + 1e-9
        return sum(float(variances[i]) for i in range(n) if i % rate == 0 and i > least)

    strength = Strength(budget=0.4, every=every, switch_off=switch_off)
    w = strength.resolved_scale(full, steps)
    assert w * push(steps, every) == pytest.approx(0.4 * push(250, 5))


def test_a_budget_in_fixed_units_counts_the_guided_steps() -> None:
    strength = Strength(budget=0.02, unit="fixed", every=1)
    assert strength.resolved_scale(Schedule.cosine(), 100) == pytest.approx(0.02 * 50 / 100)


def test_a_budget_on_a_schedule_shorter_than_250_counts_all_of_it() -> None:
    strength = Strength(budget=0.4)
    assert strength.resolved_scale(Schedule.linear(100), 100) == pytest.approx(0.4)
    # Beyond the last guided step there is nothing to push with, and nothing is divided by zero.
    assert Strength(budget=0.4, switch_off=1.0).resolved_scale(Schedule.linear(), 50) == 0.0


@pytest.mark.parametrize(
    ("switch_off", "steps", "last"),
    [(None, 10, 0), (0.0, 10, 1), (0.3, 10, 4), (0.58, 100, 59), (0.57, 100, 58), (0.95, 10, None)],
)
def test_guidance_is_switched_off_at_the_fraction_and_below(
    switch_off: float | None, steps: int, last: int | None
) -> None:
    """The test is strict; 100 * .58 and 100 * .57 fall short of the index they mean."""
    strength = Strength(every=1, switch_off=switch_off)
    guided = [i for i in range(steps) if strength.active(i, steps)]
    assert guided == ([] if last is None else list(range(last, steps)))


@pytest.mark.parametrize(
    "guidance",
    [SelfGuidance(every=1, switch_off=1.0), SelfGuidance(budget=0.0), SelfGuidance(scale=0.0)],
)
def test_a_guidance_that_is_never_on_gives_plain_sampling_bit_for_bit(
    guidance: SelfGuidance,
) -> None:
    denoiser = tiny_denoiser()
    plain = sample(denoiser, range(3), steps=8)
    assert torch.equal(plain, sample(denoiser, range(3), steps=8, guidance=guidance))


def test_a_budget_makes_up_for_the_rate_on_a_mixture() -> None:
    """Guided at every step at the scale for every fifth, nearly all samples would be rare ones."""

    def rare_share(guidance: SelfGuidance) -> float:
        images = sample(
            mixture_denoiser(), range(1000), steps=100, batch_size=1000, guidance=guidance
        )
        return (images.float().mean(dim=(1, 2, 3)) < 127.5).float().mean().item()

    fifth = rare_share(SelfGuidance(budget=0.8, every=5))
    assert fifth > 0.1 + 3 * (0.1 * 0.9 / 1000) ** 0.5
    for every in (1, 2):
        assert rare_share(SelfGuidance(budget=0.8, every=every)) == pytest.approx(fifth, abs=0.1)
    assert rare_share(SelfGuidance(scale=0.8, every=1)) > fifth + 0.3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", float("inf")),
        ("budget", -1.0),
        ("budget", float("nan")),
        ("unit", "pixels"),
        ("switch_off", 1.1),
        ("switch_off", -0.1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^guidance\.{setting} is {value!r}; .*$") as refusal:
        Strength(**{setting: value})  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
