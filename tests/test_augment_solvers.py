"""The update rules: parity with diffusers, with one another, and the order of their error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augment_doubles import GaussianMixture, mixture_denoiser, tiny_denoiser
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from augment import (
    DDIM,
    Ancestral,
    Denoiser,
    DPMSolver2M,
    ImageFormat,
    Schedule,
    SelfGuidance,
    reverse_process,
    sample,
)
from augment.guidance import Step
from augment.noise import PERTURBATION, NoiseStream
from augment.solvers import Solver

# Kept as diffusers keeps them: evenly, from 0, with a stride that divides T.
_KEPT = np.arange(0, 1000, 50)


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _step(schedule: Schedule, i: int, x: Tensor, x0: Tensor, before: Tensor | None) -> Step:
    return Step(
        denoiser=tiny_denoiser(),
        schedule=schedule,
        i=i,
        x_i=x,
        estimate=x0,
        x0=x0,
        log_variance=schedule.fixed_log_variance(i, x),
        previous=before,
        perturbation=NoiseStream((), PERTURBATION, (1, 1, 1), torch.device("cpu")),
    )


@pytest.mark.parametrize("i", [0, 1, 7, 19])
def test_ddim_with_all_its_noise_is_ancestral_sampling_with_the_small_variance(i: int) -> None:
    schedule = Schedule.cosine().respaced(20)
    at = _step(schedule, i, _noise(0, 2, 1, 3, 3), _noise(1, 2, 1, 3, 3), None)
    ddim, ancestral = DDIM(eta=1.0).step(at), Ancestral().step(at)
    torch.testing.assert_close(ddim.mean, ancestral.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ddim.log_variance, ancestral.log_variance)
    assert (ddim.std is None) == (ancestral.std is None) == (i == 0)
    if ddim.std is not None and ancestral.std is not None:
        torch.testing.assert_close(ddim.std.reshape(1, 1, 1, 1), ancestral.std)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("i", [0, 1, 10, 19])
def test_a_ddim_step_is_that_of_diffusers(eta: float, i: int) -> None:
    full = Schedule.linear()
    schedule = Schedule(full.alpha_bar[_KEPT], _KEPT)
    scheduler = DDIMScheduler(set_alpha_to_one=True, steps_offset=0, timestep_spacing="leading")
    scheduler.set_timesteps(len(_KEPT))
    x, eps, z = (_noise(seed, 2, 1, 3, 3) for seed in range(3))
    theirs = scheduler.step(
        eps, int(_KEPT[i]), x, eta=eta, use_clipped_model_output=True, variance_noise=z
    )
    x0 = schedule.predict_x0(x, i, eps).clamp(-1, 1)
    step = DDIM(eta=eta).step(_step(schedule, i, x, x0, None))
    ours = step.mean if step.std is None else step.mean + step.std * z
    # diffusers' constants are float32; its noise at the last step is 0 up to that.
    torch.testing.assert_close(ours, theirs.prev_sample, atol=2e-4, rtol=2e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
def test_a_trajectory_of_dpm_solver_is_that_of_diffusers() -> None:
    full = Schedule.linear()
    schedule = Schedule(full.alpha_bar[_KEPT], _KEPT)
    network = GaussianMixture(full, [0.5, -0.5], [0.7, 0.3], 0.2)
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="linear", solver_order=2, final_sigmas_type="zero", euler_at_final=True
    )
    scheduler.set_timesteps(timesteps=_KEPT[::-1].copy())
    x = theirs = _noise(0, 8, 1, 3, 3).float()
    previous = None
    for i in reversed(range(len(_KEPT))):
        eps = network(x, torch.full((len(x),), int(_KEPT[i])))
        x0 = schedule.predict_x0(x, i, eps)
        x = DPMSolver2M().step(_step(schedule, i, x, x0, previous)).mean
        previous = x0
        of_theirs = network(theirs, torch.full((len(x),), int(_KEPT[i])))
        theirs = scheduler.step(of_theirs, int(_KEPT[i]), theirs).prev_sample
        torch.testing.assert_close(x, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("solver", "order"), [(DDIM(), 1), (DPMSolver2M(), 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver: Solver, order: int) -> None:
    """The flow of a Gaussian is known: it keeps (x - sqrt(abar) mean) / std_t."""
    mean, std, full = 0.3, 0.2, Schedule.linear()
    network, image = GaussianMixture(full, [mean], [1.0], std), ImageFormat(channels=1, size=4)
    denoiser = Denoiser(network, full, image, clip=False)

    def standardised(x: Tensor, alpha_bar: float) -> Tensor:
        return (x - alpha_bar**0.5 * mean) / (alpha_bar * std**2 + 1 - alpha_bar) ** 0.5

    start, errors = _noise(0, 4, 1, 4, 4).float(), []
    for stride in (37, 9):  # Each stops at timestep 333.
        states = reverse_process(
            denoiser, range(4), steps=999 // stride + 1, solver=solver, start=start
        )
        x = next(state.x for state in states if (state.i - 1) * stride == 333)
        away = standardised(x, full.alpha_bar[333]) - standardised(start, full.alpha_bar[-1])
        errors.append(away.abs().max().item())
    slope = np.log(errors[0] / errors[1]) / np.log(37 / 9)
    assert slope == pytest.approx(order, abs=0.15)
    assert errors[0] < 0.05


@pytest.mark.parametrize(
    ("solver", "steps"), [(DDIM(), 25), (DDIM(eta=0.5), 50), (DPMSolver2M(), 15)]
)
def test_few_steps_recover_the_weights_of_a_mixture(solver: Solver, steps: int) -> None:
    images = sample(mixture_denoiser(), range(1000), steps=steps, solver=solver, batch_size=1000)
    rare = (images.float().mean(dim=(1, 2, 3)) < 127.5).float().mean().item()
    assert rare == pytest.approx(0.1, abs=3 * (0.1 * 0.9 / 1000) ** 0.5)


class _Still:
    """A guidance that is always active and never moves anything."""

    through_denoiser = False

    def active(self, i: int, steps: int) -> bool:
        return True

    def shift(self, step: Step) -> Tensor:
        return torch.zeros_like(step.x_i)


def test_dpm_solver_starts_anew_after_a_guided_step() -> None:
    """Guided at every step, it never extrapolates, and is DDIM."""
    denoiser = tiny_denoiser()
    *_, ddim = reverse_process(denoiser, range(3), steps=12, solver=DDIM())
    *_, guided = reverse_process(
        denoiser, range(3), steps=12, solver=DPMSolver2M(), guidance=_Still()
    )
    *_, plain = reverse_process(denoiser, range(3), steps=12, solver=DPMSolver2M())
    torch.testing.assert_close(guided.x, ddim.x, atol=1e-5, rtol=1e-5)
    assert (plain.x - ddim.x).abs().max() > 1e-3


@pytest.mark.parametrize("solver", [DDIM(), DDIM(eta=0.5), DPMSolver2M()])
def test_guidance_without_noise_counts_the_ancestral_variance_and_moves_the_next_state(
    solver: Solver,
) -> None:
    denoiser, steps = tiny_denoiser(), 10  # Its learned variance plays no part.
    guidance = SelfGuidance(scale=0.4, every=5)
    plain = list(reverse_process(denoiser, range(3), steps=steps, solver=solver))
    guided = reverse_process(denoiser, range(3), steps=steps, solver=solver, guidance=guidance)
    for before, after in zip(plain, guided, strict=True):
        if after.i == 5:
            break
        assert torch.equal(before.x, after.x)
    moved = (after.x - before.x).abs().amax(dim=(1, 2, 3))
    tilde = np.exp(denoiser.schedule.respaced(steps).posterior_log_variance[5])
    torch.testing.assert_close(moved, torch.full_like(moved, 0.4 * tilde), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("solver", [Ancestral(), DDIM(), DPMSolver2M()])
def test_the_last_step_ends_at_the_step(solver: Solver) -> None:
    *_, last = reverse_process(tiny_denoiser(), range(2), steps=6, solver=solver)
    torch.testing.assert_close(last.x, last.x0)


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_an_eta_out_of_range_is_refused_in_one_line(eta: float) -> None:
    with pytest.raises(ValueError, match=rf"^eta is {eta}; give 0 .*$"):
        DDIM(eta=eta)


@pytest.mark.parametrize("solver", [Ancestral(), DDIM(eta=0.5)])
def test_the_noise_of_a_step_is_scaled_on_the_device_of_its_images(solver: Solver) -> None:
    schedule = Schedule.cosine().respaced(20)
    images = torch.empty(2, 1, 3, 3, device="meta")
    std = solver.step(_step(schedule, 7, images, images, None)).std
    assert std is not None
    assert std.device == images.device
