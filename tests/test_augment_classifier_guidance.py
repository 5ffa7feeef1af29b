"""Classifier guidance against closed forms of a mixture, and guidances added up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adm_doubles import Adm, AdmClassifier, randomised
from augment_doubles import class_denoiser, mixture_denoiser, step_of, tiny_denoiser
from torch import Tensor, nn

from augment import (
    L1,
    ClassifierGuidance,
    Denoiser,
    ImageFormat,
    Schedule,
    SelfGuidance,
    Sum,
    generate,
    load_noised_classifier,
    sample,
)
from augment.generate import SamplerConfig
from augment.guidance import Guidance
from augment.pretrained import CheckpointOptions

MEANS, WEIGHTS, STD = (0.5, -0.5), (0.9, 0.1), 0.4


class ExactClassifier(nn.Module):
    """p(mode | x_t) of a mixture of N(mean_k, std^2 I), by Bayes' rule."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        super().__init__()
        self.schedule = schedule or Schedule.cosine()
        self.heads, self.card = {"mode": len(MEANS)}, {"sha256": "0123456789abcdef0123"}
        self.image = ImageFormat(channels=1, size=4)
        self.asked: list[int] = []

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        self.asked.append(int(timestep[0]))
        abar = float(self.schedule.alpha_bar[int(timestep[0])])
        away = torch.stack([x - abar**0.5 * mean for mean in MEANS], dim=1).flatten(2)
        likelihood = -away.square().sum(dim=2) / (2 * (abar * STD**2 + 1 - abar))
        return likelihood + torch.tensor(np.log(WEIGHTS), dtype=torch.float32)


def _mixture() -> Denoiser:
    return mixture_denoiser(MEANS, WEIGHTS, STD)


def _share(guidance: Guidance | None, n: int = 400) -> float:
    """Of the rare mode, the second."""
    images = sample(_mixture(), range(n), steps=50, guidance=guidance, batch_size=n)
    return (images.float().mean(dim=(1, 2, 3)) < 127.5).float().mean().item()


@pytest.mark.parametrize("i", [0, 20, 45])
def test_the_shift_is_the_variance_times_the_gradient_of_the_log_probability(i: int) -> None:
    """It is d log p_k / dx = signal (mean_k - sum_j p_j mean_j) / variance of x_t given a mode."""
    step, classifier = step_of(_mixture(), i), ExactClassifier()
    guidance = ClassifierGuidance(classifier=classifier, target=1, scale=3.0)
    tau, abar = int(step.schedule.timesteps[i]), float(step.schedule.alpha_bar[i])
    p = classifier(step.x_i.detach(), torch.full((3,), tau)).softmax(dim=1)
    expected_mean = p[:, 0] * MEANS[0] + p[:, 1] * MEANS[1]
    pull = abar**0.5 * (MEANS[1] - expected_mean) / (abar * STD**2 + 1 - abar)
    expected = 3.0 * step.variance * pull.reshape(-1, 1, 1, 1)
    found = guidance.shift(step)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-3, atol=1e-7)
    assert set(classifier.asked) == {tau}  # Original timesteps, not respaced indices.


def test_bayes_rule_samples_the_wanted_mode_and_a_part_of_it_a_part() -> None:
    shares = [
        _share(ClassifierGuidance(classifier=ExactClassifier(), target=1, scale=scale))
        for scale in (0.2, 0.5, 1.0)
    ]
    assert _share(None) == pytest.approx(0.1, abs=0.05)
    assert 0.12 < shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9
    assert _share(ClassifierGuidance(classifier=ExactClassifier(), target=0)) < 0.01


def test_semantic_control_is_self_guidance_within_the_wanted_class() -> None:
    """Self-guidance alone goes to the rare mode; with a classifier, to the class that is asked."""
    rare = SelfGuidance(scale=1.6)
    common = ClassifierGuidance(classifier=ExactClassifier(), target=0, scale=1.0)
    assert _share(rare) > 0.2
    assert _share(Sum(rare, common)) < 0.05


def test_the_shift_of_a_sum_is_the_sum_of_the_shifts() -> None:
    parts = (
        SelfGuidance(every=2),
        ClassifierGuidance(classifier=ExactClassifier(), target=1, scale=2.0),
    )
    alone = [part.shift(step_of(_mixture(), 40)) for part in parts]
    assert all(shift.abs().max() > 0 for shift in alone)
    for order in (parts, parts[::-1]):
        torch.testing.assert_close(Sum(*order).shift(step_of(_mixture(), 40)), sum(alone))
    # Where only one of them is active, the sum is that one's, bit for bit.
    assert torch.equal(
        Sum(*parts).shift(step_of(_mixture(), 39)), parts[1].shift(step_of(_mixture(), 39))
    )
    nested = Sum(Sum(*parts), parts[1])
    torch.testing.assert_close(nested.shift(step_of(_mixture(), 40)), alone[0] + 2 * alone[1])


def test_self_guidances_of_two_distances_share_the_graph() -> None:
    denoiser = tiny_denoiser()
    first, second = SelfGuidance(), SelfGuidance(distance=L1())
    forwards = denoiser.network.forwards
    step = step_of(denoiser, 40)
    found = Sum(first, second).shift(step)
    assert denoiser.network.forwards == forwards + 3  # The step's own, and one each.
    lone = first.shift(step_of(denoiser, 40))
    other = step_of(denoiser, 40)
    other.perturbation.draw()  # The first one's.
    torch.testing.assert_close(found, lone + second.shift(other))


def test_a_sum_is_active_where_a_part_is() -> None:
    every = Sum(SelfGuidance(every=2), SelfGuidance(every=3))
    assert [i for i in range(10) if every.active(i, 10)] == [0, 2, 3, 4, 6, 8, 9]
    off = ClassifierGuidance(classifier=ExactClassifier(), target=0, scale=0.0)
    assert not any(Sum(SelfGuidance(scale=0.0), off).active(i, 10) for i in range(10))
    with pytest.raises(ValueError, match="at least one guidance; use None"):
        Sum()


def test_without_a_target_each_image_goes_to_its_own_class() -> None:
    labels = torch.tensor([1, 0, 1])
    denoiser, classifier = class_denoiser(classes=2), ExactClassifier()
    found = ClassifierGuidance(classifier=classifier).shift(step_of(denoiser, 30, labels=labels))
    for row, label in enumerate(labels.tolist()):
        targeted = ClassifierGuidance(classifier=classifier, target=label)
        assert torch.equal(found[row], targeted.shift(step_of(denoiser, 30, labels=labels))[row])
    classifier.image = denoiser.image
    ClassifierGuidance(classifier=classifier).check(denoiser)
    with pytest.raises(ValueError, match=r"has 2 classes, the model 4; .* give classifier.target"):
        ClassifierGuidance(classifier=classifier).check(class_denoiser())
    with pytest.raises(ValueError, match=r"target is left out, and the model has no classes; give"):
        sample(_mixture(), [0], steps=2, guidance=ClassifierGuidance(classifier=ExactClassifier()))


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    class Broken(ExactClassifier):
        def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
            return super().forward(x, timestep) * torch.tensor([[1.0], [float("nan")], [1.0]])

    shift = ClassifierGuidance(classifier=Broken(), target=1).shift(step_of(_mixture(), 30))
    assert shift.isfinite().all()
    assert shift.flatten(1).any(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 2}, r"^classifier.target is 2; give one of its classes, 0 to 1$"),
        ({"target": -1}, r"^classifier.target is -1; give one of its classes, 0 to 1"),
        ({"scale": -1.0}, r"^classifier.scale is -1.0; give a number from 0"),
        ({"scale": float("nan")}, r"^classifier.scale is nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierGuidance(classifier=ExactClassifier(), **settings)


def test_a_classifier_of_otherwise_noised_images_is_refused() -> None:
    for schedule in (Schedule.linear(), Schedule.cosine(500)):
        guidance = ClassifierGuidance(classifier=ExactClassifier(schedule), target=0)
        with pytest.raises(ValueError, match=r"give a classifier trained on the model's schedule$"):
            sample(_mixture(), [0], steps=10, guidance=guidance)


@pytest.mark.parametrize(
    ("settings", "image", "message"),
    [
        ({}, (1, 4), "classifier.target is left out"),
        ({"target": 0}, (1, 8), r"takes images of shape \(1, 8, 8\), the model makes \(1, 4, 4\);"),
        ({"target": 0}, (3, 4), r"takes images of shape \(3, 4, 4\), the model makes \(1, 4, 4\);"),
    ],
)
def test_what_does_not_suit_the_model_is_said_before_a_folder_is_claimed(
    tmp_path: Path, settings: dict[str, Any], image: tuple[int, int], message: str
) -> None:
    classifier = ExactClassifier()
    classifier.image = ImageFormat(channels=image[0], size=image[1])
    part = ClassifierGuidance(classifier=classifier, **settings)
    for guidance in (part, Sum(SelfGuidance(), Sum(part))):
        with pytest.raises(ValueError, match=message):
            generate(_mixture(), range(2), tmp_path / "out", guidance=guidance)
    assert not (tmp_path / "out").exists()


def test_a_loaded_classifier_guides_and_its_weights_name_the_run(tmp_path: Path) -> None:
    adm = Adm(widths=(32, 64), blocks=2, attention=(1,), out_channels=10, size=8)
    path = tmp_path / "classifier.pt"
    torch.save(randomised(AdmClassifier(adm)).state_dict(), path)
    asked = CheckpointOptions(attention_order="new", head_channels=16, schedule="cosine")
    classifier = load_noised_classifier(path, asked)
    guidance = ClassifierGuidance(classifier=classifier, target=3)
    assert classifier.card["sha256"][:16] in repr(guidance)
    assert repr(Sum(SelfGuidance(), guidance)) == f"{SelfGuidance()!r} + {guidance!r}"
    assert repr(guidance) != repr(replace(guidance, target=4))
    denoiser, sampler = tiny_denoiser(), SamplerConfig(steps=4)
    for part, name in ((guidance, "guided"), (Sum(SelfGuidance(), guidance), "self-guided")):
        folder = tmp_path / name
        table = generate(denoiser, range(2), folder, sampler=sampler, guidance=part)
        assert set(table["sampler"]) == {name}
        with pytest.raises(ValueError, match=r"another run \(guidance"):
            generate(denoiser, range(2), folder, sampler=sampler)
