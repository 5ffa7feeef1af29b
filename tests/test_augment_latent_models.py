"""Latent models: as diffusers' own pipelines run them, with the traps of their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from latent_doubles import (
    assert_close,
    end_of,
    generator,
    latent_start,
    save_dit,
    save_ldm,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from unet_doubles import edit_json

from augment import Edit, load_denoiser
from augment.classifier_free import towards_class
from augment.noise import NoiseStream
from augment.pretrained.parts import sampling_schedule

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"  # diffusers' Euler schedulers
)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"timestep_spacing": "leading"},
        {"set_alpha_to_one": False, "steps_offset": 1},
        {"timestep_spacing": "trailing"},
    ],
)
def test_ldm_samples_as_its_pipeline(tmp_path: Path, scheduler: dict[str, Any]) -> None:
    """Latents as they come to the quantiser, and images of the pipeline's own latents: rounding may
    bring a latent that lies between two codes to the other one.
    """
    pipeline = save_ldm(tmp_path, **scheduler)
    denoiser = load_denoiser(tmp_path)
    assert (denoiser.shape, denoiser.image.shape) == ((3, 8, 8), (3, 16, 16))
    ends: list[Tensor] = []
    pipeline.vqvae.quantize.register_forward_pre_hook(lambda _, given: ends.append(given[0]))
    expected = pipeline(
        batch_size=2, generator=generator(), num_inference_steps=10, output_type="np"
    ).images
    assert_close(end_of(denoiser, 10), 0.7 * ends[0])
    found = (denoiser.decoded(0.7 * ends[0]) / 2 + 0.5).clamp(0, 1)
    assert_close(found.permute(0, 2, 3, 1), torch.from_numpy(expected))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_dit_samples_as_its_pipeline(tmp_path: Path, scale: float) -> None:
    pipeline = save_dit(tmp_path)
    denoiser = load_denoiser(tmp_path)
    assert (denoiser.classes, denoiser.null_class, denoiser.variance) == (
        1000,
        1000,
        "learned_range",
    )
    expected = pipeline(
        [3, 7],
        guidance_scale=scale,
        generator=generator(),
        num_inference_steps=10,
        output_type="pt",
        return_dict=False,
    )[0]
    end = end_of(towards_class(denoiser, scale), 10, [3, 7])
    assert_close((denoiser.decoded(end) / 2 + 0.5).clamp(0, 1), expected)


def test_an_edit_starts_from_the_encoded_image(tmp_path: Path) -> None:
    save_ldm(tmp_path)
    denoiser = load_denoiser(tmp_path)
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=generator())
    x, i = Edit(references=images, strength=0.3).start(denoiser, [0], 10)
    network: Any = denoiser.latents.network  # type: ignore[union-attr]
    e = NoiseStream([0], 0, (3, 8, 8), torch.device("cpu")).draw()
    with torch.no_grad():
        code = 0.7 * network.encode(images / 127.5 - 1).latents
    expected = denoiser.schedule.respaced(10).q_sample(code, i, e)
    torch.testing.assert_close(x, expected)


def test_decoding_in_slices_changes_nothing(tmp_path: Path) -> None:
    save_ldm(tmp_path)
    latents: Any = load_denoiser(tmp_path).latents
    z = torch.randn(5, 3, 8, 8, generator=generator(), requires_grad=True)
    whole = latents.decode(z, smooth=True)
    latents._at_once = 2
    parts = latents.decode(z, smooth=True)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(parts.sum(), z)
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def test_the_scale_of_vq_latents_is_read_and_never_assumed(tmp_path: Path) -> None:
    """Trap: diffusers fills in Stable Diffusion's .18215, where CompVis' own models have 1."""
    save_ldm(tmp_path, scaling=1.0)
    denoiser = load_denoiser(tmp_path)
    latents: Any = denoiser.latents
    z = torch.randn(1, 3, 8, 8, generator=generator())
    torch.testing.assert_close(latents.decode(z), latents.network.decode(z).sample)
    edit_json(tmp_path / "vqvae/config.json", scaling_factor=0.25)
    other = load_denoiser(tmp_path)
    torch.testing.assert_close(other.decoded(z), latents.network.decode(z / 0.25).sample)
    assert other.record() != denoiser.record()
    edit_json(tmp_path / "vqvae/config.json", scaling_factor="absent")
    with pytest.raises(ValueError, match=r"has no scaling_factor.* write the one .* there$"):
        load_denoiser(tmp_path)


STARTING = [
    name
    for name, kind in vars(diffusers.schedulers).items()
    if name.endswith("Scheduler") and "beta_schedule" in signature(kind).parameters
]


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("name", STARTING)
def test_every_scheduler_starts_at_its_own_scale(name: str, spacing: str) -> None:
    """Trap: a few start at the largest sigma, in their terms, and not at sqrt(sigma^2 + 1)."""
    scheduler: Any = getattr(diffusers, name)()
    scheduler.register_to_config(timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    schedule, _ = sampling_schedule({**scheduler.config, "_class_name": name})
    grid = schedule.respaced(10)
    expected = float(scheduler.init_noise_sigma)
    if expected != 1:
        expected *= float(grid.alpha_bar[-1]) ** 0.5
    assert grid.start_scale == pytest.approx(expected, abs=1e-4)


def test_dits_own_frequencies_are_divided_by_their_number(tmp_path: Path) -> None:
    """Trap: exp(-ln(1e4) k / 128) in DiT's own code, k / 127 in diffusers, by no setting."""
    save_dit(tmp_path)
    x, t, y = latent_start(4), torch.tensor([700, 700]), torch.tensor([1, 2])
    by_diffusers = load_denoiser(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({"frequency_shift": 0}))
    own = load_denoiser(tmp_path)
    network: Any = own.network
    embedding = network.transformer_blocks[0].norm1.emb.time_proj(t.float())
    angles = 700 * torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(128) / 128)
    expected = torch.cat([angles.cos(), angles.sin()])
    torch.testing.assert_close(embedding[0], expected, atol=1e-3, rtol=0)
    with torch.no_grad():
        outputs = [denoiser.network(x, t, y).sample for denoiser in (own, by_diffusers)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    assert own.record() != by_diffusers.record()
    (tmp_path / "card.json").write_text(json.dumps({"frequency_shift": 2}))
    with pytest.raises(ValueError, match="frequency_shift 2; allowed are 0"):
        load_denoiser(tmp_path)


def test_class_guidance_moves_all_latent_channels_and_keeps_the_variance(tmp_path: Path) -> None:
    """Trap: latents have four channels, images three; v stays the class's own."""
    save_dit(tmp_path)
    denoiser = load_denoiser(tmp_path)
    x, t = latent_start(4), torch.tensor([500, 500])
    with torch.no_grad():
        of_class, of_none = (
            denoiser.network(x, t, torch.tensor(labels)).sample for labels in ([3, 7], [1000, 1000])
        )
        found = towards_class(denoiser, 4.0).network(x, t, torch.tensor([3, 7]))
    eps = of_none[:, :4] + 4.0 * (of_class[:, :4] - of_none[:, :4])
    torch.testing.assert_close(found[:, :4], eps, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[:, 4:], of_class[:, 4:], atol=1e-6, rtol=1e-5)


def test_a_missing_null_class_is_refused(tmp_path: Path) -> None:
    save_ldm(tmp_path)
    with pytest.raises(ValueError, match="without a null class"):
        towards_class(load_denoiser(tmp_path), 2.0)


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "unet/diffusion_pytorch_model.safetensors"), folder / "x.bin")
    (folder / "x.bin").rename(folder / "unet/diffusion_pytorch_model.bin")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()


def _lacking(folder: Path) -> None:
    path = folder / "vqvae/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state.pop(next(iter(state)))
    save_file(state, path)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle": (_pickle, "unet has no safetensors, and pickles of latent models are not read"),
    "a tensor that lacks": (_lacking, "vqvae do not fit its config.json .*1 missing keys"),
    "another scheduler": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", _class_name="os"),
        "the scheduler is a os; give a model with one of diffusers' own",
    ),
    "another network": (
        lambda f: edit_json(f / "unet/config.json", _class_name="UNet3D"),
        "unet holds a UNet3D; give a model with a UNet2DModel",
    ),
    "another spacing": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", timestep_spacing="log"),
        'timestep_spacing "log"; give a model with linspace, leading or trailing',
    ),
    "zero terminal signal": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", rescale_betas_zero_snr=True),
        "rescale_betas_zero_snr true; give a model with false",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    save_ldm(tmp_path)
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
        load_denoiser(tmp_path)
    assert "\n" not in str(refusal.value)
