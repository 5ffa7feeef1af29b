"""Text-to-image models: as diffusers' own pipelines run them, and guided in latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from augment_doubles import save_trunk
from latent_doubles import (
    assert_close,
    end_of,
    latent_start,
    save_ldm,
    save_stable_diffusion,
    stable_scheduler,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from unet_doubles import edit_json

from augment import (
    DDIM,
    L2,
    LPIPS,
    DecodedDistance,
    SamplerConfig,
    SelfGuidance,
    generate,
    load_denoiser,
    reverse_process,
    sample,
)
from augment.classifier_free import towards_class
from augment.distance import Distance
from augment.noise import PERTURBATION, NoiseStream

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"  # diffusers' Euler schedulers
)
PROMPTS = ["a cat", "a dog in a hat"]


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
        latents=latent_start(4),
        num_inference_steps=steps,
        output_type="latent",
        height=16,
        width=16,
    ).images
    assert_close(end_of(towards_class(denoiser, scale), steps, [0, 1]), expected)


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("negative", ["a drawing", ""])
def test_a_negative_prompt_is_what_the_pipeline_guides_away_from(
    tmp_path: Path, xl: bool, negative: str
) -> None:
    pipeline = save_stable_diffusion(tmp_path, xl=xl)
    denoiser = load_denoiser(tmp_path, prompts=PROMPTS, negative_prompt=negative)
    expected = pipeline(
        PROMPTS,
        negative_prompt=[negative] * 2,
        guidance_scale=5.0,
        latents=latent_start(4),
        num_inference_steps=4,
        output_type="latent",
        height=16,
        width=16,
    ).images
    found = end_of(towards_class(denoiser, 5.0), 4, [0, 1])
    assert_close(found, expected)
    without = load_denoiser(tmp_path, prompts=PROMPTS)
    assert without.record() != denoiser.record()
    differs = (end_of(towards_class(without, 5.0), 4, [0, 1]) - found).abs().max() > 1e-3
    assert differs == (xl or negative != "")  # of XL, no prompt is zeros


@pytest.mark.parametrize("by", ["latents", "images", "features of images"])
def test_a_guided_step_in_latents_is_the_written_out_one(tmp_path: Path, by: str) -> None:
    """With classifier-free guidance in both estimates, at alpha_bar .0931."""
    save_stable_diffusion(tmp_path)
    size = 8
    metric: Distance = L2()
    if by == "features of images":  # AlexNet takes 32 pixels at least
        size, metric = 16, LPIPS(trunk=save_trunk(tmp_path / "alexnet.pth"))
        edit_json(tmp_path / "unet/config.json", sample_size=size)
    plain = load_denoiser(tmp_path, prompts=PROMPTS)
    assert plain.latents is not None
    denoiser, steps, i = towards_class(plain, 3.0), 10, 5
    distance = metric if by == "latents" else DecodedDistance(metric, plain.latents)
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
        return x0 if by == "latents" else vae.decode(x0 / 0.5).sample

    def drawn(stream: int) -> Tensor:
        return NoiseStream([0, 1], stream, (4, size, size), torch.device("cpu")).draw()

    x = drawn(0).requires_grad_(True)
    t, before = 1 + 100 * i, 1 + 100 * (i - 1)
    x0 = estimate(x, t)
    s = int(abs(abar - 0.0931).argmin())
    e = drawn(PERTURBATION)
    with torch.no_grad():
        again = estimate(float(abar[s]) ** 0.5 * x0 + float(1 - abar[s]) ** 0.5 * e, s)
    (g,) = torch.autograd.grad(metric(seen(x0), seen(again)).sum(), x)
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


def test_half_precision_leaves_the_autoencoder_in_float32(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path)
    full = load_denoiser(tmp_path, prompts=PROMPTS)
    half = load_denoiser(tmp_path, prompts=PROMPTS, dtype=torch.bfloat16)
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    latents: Any = half.latents
    assert {p.dtype for p in latents.parameters()} == {torch.float32}
    found, expected = end_of(half, 4, [0, 1]), end_of(full, 4, [0, 1])
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99
    assert half.record()["dtype"] == "torch.bfloat16"


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
    edit_json(tmp_path / file, **changes)
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
    with pytest.raises(ValueError, match=r"a negative_prompt is given .* without prompts"):
        load_denoiser(tmp_path / "sd", negative_prompt="a drawing")
    with pytest.raises(ValueError, match="prompts are given; allowed is None"):
        load_denoiser("avatars-32", prompts=PROMPTS)
    edit_json(tmp_path / "sd/unet/config.json", time_cond_proj_dim=8)
    with pytest.raises(ValueError, match=r"sd.unet do not fit|time_cond_proj_dim"):
        load_denoiser(tmp_path / "sd", prompts=PROMPTS)
