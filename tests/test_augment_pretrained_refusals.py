"""Diffusers folders that are not whole, or that this sampler would run wrongly, are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from augment_doubles import tiny_unet
from diffusers import (
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    ScoreSdeVeScheduler,
)
from safetensors.torch import load_file, save_file
from unet_doubles import WEIGHTS, edit_json, refusal_of, save_parts

from augment import (
    load_denoiser,
)


def test_what_this_sampler_cannot_run_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    timed = save_parts(tmp_path / "a", tiny_unet(class_embed_type="timestep"))
    assert "class_embed_type 'timestep'; allowed is null" in refusal_of(timed, ValueError)
    latent = save_parts(tmp_path / "b", tiny_unet(4))
    assert "4 channels; allowed are 1 (grey) and 3 (RGB)" in refusal_of(latent, ValueError)
    odd = save_parts(tmp_path / "c", tiny_unet(3, 4))
    assert "makes 4 channels of 3; allowed are 3, or 6" in refusal_of(odd, ValueError)
    oblong = save_parts(tmp_path / "d", tiny_unet())
    edit_json(oblong / "unet" / "config.json", sample_size=[8, 16])
    assert "sample_size [8, 16]" in refusal_of(oblong, ValueError)
    other = save_parts(tmp_path / "e", tiny_unet())
    edit_json(other / "unet" / "config.json", _class_name="UNet2DConditionModel")
    assert "holds a UNet2DConditionModel; allowed is a UNet2DModel" in refusal_of(other, ValueError)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "beta_schedule",
            "sigmoid",
            'beta_schedule "sigmoid"; give a model with "linear" or "scaled_',
        ),
        (
            "prediction_type",
            "flow",
            'has prediction_type "flow"; give a model with "epsilon" or "v_pred',
        ),
        (
            "variance_type",
            "learned",
            'has variance_type "learned"; give a model with "fixed_small" or',
        ),
        (
            "rescale_betas_zero_snr",
            True,
            "has rescale_betas_zero_snr true; give a model with false",
        ),
        (
            "thresholding",
            True,
            "has thresholding true; give a model with false or null",
        ),
        ("clip_sample_range", 3.0, "has clip_sample_range 3.0; give a model with 1"),
    ],
)
def test_a_scheduler_that_would_be_run_wrongly_is_refused(
    tmp_path: Path, setting: str, value: object, message: str
) -> None:
    folder = save_parts(tmp_path, tiny_unet(3, 6))
    edit_json(folder / "scheduler" / "scheduler_config.json", **{setting: value})
    assert message in refusal_of(folder, ValueError)


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
    folder = save_parts(tmp_path, tiny_unet(), beta_schedule="scaled_linear")
    (folder / "card.json").write_text("{}")
    edit_json(folder / part, **{setting: value})
    assert message in refusal_of(folder, ValueError)


@pytest.mark.parametrize(
    "other", [ScoreSdeVeScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler]
)
def test_a_scheduler_of_another_kind_of_noise_is_not_taken_for_a_linear_one(
    tmp_path: Path, other: type[SchedulerMixin]
) -> None:
    tiny_unet().save_pretrained(tmp_path)
    other().save_pretrained(tmp_path)
    assert f"the scheduler {other.__name__} has no beta_schedule" in refusal_of(
        tmp_path, ValueError
    )


def test_the_range_of_a_clip_that_is_off_does_not_matter(tmp_path: Path) -> None:
    folder = save_parts(tmp_path, tiny_unet(), clip_sample=False, clip_sample_range=3.0)
    assert not load_denoiser(folder).clip


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "scheduler/scheduler_config.json",
            "scheduler_config.json is missing; a diffusers folder has",
        ),
        ("unet/config.json", "config.json is missing; a diffusers folder has"),
        (f"unet/{WEIGHTS}", f"has no weights; copy {WEIGHTS} or"),
    ],
)
def test_a_missing_part_is_named(tmp_path: Path, missing: str, message: str) -> None:
    folder = save_parts(tmp_path, tiny_unet())
    (folder / missing).unlink()
    assert message in refusal_of(folder, FileNotFoundError)


def test_a_folder_without_a_scheduler_folder_is_no_flat_one(tmp_path: Path) -> None:
    shutil.rmtree(save_parts(tmp_path, tiny_unet()) / "scheduler")
    assert "scheduler_config.json is missing" in refusal_of(tmp_path, FileNotFoundError)


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
    folder = save_parts(tmp_path, tiny_unet())
    state = load_file(folder / "unet" / WEIGHTS)
    spoil(state)
    save_file(state, folder / "unet" / WEIGHTS)
    message = refusal_of(folder, ValueError)
    assert "do not fit its config.json" in message
    assert message.endswith("give the folder as it was saved")


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_weights_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = save_parts(tmp_path, tiny_unet())
    (folder / "unet" / WEIGHTS).write_bytes(content)
    assert "do not fit its config.json" in refusal_of(folder, ValueError)


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_config_that_is_no_json_is_named(tmp_path: Path, part: str) -> None:
    folder = save_parts(tmp_path, tiny_unet())
    (folder / part).write_text("{")
    assert f"{part} is not JSON; give the folder as it was saved" in refusal_of(folder, ValueError)
