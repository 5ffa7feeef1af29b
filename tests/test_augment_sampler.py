"""The reverse process: exact on known distributions, paired by seed, and as cheap as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from augment_doubles import (
    OptimalVariance,
    ShortOfMemory,
    class_denoiser,
    mixture_denoiser,
    tiny_denoiser,
)
from diffusers import DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
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
from augment.denoiser import VarianceType
from augment.noise import REVERSE, NoiseStream
from augment.sampler import class_labels
from augment.solvers import Solver
from augment.step import Step, Sum


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


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("denoiser", [tiny_denoiser(), class_denoiser()])
def test_guidance_works_where_the_caller_has_switched_gradients_off(
    mode: type[torch.no_grad] | type[torch.inference_mode], denoiser: Denoiser
) -> None:
    options = {"steps": 6, "guidance": SelfGuidance(every=2), "solver": DPMSolver2M()}
    expected = sample(denoiser, range(2), **options)  # type: ignore[arg-type]
    with mode():
        found = sample(denoiser, range(2), **options)  # type: ignore[arg-type]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_the_schedule_does_not_have_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"^steps is {steps}.*give 1 to 1000 steps$"):
        sample(tiny_denoiser(), [0], steps=steps)


@pytest.mark.parametrize("solver", [Ancestral(), DDIM(eta=0.5), DPMSolver2M()])
@pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
def test_float_images_do_not_depend_on_the_batch_size(
    solver: Solver, variance: VarianceType
) -> None:
    denoiser = tiny_denoiser(variance)
    options = {"solver": solver, "guidance": SelfGuidance(every=2, samples=2)}
    together = _final(denoiser, range(5), 10, **options)
    alone = torch.cat([_final(denoiser, range(i, i + 1), 10, **options) for i in range(5)])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("solver", [Ancestral(), DDIM(eta=0.5), DPMSolver2M()])
@pytest.mark.parametrize("variance", ["learned_range", "fixed_small"])
def test_a_guided_batch_that_does_not_fit_is_split_and_its_images_stay(
    most: int, solver: Solver, variance: VarianceType
) -> None:
    options = {"solver": solver, "guidance": SelfGuidance(every=2)}
    expected = _final(tiny_denoiser(variance), range(5), 10, **options)
    short = tiny_denoiser(variance)
    short.network = ShortOfMemory(short.network, most)
    torch.testing.assert_close(_final(short, range(5), 10, **options), expected, atol=1e-4, rtol=0)
    # It ran out in the first guided step alone: 5, then 2 (and 1).
    assert short.network.refused == {1: 2, 2: 1, 3: 1}[most]


def test_draws_of_a_step_that_failed_half_way_are_made_again() -> None:
    """The second forward is where memory runs out here: the perturbation has been drawn."""

    class Late(ShortOfMemory):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            if not x.requires_grad and int(t[0]) == 888 and len(x) > self.most:  # x_s
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            output: Tensor = self.network(x, t)
            return output

    denoiser, guidance = tiny_denoiser(), SelfGuidance(every=3, perturb=0.8)
    options = {"start_index": 6, "guidance": guidance}  # Below 888 itself.
    expected = _final(denoiser, range(4), 10, **options)
    short = tiny_denoiser()
    short.network = Late(short.network, 2)
    torch.testing.assert_close(_final(short, range(4), 10, **options), expected, atol=1e-4, rtol=0)
    assert short.network.refused == 1


def test_an_image_too_large_for_the_memory_is_an_error() -> None:
    short = tiny_denoiser()
    short.network = ShortOfMemory(short.network, 0)
    with pytest.raises(torch.OutOfMemoryError):
        sample(short, range(3), steps=4, guidance=SelfGuidance())


def test_states_say_where_the_guidance_had_no_gradient() -> None:
    def partly(a: Tensor, b: Tensor) -> Tensor:
        worth = torch.tensor([1.0, 0.0, float("nan")])
        return worth * (a - b).square().flatten(1).sum(dim=1)

    guidance = SelfGuidance(every=2, distance=partly)
    for state in reverse_process(tiny_denoiser(), range(3), steps=6, guidance=guidance):
        if state.i % 2:
            assert state.unguided is None
        else:
            assert state.unguided is not None
            assert state.unguided.tolist() == [False, True, True]


@pytest.mark.parametrize("clip", [True, False])
def test_the_estimate_is_clipped_only_if_the_model_is(clip: bool) -> None:
    denoiser = tiny_denoiser("fixed_small")
    denoiser.clip = clip
    state = next(iter(reverse_process(denoiser, range(2), steps=10)))
    schedule = denoiser.schedule.respaced(10)
    x = NoiseStream(range(2), REVERSE, (3, 8, 8), torch.device("cpu")).draw()
    x0 = schedule.predict_x0(x, 9, denoiser(x, 9, schedule).eps)
    assert x0.abs().max() > 1
    torch.testing.assert_close(state.x0, x0.clamp(-1, 1) if clip else x0)


@pytest.mark.parametrize("guidance", [None, SelfGuidance(every=2)])
def test_classes_reach_every_call_of_the_network(guidance: SelfGuidance | None) -> None:
    denoiser = class_denoiser()
    sample(denoiser, range(3), steps=4, guidance=guidance, labels=[3, 0, 1])
    assert len(denoiser.network.seen) == (4 if guidance is None else 6)
    assert all(labels.tolist() == [3, 0, 1] for labels in denoiser.network.seen)


def test_a_class_left_out_is_uniform_and_the_images_own() -> None:
    denoiser = class_denoiser(classes=4)
    drawn = class_labels(denoiser, range(2000))
    assert drawn is not None
    counts = torch.bincount(drawn, minlength=4)
    assert (counts - 500).abs().max() < 4 * (2000 * 0.25 * 0.75) ** 0.5
    again = class_labels(denoiser, [7, 1999, 3])
    assert again is not None
    assert torch.equal(again, drawn[[7, 1999, 3]])
    given = sample(denoiser, range(5), steps=4, labels=drawn[:5].tolist())
    assert torch.equal(given, sample(denoiser, range(5), steps=4))
    # Choosing a class leaves the noise of the image as it is.
    first = [next(iter(reverse_process(denoiser, [0], steps=4, labels=[k]))) for k in (1, 2)]
    assert not torch.equal(first[0].x, first[1].x)
    assert class_labels(tiny_denoiser(), range(3)) is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([4, 0], "4 .* 0 to 3"),
        ([0, -1], "-1 .* 0 to 3"),
        ([1], "1 labels are given for 2 seeds"),
        ([1, 0, 2], "3 labels are given for 2 seeds"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_class_the_model_does_not_have_is_refused_before_the_first_step(
    labels: list[int], message: str, batch_size: int
) -> None:
    denoiser = class_denoiser()
    with pytest.raises(ValueError, match=message) as refusal:
        sample(denoiser, range(2), steps=4, labels=labels, batch_size=batch_size)
    assert "\n" not in str(refusal.value)
    assert not denoiser.network.seen


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_of_nothing_are_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"^batch_size is {batch_size}; give at least 1"):
        sample(tiny_denoiser(), range(2), steps=4, batch_size=batch_size)


def test_a_class_for_a_model_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="leave them out"):
        sample(tiny_denoiser(), range(2), steps=4, labels=[0, 0])


class _Looking:
    """A guidance that differentiates through nothing, and remembers what it was given."""

    through_denoiser = False

    def __init__(self) -> None:
        self.graphs: list[bool] = []

    def active(self, i: int, steps: int) -> bool:
        return True

    def shift(self, step: Step) -> Tensor:
        self.graphs.append(step.estimate.requires_grad or step.x_i.requires_grad)
        return torch.full_like(step.x_i, 1e-3)


def test_no_graph_of_the_denoiser_is_kept_for_a_guidance_that_uses_none() -> None:
    looking = _Looking()
    sample(tiny_denoiser(), range(2), steps=3, guidance=looking)
    assert looking.graphs == [False] * 3
    both = _Looking()
    sample(tiny_denoiser(), range(2), steps=3, guidance=Sum(SelfGuidance(every=1), both))
    assert both.graphs == [True] * 3


def test_images_that_are_not_finite_are_named_by_their_seed() -> None:
    denoiser = tiny_denoiser()
    broken = denoiser.with_network(_Endless(denoiser.network))
    with pytest.warns(UserWarning, match=r"^2 images came out not finite, the first of seed 4,"):
        sample(broken, [4, 5], steps=2)


class _Endless(torch.nn.Module):
    """A network whose output is infinite."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        output: Tensor = self.network(x, t)
        return output * torch.nan
