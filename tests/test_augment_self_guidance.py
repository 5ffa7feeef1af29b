"""Self-guidance against a plain restatement of Algorithm 1, and what it does to a known mixture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from augment_doubles import mixture_denoiser, step_of, tiny_denoiser
from torch import Tensor

from augment import (
    L1,
    L2,
    ActivationDistance,
    Denoiser,
    FeatureDistance,
    SelfGuidance,
    SelfGuidanceConfig,
    load_denoiser,
    reverse_process,
    sample,
)
from augment.denoiser import VarianceType
from augment.distance import Distance
from augment.guidance.ascent import unit_max
from augment.noise import PERTURBATION, REVERSE, NoiseStream
from augment.schedule import Schedule
from labeling import Labeler, load_labeler


def _noise(seeds: range, purpose: int, shape: tuple[int, ...]) -> NoiseStream:
    return NoiseStream(seeds, purpose, shape, torch.device("cpu"))


def _algorithm_1(
    denoiser: Denoiser, seeds: range, steps: int, scale: float, every: int, s: int
) -> Tensor:
    """The paper's loop as it is written: three forwards for a guided step, no shared graph."""
    network, full = denoiser.network, denoiser.schedule.alpha_bar
    tau = np.linspace(0, len(full) - 1, steps).round().astype(int)
    abar, learned = full[tau], denoiser.variance == "learned_range"
    z, e = (_noise(seeds, purpose, denoiser.image.shape) for purpose in (REVERSE, PERTURBATION))

    def net(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        out = network(x, torch.full((len(x),), int(tau[i])))
        return (out[:, :3], out[:, 3:]) if learned else (out, out)

    def tweedie(x: Tensor, i: int, eps: Tensor) -> Tensor:
        return (x - float(1 - abar[i]) ** 0.5 * eps) / float(abar[i]) ** 0.5

    x = z.draw()
    for i in reversed(range(steps)):
        before = abar[i - 1] if i else 1.0
        beta = 1 - abar[i] / before
        j = max(i, 1)  # Sigma_0 uses beta~_1.
        tilde = (1 - abar[j] / abar[j - 1]) * (1 - abar[j - 1]) / (1 - abar[j])
        eps, v = net(x, i)
        f = (v + 1) / 2 if learned else torch.zeros_like(x)
        sigma2 = torch.exp(f * float(np.log(beta)) + (1 - f) * float(np.log(tilde)))
        x0 = tweedie(x, i, eps).clamp(-1, 1)
        mean = float(beta * before**0.5 / (1 - abar[i])) * x0
        mean = mean + float((1 - before) * (1 - beta) ** 0.5 / (1 - abar[i])) * x
        if i % every == 0:
            leaf = x.clone().requires_grad_(True)
            x0h = tweedie(leaf, i, net(leaf, i)[0])
            with torch.no_grad():
                x_s = float(abar[s]) ** 0.5 * x0h + float(1 - abar[s]) ** 0.5 * e.draw()
                x0hh = tweedie(x_s, s, net(x_s, s)[0])
            loss = ((x0h - x0hh) ** 2).sum()
            (g,) = torch.autograd.grad(loss, leaf)
            mean = mean + scale * sigma2 * g / g.abs().amax(dim=(1, 2, 3), keepdim=True)
        x = mean + sigma2.sqrt() * z.draw() if i else mean
    return x


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
@pytest.mark.parametrize(("steps", "every"), [(10, 5), (10, 2)])
def test_guided_sampling_equals_algorithm_1_written_out(
    variance: VarianceType, steps: int, every: int
) -> None:
    denoiser = tiny_denoiser(variance)
    guidance = SelfGuidance(scale=0.4, every=every, perturb=0.8)
    *_, last = reverse_process(denoiser, range(4), steps=steps, guidance=guidance)
    expected = _algorithm_1(denoiser, range(4), steps, 0.4, every, s=8)
    torch.testing.assert_close(last.x, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
def test_one_guided_step_equals_the_written_out_one_to_1e_6(variance: VarianceType) -> None:
    denoiser, steps, i = tiny_denoiser(variance), 250, 245
    x = _noise(range(4), REVERSE, denoiser.image.shape).draw()
    step = step_of(denoiser, i, steps, x, range(4))
    shift = SelfGuidance(scale=0.4, perturb=0.8).shift(step)
    full = denoiser.schedule.alpha_bar
    (abar, tau), (abar_s, tau_s) = ((float(full[t]), t) for t in (983, 802))  # tau(245), tau(200)
    e = _noise(range(4), PERTURBATION, denoiser.image.shape).draw()
    leaf = x.clone().requires_grad_(True)
    eps = denoiser.network(leaf, torch.full((4,), tau))[:, :3]
    x0h = leaf / abar**0.5 - (1 / abar - 1) ** 0.5 * eps
    x_s = (abar_s**0.5 * x0h + (1 - abar_s) ** 0.5 * e).detach()
    eps_s = denoiser.network(x_s, torch.full((4,), tau_s))[:, :3]
    x0hh = (x_s / abar_s**0.5 - (1 / abar_s - 1) ** 0.5 * eps_s).detach()
    (g,) = torch.autograd.grad((x0h - x0hh).flatten(1).norm(dim=1).sum(), leaf)
    expected = 0.4 * step.variance * g / g.abs().amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(shift, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("every", "first"), [(1, 249), (2, 248), (5, 245)])
def test_the_guided_steps_of_250_are_the_multiples_and_the_last(every: int, first: int) -> None:
    guidance = SelfGuidance(every=every)
    guided = [i for i in reversed(range(250)) if guidance.active(i, 250)]
    assert guided == list(range(first, -1, -every))
    assert not any(SelfGuidance(scale=0.0, every=every).active(i, 250) for i in range(250))


def test_guidance_raises_the_share_of_the_rare_mode_and_more_of_it_more() -> None:
    """The estimate of a rare sample comes back common, so the gradient points away from there."""

    def rare_share(scale: float) -> float:
        images = sample(
            mixture_denoiser(),
            range(1000),
            steps=50,
            batch_size=1000,
            guidance=SelfGuidance(scale=scale, every=5),
        )
        return (images.float().mean(dim=(1, 2, 3)) < 127.5).float().mean().item()

    shares = [rare_share(scale) for scale in (0.0, 0.4, 0.8, 1.6)]
    three_sigma = 3 * (0.1 * 0.9 / 1000) ** 0.5
    assert shares[0] == pytest.approx(0.1, abs=three_sigma)
    assert all(more > less + three_sigma for less, more in pairwise(shares))


def test_the_shift_is_the_scaled_variance_times_a_gradient_of_largest_entry_1() -> None:
    denoiser = tiny_denoiser()
    x = _noise(range(5), REVERSE, denoiser.image.shape).draw()
    step = step_of(denoiser, 40, 50, x, range(5))
    direction = SelfGuidance(scale=0.4).shift(step) / (0.4 * step.variance)
    torch.testing.assert_close(direction.abs().amax(dim=(1, 2, 3)), torch.ones(5))


def test_one_small_step_along_the_shift_raises_the_measure_by_the_gradients_norm() -> None:
    denoiser, seeds = tiny_denoiser("fixed_small"), range(4)
    x = _noise(seeds, REVERSE, denoiser.image.shape).draw()

    def measure(at: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        step = step_of(denoiser, 40, 50, at, seeds)
        again = (
            SelfGuidance()._denoised_again(step, step.estimate).detach()
            if target is None
            else target
        )
        return L2()(step.x0, again).detach(), again

    direction = unit_max(SelfGuidance(scale=1.0).shift(step_of(denoiser, 40, 50, x, seeds)))
    before, target = measure(x)
    h = 1e-3
    rise = (measure(x + h * direction, target)[0] - measure(x - h * direction, target)[0]) / (2 * h)
    # dL along g/|g|_inf is |g|^2/|g|_inf: positive, and for any other direction of that size less.
    against = direction.flip(-1)
    other = (measure(x + h * against, target)[0] - measure(x - h * against, target)[0]) / (2 * h)
    assert (measure(x + h * direction, target)[0] > before).all()
    assert (rise > other.abs()).all()


def test_squared_and_unsquared_distance_give_the_same_guided_step() -> None:
    denoiser = tiny_denoiser()
    x = _noise(range(4), REVERSE, denoiser.image.shape).draw()

    def shift(distance: Distance) -> Tensor:
        return SelfGuidance(distance=distance).shift(step_of(denoiser, 40, 50, x, range(4)))

    squared = shift(lambda a, b: (a - b).square().flatten(1).sum(dim=1))
    torch.testing.assert_close(shift(L2()), squared, atol=1e-6, rtol=1e-5)


def test_the_shift_of_an_image_does_not_depend_on_its_neighbours() -> None:
    denoiser = tiny_denoiser()
    x = _noise(range(4), REVERSE, denoiser.image.shape).draw()
    together = SelfGuidance().shift(step_of(denoiser, 40, 50, x, range(4)))
    alone = SelfGuidance().shift(step_of(denoiser, 40, 50, x[2:3], range(2, 3)))
    torch.testing.assert_close(alone, together[2:3], atol=1e-6, rtol=1e-5)


def test_a_zero_or_unusable_gradient_moves_nothing_and_leaves_the_others_alone() -> None:
    gradient = torch.ones(5, 1, 2, 2)
    gradient[0] = 0
    gradient[1, 0, 0, 0] = torch.nan
    gradient[2, 0, 0, 0] = torch.inf
    gradient[3] *= 1e-30
    gradient[4, 0, 1, 1] = -4
    unit = unit_max(gradient)
    assert torch.equal(unit[:3], torch.zeros(3, 1, 2, 2))
    assert torch.equal(unit[3], torch.ones(1, 2, 2))
    assert unit[4].tolist() == [[[0.25, 0.25], [0.25, -1.0]]]


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_a_distance_without_a_usable_gradient_leaves_plain_sampling(bad: float) -> None:
    denoiser = tiny_denoiser()
    guidance = SelfGuidance(every=2, distance=lambda a, b: bad * (a - b).flatten(1).sum(dim=1))
    plain = sample(denoiser, range(2), steps=6)
    with pytest.warns(UserWarning, match="zero or not finite on 6 steps of images"):  # 2 x 3
        guided = sample(denoiser, range(2), steps=6, guidance=guidance)
    assert torch.equal(plain, guided)


@pytest.mark.parametrize(
    ("steps", "perturb", "index"),
    [
        (100, 0.8, 80),
        (250, 0.8, 200),
        (100, 0.29, 29),
        (100, 0.57, 57),
        (100, 0.58, 58),
        (10, 0.0, 0),
        (250, 1 - 1e-13, 249),
    ],
)
def test_the_estimate_is_noised_at_the_fraction_of_the_steps(
    steps: int, perturb: float, index: int
) -> None:
    """int(100 * .29) would be 28; just below 1 is still a step that exists."""
    denoiser = tiny_denoiser("fixed_small")
    step = step_of(denoiser, 5, steps, torch.zeros(1, 3, 8, 8), range(1))
    again = SelfGuidance(perturb=perturb)._denoised_again(step, step.estimate)
    e = _noise(range(1), PERTURBATION, denoiser.image.shape).draw()
    x_s = step.schedule.q_sample(step.x0, index, e)
    eps = denoiser(x_s, index, step.schedule).eps
    torch.testing.assert_close(again, step.schedule.predict_x0(x_s, index, eps))


HOSTS = {
    "cosine": Schedule.cosine(),
    "linear": Schedule.linear(),
    "latent diffusion": Schedule.scaled_linear(first=0.0015, last=0.0195),
    "stable diffusion": Schedule.scaled_linear(first=0.00085, last=0.012),
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("steps", [4, 50, 250])
def test_the_estimate_is_noised_to_the_same_level_on_every_schedule(name: str, steps: int) -> None:
    full = HOSTS[name]
    schedule, s = SelfGuidance().noised_at(full, full.respaced(steps))
    assert schedule.alpha_bar[s] == pytest.approx(0.0931, abs=1e-3)
    share = {"cosine": 0.8, "linear": 0.48, "latent diffusion": 0.53, "stable diffusion": 0.68}
    assert schedule.timesteps[s] / 1000 == pytest.approx(share[name], abs=0.005)


def test_a_fraction_that_lands_on_the_same_timestep_gives_the_same_shift() -> None:
    """0.8 of 250 cosine steps is timestep 802, whose level the other setting names."""
    denoiser = tiny_denoiser()
    level = float(denoiser.schedule.alpha_bar[802])
    by_fraction = SelfGuidance(perturb=0.8, perturb_alpha_bar=0.5)
    by_level = SelfGuidance(perturb_alpha_bar=level)
    shifts = [g.shift(step_of(denoiser, 245, 250)) for g in (by_fraction, by_level)]
    assert torch.equal(*shifts)
    other = SelfGuidance(perturb_alpha_bar=0.5).shift(step_of(denoiser, 245, 250))
    assert not torch.allclose(shifts[0], other)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", -0.1),
        ("scale", float("nan")),
        ("every", 0),
        ("perturb", 1.0),
        ("perturb", -0.1),
        ("perturb_alpha_bar", 0.0),
        ("perturb_alpha_bar", 1.0),
        ("samples", 0),
        ("stop_gradient", "third"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^guidance\.{setting} is {value!r}[;,] .*$") as refusal:
        SelfGuidance(**{setting: value})  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("stop", ["second", "first", "none"])
@pytest.mark.parametrize("samples", [1, 3])
def test_every_stop_gradient_and_number_of_samples_equals_its_definition(
    stop: str, samples: int
) -> None:
    """Written out with a graph of its own, each estimate cut off where the variant says."""
    denoiser, steps, i, seeds = tiny_denoiser("fixed_small"), 50, 40, range(4)
    x = _noise(seeds, REVERSE, denoiser.image.shape).draw()
    guidance = SelfGuidance(stop_gradient=stop, samples=samples, perturb=0.5)  # type: ignore[arg-type]
    shift = guidance.shift(step_of(denoiser, i, steps, x, seeds))
    kept, noise = denoiser.schedule.respaced(steps), _noise(seeds, PERTURBATION, (3, 8, 8))

    def tweedie(at: Tensor, j: int) -> Tensor:
        abar = float(kept.alpha_bar[j])
        eps = denoiser.network(at, torch.full((4,), int(kept.timesteps[j])))
        return (at - (1 - abar) ** 0.5 * eps) / abar**0.5

    leaf, abar_s = x.clone().requires_grad_(True), float(kept.alpha_bar[25])
    x0h = tweedie(leaf, i)
    measures = []
    for _ in range(samples):
        x0hh = tweedie(abar_s**0.5 * x0h + (1 - abar_s) ** 0.5 * noise.draw(), 25)
        a = x0h.detach() if stop == "first" else x0h
        b = x0hh.detach() if stop == "second" else x0hh
        measures.append((a - b).flatten(1).norm(dim=1))
    (g,) = torch.autograd.grad(torch.stack(measures).mean(dim=0).sum(), leaf)
    variance = float(np.exp(kept.posterior_log_variance[i]))
    expected = 0.4 * variance * g / g.abs().amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(shift, expected, atol=1e-6 * variance, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "forwards", "backwards"),
    [
        ({}, 14, 4),
        ({"stop_gradient": "first"}, 14, 8),
        ({"stop_gradient": "none"}, 14, 8),
        ({"samples": 3}, 22, 4),
    ],
)
def test_what_a_variant_costs(changes: dict[str, object], forwards: int, backwards: int) -> None:
    denoiser = tiny_denoiser()
    guidance = SelfGuidance(every=3, **changes)  # type: ignore[arg-type]
    sample(denoiser, range(3), steps=10, guidance=guidance)  # i = 9, 6, 3, 0
    assert (denoiser.network.forwards, denoiser.network.backwards) == (forwards, backwards)
    assert all(p.grad is None for p in denoiser.parameters())


def test_a_fixed_unit_moves_by_the_scale_alone() -> None:
    denoiser = tiny_denoiser()
    x = _noise(range(4), REVERSE, denoiser.image.shape).draw()
    by_variance = SelfGuidance(scale=0.3).shift(step := step_of(denoiser, 40, 50, x, range(4)))
    fixed = SelfGuidance(scale=0.3, unit="fixed").shift(step_of(denoiser, 40, 50, x, range(4)))
    torch.testing.assert_close(fixed, by_variance / step.variance, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(fixed.abs().amax(dim=(1, 2, 3)), torch.full((4,), 0.3))


@pytest.mark.parametrize("channels", [1, 3])
def test_guidance_by_absolute_differences_has_their_gradient(channels: int) -> None:
    """By hand: through a network that is a multiple of its input, the sign of the difference."""
    denoiser = tiny_denoiser("fixed_small", channels=channels)
    x = _noise(range(2), REVERSE, denoiser.image.shape).draw()
    step = step_of(denoiser, 40, 50, x, range(2))
    shift = SelfGuidance(distance=L1()).shift(step)
    other = step_of(denoiser, 40, 50, x, range(2))
    again = SelfGuidance()._denoised_again(other, other.estimate)
    (g,) = torch.autograd.grad(other.estimate, other.x_i, (other.estimate - again).sign())
    torch.testing.assert_close(shift, 0.4 * step.variance * unit_max(g), atol=1e-7, rtol=1e-4)


def test_settings_and_distance_make_a_guidance() -> None:
    settings = SelfGuidanceConfig(scale=0.2, every=2, unit="fixed", switch_off=0.1, samples=2)
    guidance, distance = settings.with_distance(metric := L1()), metric
    assert guidance.distance is distance
    assert guidance == SelfGuidance(
        scale=0.2, every=2, unit="fixed", switch_off=0.1, samples=2, distance=distance
    )
    # The representation names a folder's run: what is new is in it only where it was chosen.
    assert repr(guidance) == (
        "SelfGuidance(scale=0.2, every=2, unit='fixed', switch_off=0.1, "
        "perturb_alpha_bar=0.0931, samples=2, "
        "distance=L1())"
    )


@pytest.mark.parametrize(
    ("distance", "levels", "share"),
    [("none", 1, 1e-3), ("l2", 1, 1e-3), ("activations", 1, 1e-3), ("features", 5, 0.03)],
)
def test_the_batch_size_moves_an_image_no_further_than_is_said(
    distance: str, levels: int, share: float
) -> None:
    denoiser, labeler = load_denoiser("avatars-32"), load_labeler("avatars")
    assert isinstance(labeler, Labeler)
    known: dict[str, Distance] = {
        "l2": L2(),
        "activations": ActivationDistance(denoiser),
        "features": FeatureDistance(labeler.network, preprocess=labeler.preprocess),
    }
    guidance = None if distance == "none" else SelfGuidance(every=2, distance=known[distance])
    alone, together = (
        sample(denoiser, range(6), steps=12, guidance=guidance, batch_size=size).int()
        for size in (1, 6)
    )
    apart = (alone - together).abs()
    assert apart.max() <= levels
    assert (apart > 0).float().mean() <= share
