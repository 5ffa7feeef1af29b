"""Diffusers models in both layouts, parity with diffusers' own pipeline, and every refusal."""

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
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

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

WEIGHTS = "diffusion_pytorch_model.safetensors"


def _pipeline(folder: Path, network: UNet2DModel, **scheduler: object) -> Path:
    network.save_pretrained(folder / "unet")
    DDPMScheduler(**scheduler).save_pretrained(folder / "scheduler")
    return folder


def _flat(folder: Path, network: UNet2DModel, **scheduler: object) -> Path:
    network.save_pretrained(folder)
    DDPMScheduler(**scheduler).save_pretrained(folder)
    return folder


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _refusal(source: str | Path, kind: type[Exception]) -> str:
    with pytest.raises(kind) as refusal:
        load_denoiser(source)
    message = str(refusal.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", [_pipeline, _flat])
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
    folder = _pipeline(tmp_path, tiny_unet())
    expected = hashlib.sha256((folder / "unet" / WEIGHTS).read_bytes()).hexdigest()
    assert load_denoiser(folder).card == {"source": str(folder), "sha256": expected}
    (folder / "card.json").write_text(json.dumps({"licence": "MIT", "sha256": "stale"}))
    card = load_denoiser(str(folder)).card
    assert (card["licence"], card["sha256"]) == ("MIT", expected)


@pytest.mark.parametrize("clip", [True, False])
def test_a_scheduler_that_does_not_clip_is_honoured_and_saved(tmp_path: Path, clip: bool) -> None:
    denoiser = load_denoiser(_pipeline(tmp_path / "given", tiny_unet(), clip_sample=clip))
    assert denoiser.clip is clip
    save_pipeline(denoiser, tmp_path / "saved", card={})
    assert load_denoiser(tmp_path / "saved").clip is clip


def test_weights_pickled_by_torch_are_read_too(tmp_path: Path) -> None:
    network = tiny_unet()
    _pipeline(tmp_path, network)
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
    schedule = load_denoiser(_pipeline(tmp_path, tiny_unet(), **scheduler)).schedule
    betas = DDPMScheduler(**scheduler).betas.double().numpy()
    np.testing.assert_allclose(schedule.beta, betas, rtol=2e-5, atol=1e-7)


def test_v_prediction_and_sample_prediction_are_the_algebra_of_eps(tmp_path: Path) -> None:
    """With x_t = a x_0 + s eps, v = a eps - s x_0 means eps = a v + s x_t = (x_t - a x_0) / s."""
    folder = _pipeline(tmp_path, tiny_unet(), beta_schedule="squaredcos_cap_v2")
    schedule = load_denoiser(folder).schedule.respaced(10)
    x0, eps = (
        torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        for s in (0, 1)
    )
    for i in (0, 5, 9):
        a, s = schedule.alpha_bar[i] ** 0.5, (1 - schedule.alpha_bar[i]) ** 0.5
        x_t = (a * x0 + s * eps).float()
        for kind, output in {"v_prediction": a * eps - s * x0, "sample": x0}.items():
            _edit(folder / "scheduler" / "scheduler_config.json", prediction_type=kind)
            denoiser = load_denoiser(folder)
            assert denoiser.prediction == kind
            denoiser.network.forward = lambda *_, out=output: out.float()  # type: ignore[method-assign, assignment, misc]
            tolerance = 2e-4 if i else 2e-2 if kind == "sample" else 2e-4  # 1 / s of float32 error.
            found = denoiser(x_t, i, schedule).eps
            torch.testing.assert_close(found, eps.float(), atol=tolerance, rtol=0)


def test_a_class_conditional_network_knows_how_many(tmp_path: Path) -> None:
    network = tiny_unet(3, 6, num_class_embeds=10)
    denoiser = load_denoiser(_pipeline(tmp_path, network, variance_type="learned_range"))
    assert denoiser.classes == 10
    x, labels = torch.ones(2, 3, 8, 8), torch.tensor([0, 9])
    found = denoiser(x, 500, denoiser.schedule, labels).eps
    torch.testing.assert_close(found, network.eval()(x, 500, labels).sample[:, :3])
    assert not torch.equal(found[0], found[1])


def test_an_upsampler_is_for_another_loader(tmp_path: Path) -> None:
    folder = _pipeline(tmp_path, tiny_unet(6, 6), variance_type="learned_range")
    assert "is an upsampler, which needs images to enlarge" in _refusal(folder, ValueError)
    assert load_upsampler(folder).denoiser.image == ImageFormat(channels=3, size=8)


def test_half_precision_weights_are_run_in_single_precision(tmp_path: Path) -> None:
    network = tiny_unet(3, 6)
    _pipeline(tmp_path, network.half(), variance_type="learned_range")
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


def test_what_this_sampler_cannot_run_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    timed = _pipeline(tmp_path / "a", tiny_unet(class_embed_type="timestep"))
    assert "class_embed_type 'timestep'; allowed is null" in _refusal(timed, ValueError)
    latent = _pipeline(tmp_path / "b", tiny_unet(4))
    assert "4 channels; allowed are 1 (grey) and 3 (RGB)" in _refusal(latent, ValueError)
    odd = _pipeline(tmp_path / "c", tiny_unet(3, 4))
    assert "makes 4 channels of 3; allowed are 3, or 6" in _refusal(odd, ValueError)
    oblong = _pipeline(tmp_path / "d", tiny_unet())
    _edit(oblong / "unet" / "config.json", sample_size=[8, 16])
    assert "sample_size [8, 16]" in _refusal(oblong, ValueError)
    other = _pipeline(tmp_path / "e", tiny_unet())
    _edit(other / "unet" / "config.json", _class_name="UNet2DConditionModel")
    assert "holds a UNet2DConditionModel; allowed is a UNet2DModel" in _refusal(other, ValueError)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "beta_schedule",
            "sigmoid",
            'beta_schedule "sigmoid"; allowed are "linear", "scaled_',
        ),
        (
            "prediction_type",
            "flow",
            'has prediction_type "flow"; allowed are "epsilon", "v_pred',
        ),
        ("variance_type", "learned", 'has variance_type "learned"; allowed are "fixed_small",'),
        ("rescale_betas_zero_snr", True, "has rescale_betas_zero_snr true; allowed are false"),
        (
            "thresholding",
            True,
            "has thresholding true; allowed are false, null; give",
        ),
        ("clip_sample_range", 3.0, "has clip_sample_range 3.0; allowed are 1"),
    ],
)
def test_a_scheduler_that_would_be_run_wrongly_is_refused(
    tmp_path: Path, setting: str, value: object, message: str
) -> None:
    folder = _pipeline(tmp_path, tiny_unet(3, 6))
    _edit(folder / "scheduler" / "scheduler_config.json", **{setting: value})
    assert message in _refusal(folder, ValueError)


@pytest.mark.parametrize(
    ("part", "setting", "value", "message"),
    [
        ("unet/config.json", "in_channels", "x", "do not fit its config.json"),
        ("unet/config.json", "in_channels", None, "do not fit its config.json"),
        ("unet/config.json", "num_class_embeds", "ten", "do not fit its config.json"),
        ("unet/config.json", "num_class_embeds", 10**12, "it describes 32,000,000,0"),
        ("unet/config.json", "block_out_channels", [40_000, 40_000], "numbers, diffusion_pytorch"),
        ("unet/config.json", "layers_per_block", 10**9, "is 1000000000, not 1 to 64"),
        ("unet/config.json", "sample_size", 10**6, "sample_size 1000000 in config.json; allowed"),
        ("unet/config.json", "sample_size", 0, "sample_size 0 in config.json; allowed are multip"),
        ("unet/config.json", "sample_size", 15, "sample_size 15 in config.json; allowed are mult"),
        ("unet/config.json", "sample_size", True, "sample_size True in config.json; allowed are"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", "many", "of 'many' steps"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 10**9, "of 1000000000 steps"),
        ("scheduler/scheduler_config.json", "beta_start", "a", "could not convert string to float"),
        ("scheduler/scheduler_config.json", "beta_end", -1, "make no schedule"),
        ("scheduler/scheduler_config.json", "trained_betas", ["a"], "make no schedule"),
        ("card.json", "attention_heads", 0, "heads is 0; allowed are divisors of the 8 channels"),
        ("card.json", "attention_heads", 7, "heads is 7; allowed are divisors of the 8 channels"),
        ("card.json", "attention_heads", "x", "heads is 'x'; allowed are divisors"),
    ],
)
def test_a_value_that_describes_no_model_is_refused(
    tmp_path: Path, part: str, setting: str, value: object, message: str
) -> None:
    folder = _pipeline(tmp_path, tiny_unet(), beta_schedule="scaled_linear")
    (folder / "card.json").write_text("{}")
    _edit(folder / part, **{setting: value})
    assert message in _refusal(folder, ValueError)


@pytest.mark.parametrize(
    "other", [ScoreSdeVeScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler]
)
def test_a_scheduler_of_another_kind_of_noise_is_not_taken_for_a_linear_one(
    tmp_path: Path, other: type[SchedulerMixin]
) -> None:
    tiny_unet().save_pretrained(tmp_path)
    other().save_pretrained(tmp_path)
    assert f"the scheduler {other.__name__} has no beta_schedule" in _refusal(tmp_path, ValueError)


def test_the_range_of_a_clip_that_is_off_does_not_matter(tmp_path: Path) -> None:
    folder = _pipeline(tmp_path, tiny_unet(), clip_sample=False, clip_sample_range=3.0)
    assert not load_denoiser(folder).clip


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "scheduler/scheduler_config.json",
            "scheduler_config.json is missing; a diffusers folder has",
        ),
        ("unet/config.json", "config.json is missing; a diffusers folder has"),
        (f"unet/{WEIGHTS}", f"has no weights; allowed are {WEIGHTS} and"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, missing: str, message: str) -> None:
    folder = _pipeline(tmp_path, tiny_unet())
    (folder / missing).unlink()
    assert message in _refusal(folder, FileNotFoundError)


def test_a_folder_without_a_scheduler_folder_is_no_flat_one(tmp_path: Path) -> None:
    shutil.rmtree(_pipeline(tmp_path, tiny_unet()) / "scheduler")
    assert "scheduler_config.json is missing" in _refusal(tmp_path, FileNotFoundError)


def _drop(state: dict[str, torch.Tensor]) -> None:
    del state["conv_in.weight"]


def _reshape(state: dict[str, torch.Tensor]) -> None:
    state["conv_in.weight"] = torch.zeros(8, 3, 5, 5)


def _add(state: dict[str, torch.Tensor]) -> None:
    state["extra.weight"] = torch.zeros(3)


@pytest.mark.parametrize("spoil", [_drop, _reshape, _add])
def test_weights_that_do_not_fit_are_refused_and_never_filled_in(
    tmp_path: Path, spoil: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    folder = _pipeline(tmp_path, tiny_unet())
    state = load_file(folder / "unet" / WEIGHTS)
    spoil(state)
    save_file(state, folder / "unet" / WEIGHTS)
    message = _refusal(folder, ValueError)
    assert "do not fit its config.json" in message
    assert message.endswith("give the folder as it was saved")


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_weights_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = _pipeline(tmp_path, tiny_unet())
    (folder / "unet" / WEIGHTS).write_bytes(content)
    assert "do not fit its config.json" in _refusal(folder, ValueError)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_config_that_is_no_json_is_named(tmp_path: Path, part: str) -> None:
    folder = _pipeline(tmp_path, tiny_unet())
    (folder / part).write_text("{")
    assert f"{part} is not JSON; give the folder as it was saved" in _refusal(folder, ValueError)


@pytest.mark.parametrize("name", ["nothing-of-this-name", "./owner/name", "/no/such", "a/b/c"])
def test_an_unknown_name_lists_what_there_is_without_asking_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionPipeline, "download", _unexpected)
    message = _refusal(name, FileNotFoundError)
    assert (
        f"generator {name!r} is no folder or file; give a diffusers folder, a guided-diffusion "
        ".pt file, a hub id owner/name" in message
    )
    assert all(embedded in message for embedded in embedded_generators())


def test_an_embedded_name_is_the_embedded_generator_whatever_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "avatars-32"
    folder = _pipeline(tmp_path / name, tiny_unet())
    monkeypatch.chdir(tmp_path)
    assert load_denoiser(name).image.size == 32
    for path in (f"./{name}", Path(name), str(folder)):
        assert load_denoiser(path).image.size == 8
    shutil.rmtree(folder)
    assert f"generator {name!r} is no folder or file" in _refusal(Path(name), FileNotFoundError)
    (tmp_path / name).write_bytes(b"no weights")
    assert load_denoiser(name).image.size == 32
    assert "is no file of tensors" in _refusal(f"./{name}", ValueError)


def _unexpected(*_: object, **__: object) -> str:
    raise AssertionError("asked the hub")


def test_a_hub_id_goes_through_diffusers_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pipeline(tmp_path, tiny_unet())
    asked = []

    def download(hub_id: str, **_: object) -> str:
        asked.append(hub_id)
        if hub_id == "owner/gone":
            raise OSError("404\nRepository not found")
        return str(tmp_path)

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    assert load_denoiser("owner/name").image.size == 8
    message = _refusal("owner/gone", ValueError)
    assert asked == ["owner/name", "owner/gone"]
    assert "'owner/gone' is no local folder and the hub did not give it (404 Repository" in message
    assert message.endswith("download it elsewhere and give its folder")


@pytest.mark.parametrize("name", embedded_generators())
def test_an_embedded_generator_loads_and_has_a_card(name: str) -> None:
    denoiser = load_denoiser(name)
    assert sample(denoiser, [0], steps=2).shape == (1, *denoiser.image.shape)
    assert "licence" in denoiser.card
