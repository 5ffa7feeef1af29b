"""The hybrid loss against elementwise restatements and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from augment import Schedule
from augment.loss import _discretised_log_likelihood, _gaussian_kl, hybrid_loss

SCHEDULE = Schedule.cosine()


def _batch(t: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x0 on the 8-bit levels, x_t, t, eps and the output (B, 2C, H, W) of a network that errs."""
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randint(0, 256, (len(t), 1, 3, 3), generator=generator) / 127.5 - 1
    x0[:, 0, 0, 0], x0[:, 0, 0, 1] = -1.0, 1.0
    eps = torch.randn(x0.shape, generator=generator)
    steps = torch.tensor(t)
    x_t = SCHEDULE.q_sample(x0, steps, eps)
    noise = eps + 0.1 * torch.randn(x0.shape, generator=generator)
    v = torch.rand(x0.shape, generator=generator) * 2 - 1
    return x0, x_t, steps, eps, torch.cat([noise, v], dim=1)


def _naive(x0: Tensor, x_t: Tensor, t: Tensor, eps: Tensor, output: Tensor) -> float:
    """Pixel by pixel in Python floats, from Nichol & Dhariwal's formulas."""
    simple, bound, pixels = 0.0, 0.0, x0.numel()
    abar_all = SCHEDULE.alpha_bar
    for b, r, c in [(b, r, c) for b in range(len(x0)) for r in range(3) for c in range(3)]:
        k = int(t[b])
        abar, before = abar_all[k], abar_all[k - 1] if k else 1.0
        beta = 1 - abar / before
        j = max(k, 1)
        tilde = (1 - abar_all[j] / abar_all[j - 1]) * (1 - abar_all[j - 1]) / (1 - abar_all[j])
        x, clean = float(x_t[b, 0, r, c]), float(x0[b, 0, r, c])
        noise, v = float(output[b, 0, r, c]), float(output[b, 1, r, c])
        simple += (float(eps[b, 0, r, c]) - noise) ** 2
        guess = min(1.0, max(-1.0, (x - math.sqrt(1 - abar) * noise) / math.sqrt(abar)))
        on_x0 = beta * math.sqrt(before) / (1 - abar)
        on_x = (1 - before) * math.sqrt(1 - beta) / (1 - abar)
        mean, truth = on_x0 * guess + on_x * x, on_x0 * clean + on_x * x
        f = (v + 1) / 2
        variance = math.exp(f * math.log(beta) + (1 - f) * math.log(tilde))
        if k:
            ratio = tilde / variance
            bound += 0.5 * (ratio - 1 - math.log(ratio) + (truth - mean) ** 2 / variance)
        else:
            sigma = math.sqrt(variance)
            high = 1.0 if clean > 0.999 else stats.norm.cdf(clean + 1 / 255, mean, sigma)
            low = 0.0 if clean < -0.999 else stats.norm.cdf(clean - 1 / 255, mean, sigma)
            bound -= math.log(max(high - low, 1e-12))
    return simple / pixels + 1e-3 * len(abar_all) * bound / pixels / math.log(2)


@pytest.mark.parametrize("t", [[1, 500, 999], [0, 0], [0, 3, 700]])
def test_the_loss_equals_an_elementwise_restatement(t: list[int]) -> None:
    x0, x_t, steps, eps, output = _batch(t)
    found = hybrid_loss(SCHEDULE, output, x0, x_t, steps, eps).item()
    assert found == pytest.approx(_naive(x0, x_t, steps, eps, output), rel=2e-3)


def test_the_bound_gives_no_gradient_to_the_noise_half() -> None:
    x0, x_t, steps, eps, output = _batch([0, 5, 800])
    output.requires_grad_(True)
    (gradient,) = torch.autograd.grad(hybrid_loss(SCHEDULE, output, x0, x_t, steps, eps), output)
    noise, v = gradient.chunk(2, dim=1)
    torch.testing.assert_close(noise, 2 * (output[:, :1] - eps) / eps.numel())  # L_simple's alone.
    assert (v != 0).all()


def test_the_variance_that_minimises_the_bound_is_the_error_it_makes() -> None:
    """For a fixed mean, KL is least at variance = beta~ + (mean's error)^2."""
    x0, x_t, steps, eps, _ = _batch([400])
    noise = eps + 0.5
    v = torch.linspace(-1, 1, 801).reshape(-1, 1, 1, 1)
    pick = [tensor[:1, :, 1:2, 1:2] for tensor in (x0, x_t, eps, noise)]
    x0, x_t, eps, noise = (tensor.expand(len(v), 1, 1, 1) for tensor in pick)
    many = steps.expand(len(v))
    losses = [
        hybrid_loss(
            SCHEDULE, torch.cat([noise[:1], w[None]], dim=1), x0[:1], x_t[:1], steps, eps[:1]
        )
        for w in v
    ]
    best = v[int(torch.stack(losses).argmin())]
    guess = SCHEDULE.predict_x0(x_t, many, noise).clamp(-1, 1)
    mean, truth = (SCHEDULE.posterior_mean(x, x_t, many)[0] for x in (guess, x0))
    tilde = math.exp(SCHEDULE.posterior_log_variance[400])
    wanted = math.log(tilde + float((mean - truth).square()))
    found = float(SCHEDULE.learned_log_variance(steps, best[None]))
    largest = math.log(SCHEDULE.beta[400])
    assert found == pytest.approx(min(wanted, largest), abs=2e-3)


def test_the_right_noise_with_the_posteriors_variance_costs_nothing() -> None:
    x0, x_t, steps, eps, _ = _batch([3, 500, 900])
    output = torch.cat([eps, -torch.ones_like(eps)], dim=1)
    loss = hybrid_loss(SCHEDULE, output, x0, x_t, steps, eps)
    assert loss.item() == pytest.approx(0.0, abs=1e-4)


def test_kl_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    m, lv, n, lw = torch.randn(4, 50, generator=generator)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(m, (lv / 2).exp()), torch.distributions.Normal(n, (lw / 2).exp())
    )
    torch.testing.assert_close(_gaussian_kl(m, lv, n, lw), expected)


@pytest.mark.parametrize("mean", [-3.0, -0.4, 0.0, 1.0, 5.0])
@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_the_decoders_256_levels_share_all_the_probability(mean: float, sigma: float) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_sigma = torch.full_like(levels, math.log(sigma))
    log_p = _discretised_log_likelihood(levels, torch.full_like(levels, mean), log_sigma)
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    expected = {-3.0: 0, 5.0: 255, 1.0: 255}.get(mean)
    if expected is not None:  # The tails belong to the extreme levels.
        assert int(log_p.argmax()) == expected
    if mean in (-3.0, 5.0):
        assert log_p.max().item() == pytest.approx(0.0, abs=1e-6)


def test_an_impossible_pixel_costs_a_finite_amount() -> None:
    x0, far = torch.zeros(1), torch.full((1,), 9.0)
    found = _discretised_log_likelihood(x0, far, torch.full((1,), -6.0))
    assert found.item() == pytest.approx(math.log(1e-12))
