"""The reverse process: exact on known distributions, paired by seed, and as cheap as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augment_doubles import OptimalVariance, mixture_denoiser, tiny_denoiser
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from torch import Tensor

from augment import Denoiser, ImageFormat, Schedule, SelfGuidance, reverse_process, sample
from augment.denoiser import VarianceType
from augment.noise import REVERSE, NoiseStream


def _final(denoiser: Denoiser, seeds: range, steps: int, **options: object) -> Tensor:
    *_, last = reverse_process(denoiser, seeds, steps=steps, **options)  # type: ignore[arg-type]
    return last.x.clone()


def test_plain_sampling_of_a_gaussian_has_the_moments_of_its_own_recursion() -> None:
    mean, std, steps = 0.1, 0.2, 20
    denoiser = mixture_denoiser([mean], [1.0], std)
    x = _final(denoiser, range(1500), steps)
    kept = denoiser.schedule.respaced(steps)
    m, variance = 0.0, 1.0
    for i in reversed(range(steps)):
        now, before, beta = kept.alpha_bar[i], kept.alpha_bar_previous[i], kept.beta[i]
        gain = now**0.5 * std**2 / (now * std**2 + 1 - now)
        on_x0 = beta * before**0.5 / (1 - now)
        slope = on_x0 * gain + (1 - before) * (1 - beta) ** 0.5 / (1 - now)
        m = slope * m + on_x0 * mean * (1 - gain * now**0.5)
        variance = slope**2 * variance + beta * (1 - before) / (1 - now)
    n = x.numel()
    assert x.mean().item() == pytest.approx(m, abs=4 * std / n**0.5)
    assert x.var().item() == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)
    assert m == pytest.approx(mean, abs=1e-3)


@pytest.mark.parametrize("steps", [5, 25])
def test_with_the_optimal_learned_variance_few_steps_give_the_exact_gaussian(steps: int) -> None:
    schedule = Schedule.cosine()
    network = OptimalVariance(schedule, steps, mean=-0.1, std=0.2)
    image = ImageFormat(channels=1, size=4)
    denoiser = Denoiser(network, schedule, image, variance="learned_range")
    x = _final(denoiser, range(1500), steps)
    n = x.numel()
    assert x.mean().item() == pytest.approx(-0.1, abs=4 * 0.2 / n**0.5)
    assert x.std().item() == pytest.approx(0.2, rel=4 / (2 * n) ** 0.5)


def test_plain_sampling_recovers_the_weights_and_the_modes_of_a_mixture() -> None:
    n = 1500
    x = _final(mixture_denoiser(), range(n), 50).mean(dim=(1, 2, 3))
    rare = x < 0
    assert rare.float().mean().item() == pytest.approx(0.1, abs=3 * (0.1 * 0.9 / n) ** 0.5)
    assert x[rare].mean().item() == pytest.approx(-0.5, abs=0.02)
    assert x[~rare].mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
def test_a_chain_equals_that_of_diffusers_scheduler_at_the_same_timesteps(
    variance: VarianceType, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, steps, seeds = tiny_denoiser(variance), 12, range(3)
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type=variance, clip_sample=True
    )
    scheduler.set_timesteps(timesteps=denoiser.schedule.respaced(steps).timesteps[::-1].tolist())
    noise = NoiseStream(seeds, REVERSE, denoiser.image.shape, torch.device("cpu"))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: noise.draw())
    x = noise.draw()
    for t in scheduler.timesteps:
        x = scheduler.step(denoiser.network(x, t.expand(len(x))), t, x).prev_sample
    # diffusers keeps its constants in float32, ours are float64.
    torch.testing.assert_close(_final(denoiser, seeds, steps), x, atol=2e-5, rtol=1e-5)


def test_scale_zero_is_plain_sampling_bit_for_bit() -> None:
    denoiser = tiny_denoiser()
    plain = _final(denoiser, range(4), 10)
    assert torch.equal(plain, _final(denoiser, range(4), 10, guidance=SelfGuidance(scale=0.0)))
    assert not torch.equal(plain, _final(denoiser, range(4), 10, guidance=SelfGuidance(every=1)))


def test_a_plain_and_a_guided_run_share_start_and_reverse_noise() -> None:
    denoiser, steps = tiny_denoiser("fixed_small"), 10
    guidance = SelfGuidance(scale=0.4, every=5)
    plain = list(reverse_process(denoiser, range(3), steps=steps))
    guided = list(reverse_process(denoiser, range(3), steps=steps, guidance=guidance))
    by_index = {state.i: (state, other) for state, other in zip(plain, guided, strict=True)}
    assert list(by_index) == list(range(9, -1, -1))
    for i in range(9, 5, -1):  # Before the first guided step, i = 5, they are one chain.
        assert torch.equal(by_index[i][0].x, by_index[i][1].x)
    state, other = by_index[5]
    assert torch.equal(state.x0, other.x0)
    moved = (other.x - state.x).abs().amax(dim=(1, 2, 3))
    log_variance = denoiser.schedule.respaced(steps).posterior_log_variance[5]
    torch.testing.assert_close(moved, torch.full_like(moved, 0.4 * np.exp(log_variance)))


@pytest.mark.parametrize("guidance", [None, SelfGuidance(scale=0.4, every=2)])
def test_an_image_depends_on_its_seed_alone(guidance: SelfGuidance | None) -> None:
    denoiser, options = tiny_denoiser(), {"steps": 10, "guidance": guidance}
    seeds = [5, 3, 11, 7]
    together = sample(denoiser, seeds, **options)  # type: ignore[arg-type]
    for size in (1, 3):
        split = sample(denoiser, seeds, batch_size=size, **options)  # type: ignore[arg-type]
        assert (split.int() - together.int()).abs().max() <= 2
    other = sample(denoiser, [7, 100, 5, 101], **options)  # type: ignore[arg-type]
    assert (other[[2, 0]].int() - together[[0, 3]].int()).abs().max() <= 2
    # The same batch in another order is the same to the bit.
    assert torch.equal(sample(denoiser, seeds[::-1], **options).flip(0), together)  # type: ignore[arg-type]
    assert len(together.unique(dim=0)) == 4


def test_a_step_costs_one_forward_and_a_guided_one_two_and_a_backward() -> None:
    denoiser = tiny_denoiser()
    network = denoiser.network
    sample(denoiser, range(3), steps=10)
    assert (network.forwards, network.backwards) == (10, 0)
    network.forwards = 0
    sample(denoiser, range(3), steps=10, guidance=SelfGuidance(every=3))  # i = 9, 6, 3, 0
    assert (network.forwards, network.backwards) == (14, 4)
    assert all(p.grad is None and not p.requires_grad for p in denoiser.parameters())


def test_states_carry_neither_a_graph_nor_anything_outside_the_range() -> None:
    denoiser = tiny_denoiser()
    for state in reverse_process(denoiser, [0], steps=6, guidance=SelfGuidance(every=2)):
        assert not state.x.requires_grad
        assert not state.x0.requires_grad
        assert state.x0.abs().max() <= 1


def test_a_chain_taken_up_where_another_stood_gives_a_clean_image_back() -> None:
    denoiser = mixture_denoiser([0.3], [1.0], 0.05)
    clean = torch.full((2, 1, 4, 4), 0.3)
    eps = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    start = denoiser.schedule.respaced(50).q_sample(clean, 10, eps)
    states = list(reverse_process(denoiser, [0, 1], steps=50, start=start, start_index=10))
    assert [state.i for state in states] == list(range(10, -1, -1))
    assert (states[-1].x - clean).abs().max() < 0.25


def test_sample_returns_uint8_in_the_order_of_the_seeds_and_nothing_for_no_seed() -> None:
    denoiser = tiny_denoiser(channels=1)
    images = sample(denoiser, range(5), steps=3, batch_size=2)
    assert images.dtype == torch.uint8
    assert images.shape == (5, 1, 8, 8)
    assert sample(denoiser, [], steps=3).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_the_schedule_does_not_have_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"^steps is {steps}.*give 1 to 1000 steps$"):
        sample(tiny_denoiser(), [0], steps=steps)
