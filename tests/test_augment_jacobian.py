"""JEPA and uncertainty guidance by closed forms: known Jacobians, known entropies, their cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from augment_doubles import mixture_denoiser, step_of, tiny_denoiser
from torch import Tensor, nn

from augment import reverse_process, sample
from augment.guidance import JacobianGuidance, Joint, LogOdds, Step, UncertaintyGuidance
from augment.jepa_score import Spectrum, check_curved, jepa_scores


def _step(seeds: range = range(3)) -> Step:
    return step_of(tiny_denoiser("fixed_small", channels=1), seeds=seeds, linear=1.5)


_SLOPES = torch.tensor([8.0, 4.0, 0.5, 0.2, 0.1])


def _squares(images: Tensor) -> Tensor:
    """Output k is a_k x_k^2 / 2, so that the Jacobian is diagonal, a_k x_k."""
    return _SLOPES * images.flatten(1)[:, :5].square() / 2


def _smooth(images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    first, last = torch.randn(64, 16, generator=generator), torch.randn(16, 6, generator=generator)
    return (images.flatten(1) @ first / 8).tanh() @ last


def _linear(images: Tensor) -> Tensor:
    return images.flatten(1)[:, :3] * 2


_ReLU = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))


def test_the_score_of_a_diagonal_map_is_the_sum_of_the_logarithms_of_its_slopes() -> None:
    step = _step()
    measure = JacobianGuidance(encoder=_squares).measure(step, step.estimate)
    slopes = (_SLOPES * step.estimate.flatten(1)[:, :5]).abs()
    torch.testing.assert_close(measure, -slopes.log().sum(dim=1))
    gradient = step.gradient(measure).flatten(1)  # of log |x_k|, downwards; 1.5 cancels
    torch.testing.assert_close(gradient[:, :5], -1 / step.x_i.flatten(1)[:, :5])
    assert not gradient[:, 5:].any()


@pytest.mark.parametrize("encoder", [_squares, _smooth])
def test_a_decomposition_of_full_rank_is_the_exact_score(
    encoder: Callable[[Tensor], Tensor],
) -> None:
    exact, random = _step(), _step()
    outputs = encoder(exact.estimate).shape[1]
    a = JacobianGuidance(encoder=encoder).measure(exact, exact.estimate)
    b = JacobianGuidance(encoder=encoder, rank=outputs).measure(random, random.estimate)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(exact.gradient(a), random.gradient(b), rtol=1e-2, atol=1e-3)


def test_the_exact_score_is_that_of_the_singular_values_of_pytorchs_jacobian() -> None:
    step = _step(range(1))
    found = JacobianGuidance(encoder=_smooth).measure(step, step.estimate)
    jacobian = torch.autograd.functional.jacobian(_smooth, step.estimate.detach()).reshape(6, 64)
    torch.testing.assert_close(-found[0], torch.linalg.svdvals(jacobian).log().sum())


def test_a_low_rank_finds_the_largest_singular_values() -> None:
    step = _step()
    guidance = JacobianGuidance(encoder=_smooth, rank=2, oversample=2, iterations=6)
    found = guidance.measure(step, step.estimate)
    for image, score in zip(step.estimate.detach(), found, strict=True):
        jacobian = torch.autograd.functional.jacobian(_smooth, image[None]).reshape(6, 64)
        largest = torch.linalg.svdvals(jacobian)[:2].log().sum()
        torch.testing.assert_close(-score, largest, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("encoder", [_linear, _ReLU], ids=["linear", "relu"])
@pytest.mark.parametrize("rank", [None, 2])
def test_an_encoder_whose_jacobian_is_constant_moves_nothing(
    encoder: Callable[[Tensor], Tensor], rank: int | None
) -> None:
    assert not JacobianGuidance(encoder=encoder, rank=rank).shift(_step()).any()


@pytest.mark.parametrize("encoder", [_linear, _ReLU], ids=["linear", "relu"])
def test_an_encoder_without_curvature_is_refused_in_one_line(
    encoder: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(
        ValueError, match=r"^the encoder of JEPA .* gradient; give jacobian.encoder"
    ):
        check_curved(encoder, (1, 8, 8), torch.device("cpu"))
    check_curved(_smooth, (1, 8, 8), torch.device("cpu"))


def test_real_images_are_scored_by_the_jacobian_also_of_relu_networks() -> None:
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    for encoder in (_smooth, _ReLU):
        found = jepa_scores(encoder, images, Spectrum(), device=torch.device("cpu"), batch_size=2)
        for image, score in zip(images.float() / 127.5 - 1, found, strict=True):
            jacobian = torch.autograd.functional.jacobian(encoder, image[None]).reshape(-1, 64)
            torch.testing.assert_close(score.float(), torch.linalg.svdvals(jacobian).log().sum())


def test_a_step_runs_the_denoiser_once_forwards_and_once_back() -> None:
    denoiser = tiny_denoiser("fixed_small", channels=1)
    for guidance in (
        JacobianGuidance(encoder=_smooth, every=1),
        JacobianGuidance(encoder=_smooth, every=1, rank=2),
        UncertaintyGuidance(log_odds=_smooth, every=1),
    ):
        denoiser.network.forwards = denoiser.network.backwards = 0  # type: ignore[assignment]
        list(reverse_process(denoiser, range(2), steps=5, guidance=guidance))
        assert (denoiser.network.forwards, denoiser.network.backwards) == (5, 5)


def test_batches_do_not_change_an_image() -> None:
    """The shifts of an image beside others are those of it alone, random directions included."""
    guidance = JacobianGuidance(encoder=_smooth, rank=2)
    alone, beside = _step(range(1)), _step(range(3))
    first = guidance.shift(beside)[:1]
    with torch.no_grad():
        alone.x_i.copy_(beside.x_i[:1])
    alone = _step_at(alone)
    torch.testing.assert_close(guidance.shift(alone), first, rtol=1e-3, atol=1e-6)


def _step_at(step: Step) -> Step:
    """The step with the estimate of what `x_i` holds now."""
    return replace(step, estimate=1.5 * step.x_i)


def test_the_entropy_is_highest_where_the_classifier_knows_nothing() -> None:
    step = _step()
    measure = UncertaintyGuidance(log_odds=_linear).measure(step, step.estimate)
    p = _linear(step.estimate).double().sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean(dim=1)
    torch.testing.assert_close(measure.double(), entropy, rtol=1e-5, atol=1e-6)
    # dH/dz = -z p (1 - p): towards z = 0.
    gradient = step.gradient(measure).flatten(1)[:, :3].double()
    z = _linear(step.estimate).double()
    torch.testing.assert_close(gradient, -z * p * (1 - p) * 2 * 1.5 / 3, rtol=1e-4, atol=1e-6)


def test_uncertainty_guidance_brings_images_to_the_boundary_of_a_known_mixture() -> None:
    denoiser = mixture_denoiser((0.5, -0.5), (0.95, 0.05))

    def brightness(images: Tensor) -> Tensor:
        return 10 * images.mean(dim=(1, 2, 3))[:, None]

    def share_dark(guidance: UncertaintyGuidance | None) -> float:
        images = sample(denoiser, range(200), steps=30, guidance=guidance).float()
        return float((images.mean(dim=(1, 2, 3)) < 127.5).float().mean())

    guided = UncertaintyGuidance(log_odds=brightness, scale=2.0, every=1)
    assert share_dark(guided) > share_dark(None) + 0.1


def test_they_join_and_their_text_names_the_labeler() -> None:
    class Known:
        attributes, sha256 = ("a", "b"), "0123456789abcdef0123"

        def log_odds(self, images: Tensor) -> Tensor:
            return _smooth(images[:, :1])[:, :2]

    encoder = LogOdds(Known())
    both = Joint(JacobianGuidance(encoder=encoder), UncertaintyGuidance(log_odds=encoder))
    assert both.shift(_step()).any()
    assert repr(both).count("LogOdds('0123456789abcdef')") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 0}, "jacobian.rank is 0"), ({"oversample": -1}, "jacobian.oversample is -1")],
)
def test_what_is_no_decomposition_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JacobianGuidance(encoder=_smooth, **settings)  # type: ignore[arg-type]
