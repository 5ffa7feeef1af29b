"""Starts: exact on a Gaussian, their limits, and paired with ordinary runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_doubles import GaussianMixture, OptimalVariance, mixture_denoiser, tiny_denoiser
from PIL import Image
from torch import Tensor

from augment import (
    DDIM,
    Boost,
    Denoiser,
    Edit,
    ImageFormat,
    SamplerConfig,
    Schedule,
    SelfGuidance,
    generate,
    reverse_process,
    sample,
)
from augment.images import ImageFiles
from augment.noise import REVERSE, NoiseStream


def _grey(*levels: int, size: int = 4, channels: int = 1) -> Tensor:
    """One flat image per level."""
    return (
        torch.tensor(levels, dtype=torch.uint8)
        .reshape(-1, 1, 1, 1)
        .expand(-1, channels, size, size)
    )


def test_a_gaussians_edit_has_the_moments_of_the_posterior() -> None:
    """With exact reverse steps, images are drawn from p(x_0 | x_i), x_i the noised reference."""
    mean, std, steps, n = -0.1, 0.2, 20, 1500
    schedule = Schedule.cosine()
    image = ImageFormat(channels=1, size=4)
    network = OptimalVariance(schedule, steps, mean=mean, std=std)
    denoiser = Denoiser(network, schedule, image, variance="learned_range")
    edit = Edit(references=_grey(204), strength=0.3)  # 204 / 127.5 - 1 = 0.6
    start, index = edit.start(denoiser, range(n), steps)
    assert index == 5
    *_, last = reverse_process(denoiser, range(n), steps=steps, start=start, start_index=index)
    abar = float(schedule.respaced(steps).alpha_bar[index])
    total = abar * std**2 + 1 - abar
    expected = mean + abar * std**2 / total * (0.6 - mean)
    # The posterior's own spread, and that of its mean by the noise of the reference.
    variance = std**2 * (1 - abar) / total + (abar**0.5 * std**2 / total) ** 2 * (1 - abar)
    pixels = last.x.numel()
    assert last.x.mean().item() == pytest.approx(expected, abs=4 * (variance / pixels) ** 0.5)
    assert last.x.var().item() == pytest.approx(variance, rel=4 * (2 / pixels) ** 0.5 + 0.01)
    assert abs(expected - mean) > 0.05  # The reference shows.


def test_references_in_files_start_and_are_recorded_as_those_of_a_tensor(tmp_path: Path) -> None:
    paths = [tmp_path / f"{level}.png" for level in (190, 64)]
    for path, image in zip(paths, _grey(190, 64), strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    files = ImageFiles(paths, Image.open, size=4, channels=1)
    of_files, of_tensor = Edit(references=files), Edit(references=files.stack())
    assert repr(of_files) == repr(of_tensor)
    started = [edit.start(mixture_denoiser(), range(3), 50)[0] for edit in (of_files, of_tensor)]
    assert torch.equal(*started)


def test_at_full_strength_it_is_the_ordinary_sample_and_at_none_the_reference() -> None:
    denoiser, seeds = mixture_denoiser(), range(6)
    plain = sample(denoiser, seeds, steps=50).int()
    references = _grey(190, 64)  # Near the two modes' 191 and 63.
    whole = sample(denoiser, seeds, steps=50, start=Edit(references=references, strength=1.0))
    assert (whole.int() - plain).abs().max() <= 1
    none = sample(denoiser, seeds, steps=50, start=Edit(references=references, strength=0.0))
    assert (none.int() - references[[0, 1] * 3].int()).abs().max() <= 3
    half = sample(denoiser, seeds, steps=50, start=Edit(references=references, strength=0.5))
    modes = half.float().mean(dim=(1, 2, 3)) > 127.5
    assert modes.tolist() == [True, False] * 3


@pytest.mark.parametrize(("strength", "index"), [(0.0, 0), (0.01, 0), (0.5, 24), (1.0, 49)])
def test_it_starts_from_the_noised_reference_of_the_seed(strength: float, index: int) -> None:
    denoiser, seeds = tiny_denoiser(channels=1), [7, 3, 5]
    edit = Edit(references=_grey(10, 200, size=8), strength=strength)
    start, first = edit.start(denoiser, seeds, 50)
    assert first == index
    abar = float(denoiser.schedule.respaced(50).alpha_bar[index])
    e = NoiseStream(seeds, REVERSE, (1, 8, 8), torch.device("cpu")).draw()
    x0 = _grey(200, 200, 200, size=8) / 127.5 - 1  # Every seed is odd.
    torch.testing.assert_close(start, abar**0.5 * x0 + (1 - abar) ** 0.5 * e)


def test_plain_and_guided_edits_share_their_noise_and_no_draw_is_used_twice() -> None:
    denoiser, seeds = tiny_denoiser(channels=1), range(3)
    edit = Edit(references=_grey(100, size=8), strength=0.6)
    start, index = edit.start(denoiser, seeds, 10)
    options = {"steps": 10, "start": start, "start_index": index}
    plain = list(reverse_process(denoiser, seeds, **options))  # type: ignore[arg-type]
    guidance = SelfGuidance(every=4)  # First at i = 4.
    guided = list(reverse_process(denoiser, seeds, guidance=guidance, **options))  # type: ignore[arg-type]
    assert torch.equal(plain[0].x, guided[0].x)
    assert not torch.equal(plain[-1].x, guided[-1].x)
    off = list(reverse_process(denoiser, seeds, guidance=SelfGuidance(scale=0.0), **options))  # type: ignore[arg-type]
    assert torch.equal(plain[-1].x, off[-1].x)
    stream = NoiseStream(seeds, REVERSE, (1, 8, 8), torch.device("cpu"))
    e, z = stream.draw(), stream.draw()
    schedule = denoiser.schedule.respaced(10)
    prediction = denoiser(start, index, schedule)
    x0 = schedule.predict_x0(start, index, prediction.eps).clamp(-1, 1)
    std = (0.5 * denoiser.log_variance(prediction, index, schedule)).exp()
    found = (plain[0].x - schedule.posterior_mean(x0, start, index)) / std
    torch.testing.assert_close(found, z, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found, e, atol=0.1)


def test_an_edit_depends_on_its_seed_and_not_on_the_batch(tmp_path: Path) -> None:
    denoiser = tiny_denoiser(channels=1)
    edit = Edit(references=_grey(10, 90, 200, size=8), strength=0.5)
    options = {"steps": 10, "guidance": SelfGuidance(every=2), "start": edit}
    whole = sample(denoiser, range(5), **options).int()  # type: ignore[arg-type]
    parts = sample(denoiser, [4, 2, 0, 1, 3], batch_size=2, **options).int()  # type: ignore[arg-type]
    assert (whole[[4, 2, 0, 1, 3]] - parts).abs().max() <= 1
    table = generate(
        denoiser,
        range(5),
        tmp_path / "new",
        sampler=SamplerConfig(steps=10),
        guidance=SelfGuidance(every=2),
        start=edit,
    )
    for path, image in zip(table["path"], whole, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image[0].numpy())


def test_a_folder_of_other_references_or_strength_is_refused(tmp_path: Path) -> None:
    def run(edit: Edit | None) -> None:
        sampler = SamplerConfig(steps=4)
        generate(tiny_denoiser(channels=1), range(2), tmp_path, sampler=sampler, start=edit)

    run(Edit(references=_grey(100, size=8)))
    run(Edit(references=_grey(100, size=8)))
    assert "strength=0.5" in json.loads((tmp_path / "settings.json").read_text())["edit"]
    others = (
        Edit(references=_grey(101, size=8)),
        Edit(references=_grey(100, size=8), strength=0.6),
        None,
    )
    for other in others:
        with pytest.raises(ValueError, match=r"holds results of another run \(edit "):
            run(other)


def test_what_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"have shape \(3, 8, 8\), the model's images \(1, 8, 8\)"):
        generate(
            tiny_denoiser(channels=1),
            range(2),
            tmp_path / "new",
            start=Edit(references=_grey(0, size=8, channels=3)),
        )
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"^edit strength is 1.5; give 0 .* to 1 "):
        Edit(references=_grey(0), strength=1.5)
    for wrong in (_grey(0).float(), _grey(0)[0], _grey()):
        with pytest.raises(ValueError, match=r"one image, torch.uint8 of shape \(K, C, H, W\)"):
            Edit(references=wrong)


def _first(denoiser: Denoiser, seeds: range | list[int]) -> Tensor:
    return NoiseStream(seeds, REVERSE, denoiser.image.shape, denoiser.device).draw()


@pytest.mark.parametrize(
    ("steps", "skipped", "timestep"), [(1000, 12, 987), (250, 3, 987), (100, 1, 989), (50, 1, 979)]
)
def test_a_boost_skips_to_the_same_level_with_any_number_of_steps(
    steps: int, skipped: int, timestep: int
) -> None:
    denoiser, seeds = tiny_denoiser(channels=1), [7, 3]
    start, index = Boost().start(denoiser, seeds, steps)
    assert index == steps - 1 - skipped
    assert denoiser.schedule.respaced(steps).timesteps[index] == timestep
    assert torch.equal(start, 4 * _first(denoiser, seeds))


def test_a_boost_by_one_that_skips_nothing_is_the_ordinary_sample() -> None:
    denoiser, options = tiny_denoiser(channels=1), {"steps": 8, "guidance": SelfGuidance(every=2)}
    plain = sample(denoiser, range(3), **options)  # type: ignore[arg-type]
    off = sample(denoiser, range(3), start=Boost(gamma=1, alpha_bar=0), **options)  # type: ignore[arg-type]
    assert torch.equal(plain, off)


def test_a_boost_costs_no_forward_and_spares_those_that_it_skips() -> None:
    denoiser = tiny_denoiser(channels=1)
    sample(denoiser, range(2), steps=250, start=Boost())
    assert denoiser.network.forwards == 247


def test_later_noise_of_a_boost_is_that_of_the_ordinary_run() -> None:
    """Where the network says nothing of x_i, runs differ by x_i's factors alone."""
    schedule, image = Schedule.cosine(), ImageFormat(channels=1, size=4)
    denoiser = Denoiser(_Silent(), schedule, image, clip=False, prediction="sample")
    start, index = Boost(gamma=3.0).start(denoiser, range(2), 100)
    options = {"steps": 100, "start_index": index}
    boosted = list(reverse_process(denoiser, range(2), start=start, **options))  # type: ignore[arg-type]
    plain = list(reverse_process(denoiser, range(2), start=start / 3, **options))  # type: ignore[arg-type]
    left = start - start / 3
    for one, other in zip(boosted[:5], plain[:5], strict=True):
        left = schedule.respaced(100).posterior_mean(torch.zeros_like(left), left, one.i)
        torch.testing.assert_close(one.x - other.x, left, rtol=1e-4, atol=1e-5)


class _Silent(torch.nn.Module):
    """Always estimates grey."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("gamma", [0.5, 1.2, 4.0])
def test_ddim_scales_a_gaussians_images_by_the_boost(gamma: float) -> None:
    denoiser = _unclipped_gaussian(std=0.5)
    kept, steps = 3.5e-4, 100

    def image(start: Boost) -> Tensor:
        x, index = start.start(denoiser, range(4), steps)
        run = reverse_process(
            denoiser, range(4), steps=steps, solver=DDIM(), start=x, start_index=index
        )
        *_, last = run
        return last.x

    once = image(Boost(gamma=1, alpha_bar=kept))
    torch.testing.assert_close(image(Boost(gamma=gamma, alpha_bar=kept)), gamma * once)
    # The whole way is x -> std x; from noise of variance 1 where the data's is a little less.
    torch.testing.assert_close(once, 0.5 * _first(denoiser, range(4)), rtol=0.05, atol=0.01)


def test_ancestral_sampling_forgets_a_boost_of_a_gaussian() -> None:
    """So on real data it acts by the choice of a mode, and not by the norm."""
    denoiser, found = _unclipped_gaussian(std=0.5), []
    for gamma in (4.0, 0.0):
        x = gamma * _first(denoiser, range(2))
        *_, last = reverse_process(denoiser, range(2), steps=250, start=x, start_index=246)
        found.append(last.x)
    gain = (found[0] - found[1]) / (4 * _first(denoiser, range(2)))
    torch.testing.assert_close(gain, torch.full_like(gain, gain.mean().item()), rtol=0.02, atol=0)
    assert gain.mean().item() == pytest.approx(0.0047, abs=1e-4)


def _unclipped_gaussian(std: float) -> Denoiser:
    schedule, image = Schedule.cosine(), ImageFormat(channels=1, size=4)
    return Denoiser(GaussianMixture(schedule, [0.0], [1.0], std), schedule, image, clip=False)


def test_a_folder_of_another_boost_is_refused(tmp_path: Path) -> None:
    sampler, denoiser = SamplerConfig(steps=20), tiny_denoiser(channels=1)
    generate(denoiser, range(2), tmp_path, sampler=sampler, start=Boost())
    assert json.loads((tmp_path / "settings.json").read_text())["boost"] == repr(Boost())
    with pytest.raises(ValueError, match=r"holds results of another run \(boost "):
        generate(denoiser, range(2), tmp_path, sampler=sampler, start=Boost(gamma=2.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, "boost.gamma is 0.0; give a number above 0"),
        ({"gamma": math.inf}, "boost.gamma is inf"),
        ({"alpha_bar": 1.0}, "boost.alpha_bar is 1.0; give 0 .* to below 1"),
    ],
)
def test_what_is_no_boost_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Boost(**settings)
