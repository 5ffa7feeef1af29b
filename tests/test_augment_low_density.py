"""Low-density guidance, heads and the hardness score against closed forms and scipy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from augment_doubles import class_denoiser, mixture_denoiser, step_of, tiny_denoiser
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from torch.nn import functional as F

from augment import L2, ClassifierGuidance, ImageFormat, Schedule, Sum, sample
from augment.guidance import HardnessAscent, PushOfClass
from augment.heads import NOT_ASKED, log_likelihood
from augment.metrics import Hardness
from augment.minority_score import ScoreConfig, minority_classes, minority_score
from augment.sampler import sample_batch


class Pixels(nn.Module):
    """Each head's last logit is a fixed linear map of the noisy pixels, and the others are 0."""

    def __init__(self, heads: Mapping[str, int], shape: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.heads, self.schedule = dict(heads), Schedule.cosine()
        self.image = ImageFormat(channels=shape[0], size=shape[1])
        self.weights = {name: torch.randn(shape, generator=generator) / 30 for name in heads}
        self.card = {"sha256": f"{seed}123456789abcdef0"}
        self.evaluations = 0

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        self.evaluations += 1
        logits = []
        for name, size in self.heads.items():
            last = (x * self.weights[name]).sum(dim=(1, 2, 3))
            logits += [*[torch.zeros_like(last)] * (size - 1), last]
        return torch.stack(logits, dim=1)


def test_a_heads_likelihood_is_pytorchs_cross_entropy_and_the_unasked_count_nothing() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1], [3, 0], [NOT_ASKED, 2], [1, NOT_ASKED], [NOT_ASKED] * 2])
    losses = [
        F.cross_entropy(part, column, ignore_index=NOT_ASKED, reduction="none")
        for part, column in zip(logits.split([4, 3], dim=1), targets.T, strict=True)
    ]
    torch.testing.assert_close(log_likelihood(logits, [4, 3], targets), -sum(losses))
    assert log_likelihood(torch.full((1, 2), -torch.inf), [2], torch.tensor([[NOT_ASKED]])) == 0


def test_heads_of_separate_trunks_are_a_sum_of_classifiers() -> None:
    denoiser = tiny_denoiser()
    shape = denoiser.image.shape
    wishes = [{"a": 1, "b": 0}, {"a": 0, "b": 1}, {"b": 1}]
    both = Pixels({"a": 2, "b": 2}, shape)
    alone = {name: Pixels({name: 2}, shape) for name in both.heads}
    for name, one in alone.items():
        one.weights = {name: both.weights[name]}
    whole = ClassifierGuidance(classifier=both, target=wishes.__getitem__, scale=2.0)
    parts = [
        ClassifierGuidance(
            classifier=one,
            target=lambda seed, name=name: {k: v for k, v in wishes[seed].items() if k == name},
            scale=2.0,
        )
        for name, one in alone.items()
    ]
    step = step_of(denoiser)
    found = whole.shift(step)
    assert found.abs().amax(dim=(1, 2, 3)).min() > 0
    torch.testing.assert_close(found, Sum(*parts).shift(step))
    assert (both.evaluations, [one.evaluations for one in alone.values()]) == (1, [1, 1])


def test_the_complement_flips_an_undecided_head_and_a_certain_head_is_done() -> None:
    denoiser = tiny_denoiser()
    classifier = Pixels({"a": 2}, denoiser.image.shape)
    undecided = replace(step_of(denoiser), x_i=torch.zeros(3, *denoiser.image.shape))
    shifts = [
        ClassifierGuidance(classifier=classifier, target=target).shift(undecided)
        for target in (0, 1)
    ]
    assert shifts[0].abs().max() > 0
    torch.testing.assert_close(shifts[0], -shifts[1])
    certain = classifier.weights["a"].expand(3, -1, -1, -1) * 1e4
    sure = replace(undecided, x_i=certain)
    assert not ClassifierGuidance(classifier=classifier, target=1).shift(sure).any()


def test_with_a_head_for_each_class_of_the_model_the_images_own_counts() -> None:
    denoiser = class_denoiser(classes=3)
    classifier = Pixels({"0": 4, "1": 4, "2": 4}, denoiser.image.shape)
    step = step_of(denoiser)
    found = ClassifierGuidance(classifier=classifier, target=3).shift(step)
    own = ClassifierGuidance(classifier=classifier, target=lambda seed: {str(seed % 3): 3})
    torch.testing.assert_close(found, own.shift(step))  # the labels of these seeds
    ClassifierGuidance(classifier=classifier, target=3).check(denoiser)
    with pytest.raises(ValueError, match=r"has 3 heads, the model no classes, and .*target is 3"):
        sample(tiny_denoiser(channels=1), [0], steps=2, guidance=replace(own, target=3))
    with pytest.raises(ValueError, match=r"asks for 7=1; the classifier's heads .*\{'0': 4, '1'"):
        replace(own, target=lambda seed: {"7": 1}).shift(step)


def test_a_term_pushes_as_far_as_its_strength_and_swapping_the_classes_flips_it() -> None:
    denoiser = tiny_denoiser("fixed_small")
    classifier = Pixels({"real": 2}, denoiser.image.shape)
    step = step_of(denoiser)
    towards = PushOfClass(classifier=classifier, target=1, scale=0.7)
    found = towards.shift(step)
    largest = found.abs().amax(dim=(1, 2, 3)) / step.variance.flatten()
    torch.testing.assert_close(largest, torch.full_like(largest, 0.7))
    # Of two classes, away from one is towards the other.
    torch.testing.assert_close(replace(towards, away=True).shift(step), -found)
    torch.testing.assert_close(replace(towards, target=0).shift(step), -found)
    torch.testing.assert_close(replace(towards, target=0, away=True).shift(step), found)


def test_a_term_does_not_depend_on_the_size_of_the_gradient_and_none_is_no_nan() -> None:
    denoiser = tiny_denoiser()
    classifier, step = Pixels({"real": 2}, denoiser.image.shape), step_of(denoiser)
    found = PushOfClass(classifier=classifier, target=1).shift(step)
    # Where it is all but certain, the gradient is tiny, and the push is the same.
    classifier.weights["real"] = classifier.weights["real"] * 1e-6
    torch.testing.assert_close(PushOfClass(classifier=classifier, target=1).shift(step), found)
    classifier.weights["real"] = torch.zeros_like(classifier.weights["real"])
    assert not PushOfClass(classifier=classifier, target=1).shift(step).any()


def test_the_terms_add_up_within_their_strengths_and_without_any_it_is_plain_sampling() -> None:
    denoiser = tiny_denoiser("fixed_small")
    shape = denoiser.image.shape
    away = PushOfClass(classifier=Pixels({"data": 2}, shape), target=1, scale=0.3, away=True)
    real = PushOfClass(classifier=Pixels({"real": 2}, shape, seed=1), target=1, scale=0.5)
    step = step_of(denoiser)
    together = Sum(away, real).shift(step)
    torch.testing.assert_close(together, away.shift(step) + real.shift(step))
    assert (together.abs() / step.variance).max() <= 0.8 + 1e-6
    none = Sum(replace(away, scale=0.0), replace(real, scale=0.0))
    plain = sample(denoiser, range(3), steps=5)
    assert torch.equal(sample(denoiser, range(3), steps=5, guidance=none), plain)
    guided = sample(denoiser, range(3), steps=5, guidance=Sum(away, real))
    assert not torch.equal(guided, plain)
    one_by_one = sample(denoiser, range(3), steps=5, guidance=Sum(away, real), batch_size=1)
    assert torch.equal(one_by_one, guided)
    assert (
        repr(away) == "PushOfClass(classifier='0123456789abcdef', target=1, scale=0.3, away=True)"
    )


def test_it_costs_a_forward_of_each_network_and_no_backward_of_the_denoiser() -> None:
    denoiser = tiny_denoiser()
    shape = denoiser.image.shape
    classifiers = Pixels({"data": 2}, shape), Pixels({"real": 2}, shape)
    terms = [PushOfClass(classifier=one, target=1) for one in classifiers]
    sample(denoiser, range(2), steps=7, guidance=Sum(*terms))
    assert (denoiser.network.forwards, denoiser.network.backwards) == (7, 0)
    assert [one.evaluations for one in classifiers] == [7, 7]
    calls: list[int] = []

    def hardness(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images.square().mean(dim=(1, 2, 3))

    sample(denoiser, range(2), steps=7, guidance=HardnessAscent(hardness=hardness))
    assert (denoiser.network.forwards, denoiser.network.backwards) == (14, 7)
    assert calls == [2] * 7


def test_up_the_hardness_is_out_of_the_mode_of_a_mixture() -> None:
    """The hardness of the mean pixel is a parabola around the mean of the data, near the common
    mode, so that its ascent leads to the rare one.
    """
    denoiser = mixture_denoiser((0.5, -0.5), (0.9, 0.1), 0.4)
    fitted = Hardness.fitted(torch.tensor([[0.4 + 0.5], [0.4 - 0.5]]))
    guidance = HardnessAscent(hardness=lambda x: fitted(x.mean(dim=(1, 2, 3))[:, None]), scale=1.0)
    step = step_of(denoiser, 40, seeds=range(64))
    mean = step.estimate.detach().mean(dim=(1, 2, 3))
    shift = guidance.shift(step)
    assert shift.dtype == torch.float32  # whatever the score's is
    moved = shift.mean(dim=(1, 2, 3))
    assert (moved.sign() == (mean - 0.4).sign()).all()
    shares = []
    for one in (None, guidance):
        images = sample(denoiser, range(200), steps=50, guidance=one, batch_size=200)
        shares.append((images.float().mean(dim=(1, 2, 3)) < 127).float().mean().item())
    assert shares[1] > shares[0] + 0.1


def test_the_hardness_is_minus_the_log_density_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    classes = torch.arange(60) % 2
    found = Hardness.fitted(torch.from_numpy(real), classes, shrinkage=0.2)
    asked, own = torch.from_numpy(rng.normal(size=(7, 4))), torch.arange(7) % 2
    for row, y in enumerate(own.tolist()):
        mine = real[classes.numpy() == y]
        covariance = np.cov(mine, rowvar=False, bias=True)
        shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / 4 * np.eye(4)
        expected = -multivariate_normal(mine.mean(axis=0), shrunk).logpdf(asked[row].numpy())
        assert found(asked, own)[row].item() == pytest.approx(expected)
    torch.testing.assert_close(found(asked[:1], own[:1]), found(asked, own)[:1])


def test_what_no_gaussian_is_of_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^shrinkage is 0; give a number above 0, at most 1$"):
        Hardness.fitted(torch.randn(4, 2), shrinkage=0)
    with pytest.raises(ValueError, match=r"^class 1 has no image; number the classes that have"):
        Hardness.fitted(torch.randn(4, 2), torch.tensor([0, 0, 2, 2]))
    with pytest.raises(ValueError, match=r"^the features of class 0 do not vary; give more images"):
        Hardness.fitted(torch.ones(4, 2))


class OfNorm(nn.Module):
    """Whether an image of N(0, std^2 I) noised to x_t has a norm above about the median.

    Its posterior is N(m, v I), so |x_0|^2 has the mean |m|^2 + D v and the variance 4 v |m|^2 +
    2 D v^2 exactly, and is nearly normal.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.heads, self.schedule = {"minority_score": 2}, Schedule.cosine()
        self.image, self.card, self.std = ImageFormat(channels=1, size=4), {}, std

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        abar = float(self.schedule.alpha_bar[int(timestep[0])])
        variance = abar * self.std**2 + 1 - abar
        mean = (x * abar**0.5 * self.std**2 / variance).square().sum(dim=(1, 2, 3))
        v = self.std**2 * (1 - abar) / variance
        spread = (4 * v * mean + 2 * 16 * v**2).sqrt()
        above = (mean + 16 * v - 15.3 * self.std**2) / spread
        return torch.stack([torch.special.log_ndtr(-above), torch.special.log_ndtr(above)], dim=1)


def test_of_a_gaussian_the_highest_class_is_the_largest_norms_and_leads_there() -> None:
    """With L2, the expected score rises with the norm: a Gaussian's restored image is shrunk."""
    denoiser = mixture_denoiser((0.0,), (1.0,), 0.25)
    generator = torch.Generator().manual_seed(1)
    radii = torch.linspace(0.05, 0.45, 30)
    pixels = torch.randn(30, 1, 4, 4, generator=generator)
    size = pixels.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    x = radii.reshape(-1, 1, 1, 1) * pixels / size
    images = denoiser.image.to_uint8(x)
    scores = minority_score(denoiser, images, L2(), ScoreConfig(samples=40))
    highest = np.flatnonzero(minority_classes(scores.numpy(), 3) == 2)
    assert set(highest) == set(range(20, 30))

    def norm(guidance: ClassifierGuidance | None) -> float:
        # Near the image the class is certain: no gradient, which `sample` would warn of.
        images = sample_batch(denoiser, range(200), steps=50, guidance=guidance).images
        return ImageFormat.from_uint8(images).square().mean().sqrt().item()

    to = [ClassifierGuidance(classifier=OfNorm(0.25), target=target) for target in (0, 1)]
    low, plain, high = norm(to[0]), norm(None), norm(to[1])
    assert low < plain - 0.01 < plain + 0.01 < high
    # The push is radial, and the two classes' are opposite.
    step = step_of(denoiser, 40)
    pushes = [guidance.shift(step).flatten(1) for guidance in to]
    cosine = F.cosine_similarity(pushes[1], step.x_i.detach().flatten(1))
    torch.testing.assert_close(cosine, torch.ones(3))
    torch.testing.assert_close(F.cosine_similarity(*pushes), -torch.ones(3))
    none = ClassifierGuidance(classifier=OfNorm(0.25), target=1, scale=0.0)
    assert norm(none) == plain
