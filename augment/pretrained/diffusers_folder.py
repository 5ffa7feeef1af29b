"""Pixel-space diffusers models: a UNet2DModel and its scheduler configuration, in a folder or on the hub.

Read are the two layouts that exist: a pipeline folder (`unet/`, `scheduler/`) and a flat one (`config.json`, weights and
`scheduler_config.json` side by side). Weights are safetensors, or a pickle read with `weights_only`; nothing loaded is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from augment.denoiser import Denoiser, ImageFormat, VarianceType
from augment.schedule import Schedule

__all__ = ["CARD", "load_pipeline", "save_pipeline"]

CARD = "card.json"
"""Provenance of the weights, beside them."""


def load_pipeline(folder: Path) -> Denoiser:
    """The denoiser in a diffusers folder.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: a network or scheduler that this sampler cannot run.
    """
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    scheduler_folder = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config = _read_json(unet_folder / "config.json")
    if (kind := config.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ValueError(
            f"{unet_folder} holds a {kind}; allowed is a UNet2DModel, a network on pixels; give a pixel-space model"
        )
    scheduler = _read_json(scheduler_folder / "scheduler_config.json")
    weights = _weights_file(unet_folder)
    network = _load_network(unet_folder, config)
    card = _read_json(folder / CARD) if (folder / CARD).is_file() else {}
    return Denoiser(
        network,
        _schedule(scheduler),
        _image_format(network, unet_folder),
        prediction=scheduler.get("prediction_type", "epsilon"),
        variance=_variance(network, scheduler),
        card={"source": str(folder), **card, "sha256": _sha256(weights)},
    )


def save_pipeline(
    denoiser: Denoiser, folder: Path, *, card: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a denoiser whose network is a UNet2DModel as a pipeline folder, with its card; `dtype` is that of the stored weights."""
    scheduler = DDPMScheduler(
        num_train_timesteps=len(denoiser.schedule),
        beta_schedule="squaredcos_cap_v2",
        variance_type=denoiser.variance,
        prediction_type=denoiser.prediction,
        timestep_spacing="linspace",
    )
    network = UNet2DModel.from_config(dict(denoiser.network.config))
    network.load_state_dict(denoiser.network.state_dict())
    DDPMPipeline(network.to(dtype), scheduler).save_pretrained(folder)
    (folder / CARD).write_text(json.dumps(dict(card), indent=2, default=str) + "\n")


def _load_network(folder: Path, config: Mapping[str, Any]) -> UNet2DModel:
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise ValueError(
            f"{folder} is class-conditional; allowed are unconditional networks; give one without class embeddings"
        )
    try:
        return UNet2DModel.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the weights in {folder} do not fit its config.json ({reason}); give the folder as it was saved"
        ) from error


def _image_format(network: UNet2DModel, folder: Path) -> ImageFormat:
    channels, size = network.config["in_channels"], network.config["sample_size"]
    if channels not in (1, 3):
        raise ValueError(
            f"{folder} takes {channels} channels; allowed are 1 (grey) and 3 (RGB) pixels; a latent model does not fit"
        )
    if not isinstance(size, int):
        raise ValueError(
            f"{folder} has sample_size {size} in config.json; write the one size in pixels of its square images there"
        )
    return ImageFormat(channels=channels, size=size)


def _variance(network: UNet2DModel, scheduler: Mapping[str, Any]) -> VarianceType:
    outputs, channels = network.config["out_channels"], network.config["in_channels"]
    if outputs == 2 * channels:
        return "learned_range"
    if outputs != channels:
        raise ValueError(
            f"the network makes {outputs} channels of {channels}; allowed are {channels}, or {2 * channels} with learned variance"
        )
    return (
        "fixed_large"
        if str(scheduler.get("variance_type", "")).startswith("fixed_large")
        else "fixed_small"
    )


def _schedule(config: Mapping[str, Any]) -> Schedule:
    """The scheduler's betas in float64 (diffusers keeps them in float32)."""
    if config.get("trained_betas") is not None:
        return Schedule.from_betas(np.asarray(config["trained_betas"], dtype=np.float64))
    steps, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    bounds = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if name == "squaredcos_cap_v2":
        return Schedule.cosine(steps)
    if name == "linear":
        return Schedule.linear(steps, *bounds)
    if name == "scaled_linear":
        return Schedule.scaled_linear(steps, *bounds)
    raise ValueError(
        f"beta_schedule {name!r} is unknown; allowed are linear, scaled_linear and squaredcos_cap_v2, or trained_betas"
    )


def _weights_file(folder: Path) -> Path:
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has no weights; expected {names[0]} (or {names[1]}); copy the file there"
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; a diffusers folder has unet/config.json and scheduler/scheduler_config.json, or both files side by side"
        )
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )
