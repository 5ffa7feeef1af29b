"""Pixel-space diffusers models: a UNet2DModel and its scheduler configuration, in a folder or hub.

Read are the two layouts that exist: a pipeline folder (`unet/`, `scheduler/`) and a flat one
(`config.json`, weights and `scheduler_config.json` side by side). Weights are safetensors, or a
pickle read with `weights_only`; nothing loaded is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import numpy as np
import torch

from augment.denoiser import Denoiser, ImageFormat, PredictionType, VarianceType
from augment.pretrained.files import sha256_of
from augment.pretrained.heads import common_heads, set_heads
from augment.schedule import Schedule

__all__ = ["CARD", "load_pipeline", "save_pipeline", "scheduler_of"]

CARD = "card.json"
"""Provenance of the weights, beside them."""

_diffusers: Any = diffusers
"""Its classes are hardly typed."""


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
            f"{unet_folder} holds a {kind}; allowed is a UNet2DModel, a network on pixels; "
            "give a pixel-space model"
        )
    scheduler = _read_json(scheduler_folder / "scheduler_config.json")
    weights = _weights_file(unet_folder)
    network = _load_network(unet_folder, config)
    card = _read_json(folder / CARD) if (folder / CARD).is_file() else {}
    if "attention_heads" in card:
        set_heads(network, int(card["attention_heads"]))
    return Denoiser(
        network,
        _schedule(scheduler),
        _image_format(network.config, unet_folder),
        prediction=_prediction(scheduler),
        variance=_variance(network.config, scheduler),
        clip=_clip(scheduler),
        classes=network.config["num_class_embeds"],
        card={"source": str(folder), **card, "sha256": sha256_of(weights)},
    )


def save_pipeline(
    denoiser: Denoiser, folder: Path, *, card: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a denoiser whose network is a UNet2DModel as a pipeline folder, with its card.

    Args:
        denoiser: left as it is.
        folder: made if absent; files of an earlier generator in it are replaced.
        card: where the weights came from.
        dtype: that of the stored weights.
    """
    original: Any = denoiser.network
    config = {k: v for k, v in original.config.items() if k != "_name_or_path"}  # the writer's own
    network = _diffusers.UNet2DModel.from_config(config)
    network.load_state_dict(original.state_dict())
    card = dict(card)
    if heads := common_heads(original, network):
        card["attention_heads"] = heads
    torch.nn.Module.to(network, dtype)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        written = Path(name)
        _diffusers.DDPMPipeline(network, scheduler_of(denoiser)).save_pretrained(written)
        (written / CARD).write_text(json.dumps(card, indent=2, default=str) + "\n")
        for path in [path for path in written.rglob("*") if path.is_file()]:
            target = folder / path.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def scheduler_of(denoiser: Denoiser) -> Any:
    """A DDPMScheduler of the same constants; those of neither usual schedule are written out."""
    steps = len(denoiser.schedule)
    usual = {"squaredcos_cap_v2": Schedule.cosine(steps), "linear": Schedule.linear(steps)}
    named = [
        name
        for name, schedule in usual.items()
        if np.allclose(denoiser.schedule.alpha_bar, schedule.alpha_bar, atol=0)
    ]
    return _diffusers.DDPMScheduler(
        num_train_timesteps=steps,
        beta_schedule=named[0] if named else "linear",
        trained_betas=None if named else denoiser.schedule.beta.tolist(),
        variance_type=denoiser.variance,
        prediction_type=denoiser.prediction,
        clip_sample=denoiser.clip,
        timestep_spacing="linspace",
    )


def _load_network(folder: Path, config: Mapping[str, Any]) -> Any:
    """The UNet2DModel of a folder, every weight of which was found in it."""
    if kind := config.get("class_embed_type"):
        raise ValueError(
            f"{folder} has class_embed_type {kind!r}; allowed is null, with num_class_embeds for "
            "a class-conditional network; give such a model"
        )
    try:
        network, report = _diffusers.UNet2DModel.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
        # diffusers fills a missing tensor with random numbers and only logs it.
        for kind in ("missing_keys", "unexpected_keys"):
            if names := sorted(report[kind]):
                raise ValueError(f"{len(names)} {kind.replace('_', ' ')}, the first {names[0]}")
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the weights in {folder} do not fit its config.json ({reason}); "
            "give the folder as it was saved"
        ) from error
    return network


def _image_format(network: Mapping[str, Any], folder: Path) -> ImageFormat:
    channels, size = _channels(network), network["sample_size"]
    if channels not in (1, 3):
        raise ValueError(
            f"{folder} takes {channels} channels; allowed are 1 (grey) and 3 (RGB) pixels, or "
            "twice as many in an upsampler; a latent model does not fit"
        )
    if not isinstance(size, int):
        raise ValueError(
            f"{folder} has sample_size {size} in config.json; "
            "write the one size in pixels of its square images there"
        )
    return ImageFormat(channels=channels, size=size)


def _channels(network: Mapping[str, Any]) -> int:
    """Channels of the image; an upsampler takes a small one besides."""
    taken = int(network["in_channels"])
    return {2: 1, 6: 3}.get(taken, taken)


def _prediction(scheduler: Mapping[str, Any]) -> PredictionType:
    kind = scheduler.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(
            f"prediction_type {kind!r} is unknown; allowed are epsilon, v_prediction and sample; "
            "give a model with one of them"
        )
    return kind  # type: ignore[no-any-return]


def _variance(network: Mapping[str, Any], scheduler: Mapping[str, Any]) -> VarianceType:
    outputs, channels = network["out_channels"], _channels(network)
    stated = str(scheduler.get("variance_type", "fixed_small"))
    if stated == "learned":
        raise ValueError(
            "variance_type 'learned' is a variance without range; allowed are learned_range, "
            "fixed_small and fixed_large; give a model with one of them"
        )
    if outputs == 2 * channels:
        return "learned_range"
    if outputs != channels:
        raise ValueError(
            f"the network makes {outputs} channels of {channels}; allowed are {channels}, "
            f"or {2 * channels} with learned variance; give such a model"
        )
    return "fixed_large" if stated.startswith("fixed_large") else "fixed_small"


def _clip(scheduler: Mapping[str, Any]) -> bool:
    """Whether estimates are clipped to [-1, 1], the only range there is here."""
    clip, limit = bool(scheduler.get("clip_sample", True)), scheduler.get("clip_sample_range", 1.0)
    if scheduler.get("thresholding") or (clip and limit != 1):
        raise ValueError(
            f"the scheduler has thresholding {scheduler.get('thresholding', False)} and "
            f"clip_sample_range {limit}; allowed are false and 1; "
            "write them so into scheduler_config.json, or give another model"
        )
    return clip


def _schedule(config: Mapping[str, Any]) -> Schedule:
    """The scheduler's betas in float64 (diffusers keeps them in float32)."""
    if config.get("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr is set, whose last step leaves no signal to predict from; "
            "allowed are schedules that end above 0; give another model"
        )
    if config.get("trained_betas") is not None:
        return Schedule.from_betas(np.asarray(config["trained_betas"], dtype=np.float64))
    if "beta_schedule" not in config:
        raise ValueError(
            f"the scheduler {config.get('_class_name', 'without a name')} has no beta_schedule, so "
            "none of the noise this sampler removes; allowed are those with one, as DDPMScheduler; "
            "give such a model"
        )
    steps, name = config.get("num_train_timesteps", 1000), config["beta_schedule"]
    bounds = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if name == "squaredcos_cap_v2":
        return Schedule.cosine(steps)
    if name == "linear":
        return Schedule.linear(steps, *bounds)
    if name == "scaled_linear":
        return Schedule.scaled_linear(steps, *bounds)
    raise ValueError(
        f"beta_schedule {name!r} is unknown; allowed are linear, scaled_linear and "
        "squaredcos_cap_v2, or trained_betas; write the betas out as trained_betas"
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
            f"{path} is missing; a diffusers folder has unet/config.json and "
            "scheduler/scheduler_config.json, or both files side by side; copy it there"
        )
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not JSON; give the folder as it was saved") from error
