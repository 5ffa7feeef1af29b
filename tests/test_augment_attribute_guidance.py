"""Attribute guidance by closed forms: linear labelers, an exact mixture, and what a step costs."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from augment_doubles import mixture_denoiser, step_of, tiny_denoiser
from torch import Tensor

from augment import (
    L2,
    AttributeGuidance,
    AttributeGuidanceConfig,
    Joint,
    SelfGuidance,
    SelfGuidanceConfig,
    Sum,
    reverse_process,
    sample,
)
from augment.guidance import Ascent, Step

NAMES = ("Bright", "Left")


def _log_odds(images: Tensor) -> Tensor:
    """Two linear attributes of images about [0, 1]: brighter than grey, brighter on the left."""
    grey = images.mean(dim=1)
    left, right = grey.chunk(2, dim=2)
    bright = grey.mean(dim=(1, 2)) - 0.5
    return torch.stack([40 * bright, 20 * (left - right).mean(dim=(1, 2))], dim=1)


class Linear:
    """A labeler of these two attributes."""

    attributes = NAMES
    sha256 = "0123456789abcdef0123"

    @staticmethod
    def log_odds(images: Tensor) -> Tensor:
        return _log_odds(images)


class Bounded(Linear):
    """The same, hardly surer of an image far from grey."""

    @staticmethod
    def log_odds(images: Tensor) -> Tensor:
        return _log_odds(images).asinh()


def _guidance(**settings: object) -> AttributeGuidance:
    values = {"labeler": Linear(), "wish": {"Bright": 1}, "every": 1}
    return AttributeGuidance(**values | settings)  # type: ignore[arg-type]


def test_the_measure_is_the_mean_log_likelihood_of_the_wish() -> None:
    denoiser = tiny_denoiser()
    step = step_of(denoiser)
    guidance = _guidance(wish={"Bright": 1, "Left": 0}, weights={"Left": 3.0})
    log_odds = _log_odds((step.estimate + 1) / 2)
    expected = (log_odds[:, 0].sigmoid().log() + 3 * (-log_odds[:, 1]).sigmoid().log()) / 4
    torch.testing.assert_close(guidance.measure(step, step.estimate), expected)


def test_a_push_has_the_unit_of_self_guidance_and_relaxes_by_the_probability() -> None:
    denoiser = tiny_denoiser("fixed_small")
    full = _guidance(scale=2.0, relax=False).shift(step_of(denoiser))
    largest = full.abs().amax(dim=(1, 2, 3))
    variance = float(step_of(denoiser).variance)
    torch.testing.assert_close(largest, torch.full((3,), 2 * variance))
    step = step_of(denoiser)
    p = _log_odds((step.estimate.detach() + 1) / 2)[:, 0].sigmoid()
    relaxed = _guidance(scale=2.0).shift(step)
    torch.testing.assert_close(relaxed, (1 - p).reshape(-1, 1, 1, 1) * full, rtol=1e-4, atol=1e-8)


def test_the_opposite_wish_pushes_the_opposite_way() -> None:
    denoiser = tiny_denoiser()
    up = _guidance(relax=False).shift(step_of(denoiser))
    down = _guidance(relax=False, wish={"Bright": 0}).shift(step_of(denoiser))
    torch.testing.assert_close(up, -down)


def test_each_image_has_its_own_wish_and_one_without_is_left_alone() -> None:
    denoiser = tiny_denoiser()
    wishes = {0: {"Bright": 1}, 1: {}, 2: {"Left": 1}}
    mixed = _guidance(wish=wishes.__getitem__).shift(step_of(denoiser))
    assert not mixed[1].any()
    for seed in (0, 2):
        alone = _guidance(wish=wishes[seed]).shift(step_of(denoiser))
        torch.testing.assert_close(mixed[seed], alone[seed])


def test_it_makes_the_rare_mode_of_a_known_mixture_common() -> None:
    denoiser = mixture_denoiser((0.5, -0.5), (0.05, 0.95))

    def share_bright(guidance: AttributeGuidance | None) -> float:
        images = sample(denoiser, range(200), steps=30, guidance=guidance).float()
        return float((images.mean(dim=(1, 2, 3)) > 127.5).float().mean())

    assert share_bright(None) == pytest.approx(0.05, abs=0.04)
    assert share_bright(_guidance(scale=3.0)) > 0.9


def test_batches_do_not_change_an_image() -> None:
    denoiser = tiny_denoiser()
    guidance = _guidance(
        # The first estimates of an untrained network are so large that the gradient of a wish which
        # they meet would underflow.
        labeler=Bounded(),
        relax=False,
        wish=lambda seed: {NAMES[seed % 2]: 1},
    )
    whole = sample(denoiser, range(4), steps=6, guidance=guidance)
    parts = sample(denoiser, range(4), steps=6, guidance=guidance, batch_size=1)
    assert (whole.int() - parts.int()).abs().max() <= 1


def test_joint_of_one_is_that_one_and_of_two_goes_back_once() -> None:
    denoiser = tiny_denoiser("fixed_small")
    guidance = _guidance(scale=1.5)
    torch.testing.assert_close(
        Joint(guidance).shift(step_of(denoiser)), guidance.shift(step_of(denoiser))
    )
    minority = SelfGuidance(scale=1.0, every=1)
    for combine, backwards in ((Joint, 1), (Sum, 2)):
        network = denoiser.network
        step = step_of(denoiser)
        network.forwards = network.backwards = 0  # type: ignore[assignment]
        combine(minority, guidance).shift(step)
        assert (network.forwards, network.backwards) == (1, backwards)  # of the second estimate


def test_joint_directions_add_up_at_the_estimate() -> None:
    """With a denoiser whose estimate is linear in x_i, the way back is the same for all."""
    denoiser = mixture_denoiser((0.0,), (1.0,))
    guidance = _guidance(scale=1.0, relax=False)
    against = _guidance(scale=1.0, relax=False, wish={"Bright": 0})
    assert not Joint(guidance, against).shift(step_of(denoiser)).any()
    twice = Joint(guidance, guidance).shift(step_of(denoiser))
    torch.testing.assert_close(twice, 2 * guidance.shift(step_of(denoiser)))


def test_joint_is_active_where_any_part_is_and_asks_only_those() -> None:
    denoiser = tiny_denoiser()
    often, seldom = _guidance(every=2), SelfGuidance(scale=1.0, every=4, distance=L2())
    joint = Joint(often, seldom)
    assert [i for i in range(9) if joint.active(i, 9)] == [0, 2, 4, 6, 8]
    denoiser.network.forwards = 0  # type: ignore[assignment]
    list(reverse_process(denoiser, range(2), steps=9, guidance=joint))
    assert denoiser.network.forwards == 9 + 3


def test_an_ascent_that_is_not_finite_moves_nothing() -> None:
    class Broken(Ascent):
        def measure(self, step: Step, x0: Tensor) -> Tensor:
            return x0.flatten(1).sum(dim=1) * math.nan

    denoiser = tiny_denoiser()
    assert not Broken(every=1).shift(step_of(denoiser)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wish": {"Bald": 1}}, "asks for Bald=1; give 1 or 0 for one of Bright, Left"),
        ({"wish": {"Bright": 2}}, "asks for Bright=2"),
        ({"weights": {"Bright": 0.0}}, "weights has 0.0 for Bright"),
        ({"scale": -1.0}, r"^steering\.scale is -1.0"),
    ],
)
def test_what_cannot_be_wished_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _guidance(**settings)


def test_no_guidance_to_join_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Joint needs at least one guidance; use None"):
        Joint()


def test_its_text_names_labeler_wish_and_what_was_changed() -> None:
    assert repr(_guidance(scale=0.5, weights={"Left": 3.0})) == (
        "AttributeGuidance(labeler='0123456789abcdef', wish={'Bright': 1}, scale=0.5, every=1, "
        "weights={'Left': 3.0})"
    )


@pytest.mark.parametrize(
    ("guidance", "config"),
    [(AttributeGuidance, AttributeGuidanceConfig), (SelfGuidance, SelfGuidanceConfig)],
)
def test_a_guidance_has_the_defaults_of_its_settings(guidance: type, config: type) -> None:
    defaults = {field.name: field.default for field in fields(guidance)}
    assert {field.name: field.default for field in fields(config)}.items() <= defaults.items()
