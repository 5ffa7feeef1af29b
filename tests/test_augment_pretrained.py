"""Diffusers models in both layouts, by name, folder and hub id; parity with its own pipeline."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_doubles import tiny_unet
from diffusers import (
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
)
from safetensors.torch import load_file
from unet_doubles import WEIGHTS, edit_json, refusal_of, save_flat, save_parts

from augment import (
    Denoiser,
    ImageFormat,
    Schedule,
    embedded_generators,
    load_denoiser,
    reverse_process,
    sample,
)
from augment.denoiser import VarianceType
from augment.noise import REVERSE, seeded_generator
from augment.pretrained import load_upsampler, save_pipeline


@pytest.mark.parametrize("layout", [save_parts, save_flat])
@pytest.mark.parametrize(
    ("outputs", "variance_type", "variance"),
    [
        (3, "fixed_small", "fixed_small"),
        (3, "fixed_large", "fixed_large"),
        (6, "learned_range", "learned_range"),
        (6, "fixed_small", "learned_range"),
    ],
)
def test_both_layouts_give_the_network_and_its_variance(
    tmp_path: Path,
    layout: Callable[..., Path],
    outputs: int,
    variance_type: str,
    variance: VarianceType,
) -> None:
    network = tiny_unet(3, outputs)
    folder = layout(tmp_path, network, variance_type=variance_type)
    denoiser = load_denoiser(folder)
    assert (denoiser.variance, denoiser.prediction) == (variance, "epsilon")
    assert denoiser.image == ImageFormat(channels=3, size=8)
    assert not denoiser.network.training
    assert not any(p.requires_grad for p in denoiser.parameters())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prediction = denoiser(x, 500, denoiser.schedule)
    with torch.no_grad():
        output = network.eval()(x, 500).sample
    torch.testing.assert_close(prediction.eps, output[:, :3])
    assert (prediction.v is None) == (outputs == 3)
    if prediction.v is not None:
        torch.testing.assert_close(prediction.v, output[:, 3:])


def test_the_card_names_source_and_hash_of_the_weights(tmp_path: Path) -> None:
    folder = save_parts(tmp_path, tiny_unet())
    expected = hashlib.sha256((folder / "unet" / WEIGHTS).read_bytes()).hexdigest()
    assert load_denoiser(folder).card == {"source": str(folder), "sha256": expected}
    (folder / "card.json").write_text(json.dumps({"licence": "MIT", "sha256": "stale"}))
    card = load_denoiser(str(folder)).card
    assert (card["licence"], card["sha256"]) == ("MIT", expected)


@pytest.mark.parametrize("clip", [True, False])
def test_a_scheduler_that_does_not_clip_is_honoured_and_saved(tmp_path: Path, clip: bool) -> None:
    denoiser = load_denoiser(save_parts(tmp_path / "given", tiny_unet(), clip_sample=clip))
    assert denoiser.clip is clip
    save_pipeline(denoiser, tmp_path / "saved", card={})
    assert load_denoiser(tmp_path / "saved").clip is clip


def test_weights_pickled_by_torch_are_read_too(tmp_path: Path) -> None:
    network = tiny_unet()
    save_parts(tmp_path, network)
    (tmp_path / "unet" / WEIGHTS).unlink()
    torch.save(network.state_dict(), tmp_path / "unet" / "diffusion_pytorch_model.bin")
    loaded = load_denoiser(tmp_path).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    "scheduler",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "linear", "beta_start": 0.0015, "beta_end": 0.0195},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400},
        {"trained_betas": [0.01, 0.02, 0.05, 0.2], "num_train_timesteps": 4},
    ],
)
def test_the_schedule_is_that_of_diffusers_scheduler(
    tmp_path: Path, scheduler: dict[str, object]
) -> None:
    schedule = load_denoiser(save_parts(tmp_path, tiny_unet(), **scheduler)).schedule
    betas = DDPMScheduler(**scheduler).betas.double().numpy()
    np.testing.assert_allclose(schedule.beta, betas, rtol=2e-5, atol=1e-7)


def test_v_prediction_and_sample_prediction_are_the_algebra_of_eps(tmp_path: Path) -> None:
    """With x_t = a x_0 + s eps, v = a eps - s x_0 means eps = a v + s x_t = (x_t - a x_0) / s."""
    folder = save_parts(tmp_path, tiny_unet(), beta_schedule="squaredcos_cap_v2")
    schedule = load_denoiser(folder).schedule.respaced(10)
    x0, eps = (
        torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        for s in (0, 1)
    )
    for i in (0, 5, 9):
        a, s = schedule.alpha_bar[i] ** 0.5, (1 - schedule.alpha_bar[i]) ** 0.5
        x_t = (a * x0 + s * eps).float()
        for kind, output in {"v_prediction": a * eps - s * x0, "sample": x0}.items():
            edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type=kind)
            denoiser = load_denoiser(folder)
            assert denoiser.prediction == kind
            denoiser.network.forward = lambda *_, out=output: out.float()  # type: ignore[method-assign, assignment, misc]
            tolerance = 2e-4 if i else 2e-2 if kind == "sample" else 2e-4  # 1 / s of float32 error.
            found = denoiser(x_t, i, schedule).eps
            torch.testing.assert_close(found, eps.float(), atol=tolerance, rtol=0)


def test_a_class_conditional_network_knows_how_many(tmp_path: Path) -> None:
    network = tiny_unet(3, 6, num_class_embeds=10)
    denoiser = load_denoiser(save_parts(tmp_path, network, variance_type="learned_range"))
    assert denoiser.classes == 10
    x, labels = torch.ones(2, 3, 8, 8), torch.tensor([0, 9])
    found = denoiser(x, 500, denoiser.schedule, labels).eps
    torch.testing.assert_close(found, network.eval()(x, 500, labels).sample[:, :3])
    assert not torch.equal(found[0], found[1])


def test_an_upsampler_is_for_another_loader(tmp_path: Path) -> None:
    folder = save_parts(tmp_path, tiny_unet(6, 6), variance_type="learned_range")
    assert "is an upsampler, which needs images to enlarge" in refusal_of(folder, ValueError)
    assert load_upsampler(folder).denoiser.image == ImageFormat(channels=3, size=8)


def test_half_precision_weights_are_run_in_single_precision(tmp_path: Path) -> None:
    network = tiny_unet(3, 6)
    save_parts(tmp_path, network.half(), variance_type="learned_range")
    assert load_file(tmp_path / "unet" / WEIGHTS)["conv_in.weight"].dtype == torch.float16
    denoiser = load_denoiser(tmp_path)
    assert {p.dtype for p in denoiser.parameters()} == {torch.float32}
    images = sample(denoiser, [0], steps=2)
    reference = Denoiser(
        network.float(), denoiser.schedule, denoiser.image, variance="learned_range"
    )
    assert torch.equal(images, sample(reference, [0], steps=2))


@pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
@pytest.mark.parametrize("schedule", [Schedule.cosine(10), Schedule.linear(10, 1e-3, 0.3)])
def test_diffusers_pipeline_opens_what_is_saved_and_draws_the_same_images(
    tmp_path: Path, variance: VarianceType, schedule: Schedule
) -> None:
    network = tiny_unet(3, 6 if variance == "learned_range" else 3)
    denoiser = Denoiser(network, schedule, ImageFormat(channels=3, size=8), variance=variance)
    save_pipeline(denoiser, tmp_path / "new", card={"licence": "MIT"})
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "new")
    pipeline.set_progress_bar_config(disable=True)
    seeds = [4, 9]
    *_, last = reverse_process(denoiser, seeds, steps=10)
    for row, seed in enumerate(seeds):
        images = pipeline(
            generator=seeded_generator(seed, REVERSE),
            num_inference_steps=10,
            output_type="np",
        ).images
        expected = torch.from_numpy(images).permute(0, 3, 1, 2)[0]
        found = (last.x[row] / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_saved_denoiser_is_loaded_as_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    network = tiny_unet(1, 2)
    denoiser = Denoiser(
        network, Schedule.cosine(), ImageFormat(channels=1, size=8), variance="learned_range"
    )
    save_pipeline(denoiser, tmp_path / "new", card={"licence": "MIT"}, dtype=dtype)
    loaded = load_denoiser(tmp_path / "new")
    assert (loaded.variance, loaded.prediction) == ("learned_range", "epsilon")
    assert loaded.image == denoiser.image
    assert loaded.card["licence"] == "MIT"
    np.testing.assert_array_equal(loaded.schedule.alpha_bar, denoiser.schedule.alpha_bar)
    for key, value in network.state_dict().items():
        assert value.dtype == torch.float32  # The network in hand keeps its precision.
        assert torch.equal(loaded.network.state_dict()[key], value.to(dtype).float())


@pytest.mark.parametrize("name", ["nothing-of-this-name", "./owner/name", "/no/such", "a/b/c"])
def test_an_unknown_name_lists_what_there_is_without_asking_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionPipeline, "download", _unexpected)
    message = refusal_of(name, FileNotFoundError)
    assert (
        f"generator {name!r} is no folder or file; give a diffusers folder, a guided-diffusion "
        ".pt file, a hub id owner/name" in message
    )
    assert all(embedded in message for embedded in embedded_generators())


def test_an_embedded_name_is_the_embedded_generator_whatever_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "avatars-32"
    folder = save_parts(tmp_path / name, tiny_unet())
    monkeypatch.chdir(tmp_path)
    assert load_denoiser(name).image.size == 32
    for path in (f"./{name}", Path(name), str(folder)):
        assert load_denoiser(path).image.size == 8
    shutil.rmtree(folder)
    assert f"generator {name!r} is no folder or file" in refusal_of(Path(name), FileNotFoundError)
    (tmp_path / name).write_bytes(b"no weights")
    assert load_denoiser(name).image.size == 32
    assert "is no file of tensors" in refusal_of(f"./{name}", ValueError)


def _unexpected(*_: object, **__: object) -> str:
    raise AssertionError("asked the hub")


def test_a_hub_id_goes_through_diffusers_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_parts(tmp_path, tiny_unet())
    asked = []

    def download(hub_id: str, **_: object) -> str:
        asked.append(hub_id)
        if hub_id == "owner/gone":
            raise OSError("404\nRepository not found")
        return str(tmp_path)

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    assert load_denoiser("owner/name").image.size == 8
    message = refusal_of("owner/gone", ValueError)
    assert asked == ["owner/name", "owner/gone"]
    assert "'owner/gone' is no local folder and the hub did not give it (404 Repository" in message
    assert message.endswith("download it elsewhere and give its folder")


@pytest.mark.parametrize("name", embedded_generators())
def test_an_embedded_generator_loads_and_has_a_card(name: str) -> None:
    denoiser = load_denoiser(name)
    assert sample(denoiser, [0], steps=2).shape == (1, *denoiser.image.shape)
    assert "licence" in denoiser.card
