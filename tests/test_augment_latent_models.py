"""Latent and text-to-image models: as diffusers' own pipelines run them, and guided in latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from latent_doubles import save_dit, save_ldm, save_stable_diffusion, stable_scheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from augment import (
    DDIM,
    L2,
    DecodedDistance,
    Denoiser,
    Edit,
    SamplerConfig,
    SelfGuidance,
    generate,
    load_denoiser,
    reverse_process,
    sample,
)
from augment.classifier_free import towards_class
from augment.noise import PERTURBATION, NoiseStream
from augment.pretrained.parts import sampling_schedule

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"  # diffusers' Euler schedulers
)
PROMPTS = ["a cat", "a dog in a hat"]


def _start(channels: int) -> Tensor:
    return torch.randn(2, channels, 8, 8, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _end(
    denoiser: Denoiser, steps: int, labels: list[int] | None = None, eta: float = 0.0
) -> Tensor:
    """The last state of a plain run from the noise that the pipelines start from."""
    x = denoiser.schedule.respaced(steps).start_scale * _start(denoiser.shape[0])
    solver = DDIM(eta=eta)
    *_, state = reverse_process(
        denoiser, range(2), steps=steps, solver=solver, labels=labels, start=x
    )
    return state.x


def _close(found: Tensor, expected: Tensor) -> None:
    deviation = (found - expected).abs().max() / expected.abs().max()
    assert deviation < 1e-4


@pytest.mark.parametrize(
    "scheduler",
    [{"set_alpha_to_one": False, "steps_offset": 1}, {"timestep_spacing": "trailing"}],
)
def test_ldm_samples_as_its_pipeline(tmp_path: Path, scheduler: dict[str, Any]) -> None:
    pipeline = save_ldm(tmp_path, **scheduler)
    denoiser = load_denoiser(tmp_path)
    assert (denoiser.shape, denoiser.image.shape) == ((3, 8, 8), (3, 16, 16))
    expected = pipeline(
        batch_size=2, generator=_generator(), num_inference_steps=10, output_type="np"
    ).images
    found = (denoiser.decoded(_end(denoiser, 10)) / 2 + 0.5).clamp(0, 1)
    _close(found.permute(0, 2, 3, 1), torch.from_numpy(expected))


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
        generator=_generator(),
        num_inference_steps=10,
        output_type="pt",
        return_dict=False,
    )[0]
    end = _end(towards_class(denoiser, scale), 10, [3, 7])
    _close((denoiser.decoded(end) / 2 + 0.5).clamp(0, 1), expected)


SCHEDULERS: dict[str, tuple[Callable[[], Any], int, float]] = {
    "1.5": (lambda: stable_scheduler(diffusers.DDIMScheduler), 10, 5.0),
    "2": (
        lambda: stable_scheduler(diffusers.DDIMScheduler, prediction_type="v_prediction"),
        10,
        5.0,
    ),
    "xl": (lambda: stable_scheduler(diffusers.EulerDiscreteScheduler), 10, 5.0),
    "xl few steps": (
        lambda: stable_scheduler(diffusers.EulerDiscreteScheduler, timestep_spacing="trailing"),
        4,
        1.0,
    ),
}


@pytest.mark.parametrize("version", SCHEDULERS)
def test_stable_diffusion_samples_as_its_pipeline(tmp_path: Path, version: str) -> None:
    make, steps, scale = SCHEDULERS[version]
    scheduler = make()
    if version == "xl":
        scheduler.register_to_config(timestep_spacing="leading")
    pipeline = save_stable_diffusion(tmp_path, scheduler, xl=version.startswith("xl"))
    denoiser = load_denoiser(tmp_path, prompts=PROMPTS)
    expected = pipeline(
        PROMPTS,
        guidance_scale=scale,
        latents=_start(4),
        num_inference_steps=steps,
        output_type="latent",
        height=16,
        width=16,
    ).images
    _close(_end(towards_class(denoiser, scale), steps, [0, 1]), expected)


@pytest.mark.parametrize("decoded", [False, True])
def test_a_guided_step_in_latents_is_the_written_out_one(tmp_path: Path, decoded: bool) -> None:
    """With classifier-free guidance in both estimates, at alpha_bar .0931, by L2."""
    save_stable_diffusion(tmp_path)
    plain = load_denoiser(tmp_path, prompts=PROMPTS)
    assert plain.latents is not None
    denoiser, steps, i = towards_class(plain, 3.0), 10, 5
    distance = DecodedDistance(L2(), plain.latents) if decoded else L2()
    guidance = SelfGuidance(scale=0.7, every=1, distance=distance)
    run = reverse_process(
        denoiser,
        [0, 1],
        steps=steps,
        guidance=guidance,
        solver=DDIM(),
        labels=[0, 1],
        start_index=i,
    )
    found = next(run).x

    unet, vae = plain.network.unet, plain.latents.network  # type: ignore[union-attr, attr-defined]
    tokens = plain.network.class_embedding.rows  # type: ignore[union-attr]
    abar = plain.schedule.alpha_bar

    def estimate(x: Tensor, t: int) -> Tensor:
        text, none = (
            unet(x, t, encoder_hidden_states=tokens[rows]).sample for rows in ([0, 1], [2, 2])
        )
        eps = none + 3.0 * (text - none)
        return (x - float(1 - abar[t]) ** 0.5 * eps) / float(abar[t]) ** 0.5

    def seen(x0: Tensor) -> Tensor:
        return vae.decode(x0 / 0.5).sample if decoded else x0

    x = NoiseStream([0, 1], 0, (4, 8, 8), torch.device("cpu")).draw().requires_grad_(True)
    t, before = 1 + 100 * i, 1 + 100 * (i - 1)
    x0 = estimate(x, t)
    s = int(abs(abar - 0.0931).argmin())
    e = NoiseStream([0, 1], PERTURBATION, (4, 8, 8), torch.device("cpu")).draw()
    with torch.no_grad():
        again = estimate(float(abar[s]) ** 0.5 * x0 + float(1 - abar[s]) ** 0.5 * e, s)
    (g,) = torch.autograd.grad((seen(x0) - seen(again)).flatten(1).norm(dim=1).sum(), x)
    with torch.no_grad():
        eps = (x - float(abar[t]) ** 0.5 * x0) / float(1 - abar[t]) ** 0.5
        mean = float(abar[before]) ** 0.5 * x0 + float(1 - abar[before]) ** 0.5 * eps
        small = (1 - abar[before]) / (1 - abar[t]) * (1 - abar[t] / abar[before])
        expected = mean + 0.7 * float(small) * g / g.abs().amax(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_images_do_not_depend_on_their_batch_and_are_resumed(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path / "model")
    denoiser = load_denoiser(tmp_path / "model", prompts=PROMPTS)
    sampler = SamplerConfig(steps=3, solver="ddim", class_scale=2.0, batch_size=3)
    table = generate(denoiser, range(3), tmp_path / "out", sampler=sampler)
    assert set(table["class_label"]) <= {0, 1}
    prepared = sampler.prepared(denoiser)
    alone = sample(prepared, [2], steps=3, solver=DDIM())
    many = sample(prepared, range(3), steps=3, solver=DDIM())
    assert alone.shape == (1, 3, 16, 16)
    assert (alone[0].int() - many[2].int()).abs().max() <= 1
    other = load_denoiser(tmp_path / "model", prompts=["a cat", "a dog"])
    with pytest.raises(ValueError, match="holds results of another run"):
        generate(other, range(3), tmp_path / "out", sampler=sampler)


def test_an_edit_starts_from_the_encoded_image(tmp_path: Path) -> None:
    save_ldm(tmp_path)
    denoiser = load_denoiser(tmp_path)
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=_generator())
    x, i = Edit(references=images, strength=0.3).start(denoiser, [0], 10)
    network: Any = denoiser.latents.network  # type: ignore[union-attr]
    e = NoiseStream([0], 0, (3, 8, 8), torch.device("cpu")).draw()
    with torch.no_grad():
        code = 0.7 * network.encode(images / 127.5 - 1).latents
    expected = denoiser.schedule.respaced(10).q_sample(code, i, e)
    torch.testing.assert_close(x, expected)


def test_half_precision_leaves_the_autoencoder_in_float32(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path)
    full = load_denoiser(tmp_path, prompts=PROMPTS)
    half = load_denoiser(tmp_path, prompts=PROMPTS, dtype=torch.bfloat16)
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    latents: Any = half.latents
    assert {p.dtype for p in latents.parameters()} == {torch.float32}
    found, expected = _end(half, 4, [0, 1]), _end(full, 4, [0, 1])
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99
    assert half.record()["dtype"] == "torch.bfloat16"


def test_decoding_in_slices_changes_nothing(tmp_path: Path) -> None:
    save_ldm(tmp_path)
    latents: Any = load_denoiser(tmp_path).latents
    z = torch.randn(5, 3, 8, 8, generator=_generator(), requires_grad=True)
    whole = latents.decode(z, smooth=True)
    latents._at_once = 2
    parts = latents.decode(z, smooth=True)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(parts.sum(), z)
    assert (gradient.flatten(1).abs().amax(dim=1) > 0).all()


def _edit_json(path: Path, **changes: Any) -> None:
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def test_the_scale_of_vq_latents_is_read_and_never_assumed(tmp_path: Path) -> None:
    """Trap: diffusers fills in Stable Diffusion's .18215, where CompVis' own models have 1."""
    save_ldm(tmp_path, scaling=1.0)
    denoiser = load_denoiser(tmp_path)
    latents: Any = denoiser.latents
    z = torch.randn(1, 3, 8, 8, generator=_generator())
    torch.testing.assert_close(latents.decode(z), latents.network.decode(z).sample)
    _edit_json(tmp_path / "vqvae/config.json", scaling_factor=0.25)
    other = load_denoiser(tmp_path)
    torch.testing.assert_close(other.decoded(z), latents.network.decode(z / 0.25).sample)
    assert other.record() != denoiser.record()
    _edit_json(tmp_path / "vqvae/config.json", scaling_factor="absent")
    with pytest.raises(ValueError, match=r"has no scaling_factor.* write the one .* there$"):
        load_denoiser(tmp_path)


def test_the_record_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path)
    record = load_denoiser(tmp_path, prompts=PROMPTS).record()
    for name in ("unet/diffusion_pytorch_model.non_ema", "vae/x.fp16", "safety_checker/model"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({"x": torch.zeros(1)}, path)
    assert load_denoiser(tmp_path, prompts=PROMPTS).record() == record
    path = tmp_path / "text_encoder/model.safetensors"
    save_file({name: 2 * t for name, t in load_file(path).items()}, path, {"format": "pt"})
    assert load_denoiser(tmp_path, prompts=PROMPTS).record() != record


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
    x, t, y = _start(4), torch.tensor([700, 700]), torch.tensor([1, 2])
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
    x, t = _start(4), torch.tensor([500, 500])
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
        lambda f: _edit_json(f / "scheduler/scheduler_config.json", _class_name="os"),
        "the scheduler is a os; allowed are diffusers' own",
    ),
    "another network": (
        lambda f: _edit_json(f / "unet/config.json", _class_name="UNet3D"),
        "unet holds a UNet3D; allowed is a UNet2DModel",
    ),
    "another spacing": (
        lambda f: _edit_json(f / "scheduler/scheduler_config.json", timestep_spacing="log"),
        'timestep_spacing "log"; allowed are linspace, leading and trailing',
    ),
    "zero terminal signal": (
        lambda f: _edit_json(f / "scheduler/scheduler_config.json", rescale_betas_zero_snr=True),
        "rescale_betas_zero_snr true; allowed are false",
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


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"sample_size": None}, "has sample_size None; allowed is one number"),
        (
            "model_index.json",
            {
                "_class_name": "StableDiffusionXLPipeline",
                "text_encoder": [None, None],
                "tokenizer": [None, None],
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
                "tokenizer_2": ["transformers", "CLIPTokenizer"],
            },
            "is a StableDiffusionXLPipeline without tokenizer, text_encoder; allowed are",
        ),
        (
            "model_index.json",
            {"_class_name": "FluxPipeline", "unet": "absent"},
            "is a FluxPipeline without unet; allowed are Stable Diffusion 1, 2 and XL",
        ),
    ],
)
def test_another_text_to_image_model_is_refused(
    tmp_path: Path, file: str, changes: dict[str, Any], message: str
) -> None:
    save_stable_diffusion(tmp_path)
    _edit_json(tmp_path / file, **changes)
    with pytest.raises(ValueError, match=message) as refusal:
        load_denoiser(tmp_path, prompts=PROMPTS)
    assert "\n" not in str(refusal.value)


def test_prompts_are_for_text_alone_and_text_needs_them(tmp_path: Path) -> None:
    save_ldm(tmp_path / "ldm")
    save_stable_diffusion(tmp_path / "sd")
    for folder, prompts, message in (
        ("ldm", PROMPTS, "is no text-to-image model, and prompts are given"),
        ("sd", None, "makes images of prompts, and none are given"),
        ("sd", [], "and 0 are given; give at least one"),
        ("sd", ["a cat", " "], "2 are given, one of them empty"),
    ):
        with pytest.raises(ValueError, match=message):
            load_denoiser(tmp_path / folder, prompts=prompts)
    with pytest.raises(ValueError, match="prompts are given; allowed is None"):
        load_denoiser("avatars-32", prompts=PROMPTS)
    _edit_json(tmp_path / "sd/unet/config.json", time_cond_proj_dim=8)
    with pytest.raises(ValueError, match=r"sd.unet do not fit|time_cond_proj_dim"):
        load_denoiser(tmp_path / "sd", prompts=PROMPTS)
