"""Pixel-space models of diffusers: a folder with a UNet2DModel and its scheduler's configuration.

Two layouts are read: a pipeline folder (`unet/`, `scheduler/`) and a flat one (`config.json`,
weights and `scheduler_config.json` side by side). Weights are safetensors, or a pickle read with
`weights_only`; nothing loaded is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from augment.denoiser import Denoiser, ImageFormat
from augment.pretrained.files import one_line, replaced, sha256_of
from augment.pretrained.unet import UNet2DModel, check_channels, common_heads, set_heads
from augment.schedule import Schedule

__all__ = ["CARD", "load_pipeline", "save_pipeline", "scheduler_of"]

CARD = "card.json"
"""Provenance of the weights, beside them."""

_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    # "learned" is a variance without range.
    "variance_type": (
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned_range",
        None,
    ),
    "rescale_betas_zero_snr": (False, None),  # its last step leaves no signal to predict from
    "thresholding": (False, None),
    "clip_sample_range": (1.0,),
}
"""What a scheduler's configuration may say, where it says anything."""

_MOST_STEPS = 100_000
"""Training steps of a schedule, a hundred times as many as is usual."""

_MOST_LAYERS = 64
"""Residual blocks a level, eight times as many as in any network that is known."""

_MOST_PIXELS = 4096
"""A side of an image, in whose activations a network on pixels takes hundreds of GB."""

_diffusers: Any = diffusers
"""Its classes are hardly typed."""


def load_pipeline(folder: Path) -> Denoiser:
    """The denoiser in a folder of diffusers.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: a network or scheduler that this sampler cannot run.
    """
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    parent = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config = _read_json(unet / "config.json")
    scheduler = _read_json(parent / "scheduler_config.json")
    weights = _weights_file(unet)
    network = _load_network(unet, config, weights)
    card = _read_json(folder / CARD) if (folder / CARD).is_file() else {}
    if "attention_heads" in card:
        set_heads(network, card["attention_heads"])
    _check_scheduler(scheduler)
    image = _image_format(network.config, unet)
    large = str(scheduler.get("variance_type")).startswith("fixed_large")
    learned = network.config["out_channels"] == 2 * image.channels
    embeddings, null = network.config["num_class_embeds"], card.get("null_class")
    if null is not None and (embeddings is None or null != embeddings - 1):
        raise ValueError(
            f"{folder / CARD} has the null class {null} of {embeddings} embeddings; allowed is the "
            "last of them; give the folder as it was saved"
        )
    return Denoiser(
        network,
        _schedule(scheduler),
        image,
        prediction=scheduler.get("prediction_type", "epsilon"),
        variance="learned_range" if learned else "fixed_large" if large else "fixed_small",
        clip=bool(scheduler.get("clip_sample", True)),
        classes=embeddings if null is None else null,
        null_class=null,
        card={"source": str(folder), **card, "sha256": sha256_of(weights)},
    )


def save_pipeline(
    denoiser: Denoiser, folder: Path, *, card: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Write a denoiser whose network is a UNet2DModel as a pipeline folder, with its card.

    Args:
        denoiser: left as it is.
        folder: made if absent; files of an earlier generator in it are replaced.
        card: where the weights came from.
        dtype: that of the stored weights.

    Returns:
        The card as it is written.
    """
    original: Any = denoiser.network
    # The writer's own, and what diffusers would set back to its defaults.
    own = ("_name_or_path", "_use_default_values")
    config = {k: v for k, v in original.config.items() if k not in own}
    network = UNet2DModel.from_config(config)
    network.load_state_dict(original.state_dict())
    card = dict(card)
    if heads := common_heads(original, network):
        card["attention_heads"] = heads
    if denoiser.null_class is not None:
        card["null_class"] = denoiser.null_class
    torch.nn.Module.to(network, dtype)
    with replaced(folder) as written:
        _diffusers.DDPMPipeline(network, scheduler_of(denoiser)).save_pretrained(written)
        (written / CARD).write_text(json.dumps(card, indent=2, default=str) + "\n")
    return card


def scheduler_of(denoiser: Denoiser) -> Any:
    """A DDPMScheduler of the same constants, with the betas written out if they have no name."""
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


def _load_network(folder: Path, config: Mapping[str, Any], weights: Path) -> Any:
    """The UNet2DModel of a folder, every weight of which was found in it."""
    if (kind := config.get("_class_name", "UNet2DModel")) != "UNet2DModel":
        raise ValueError(
            f"{folder} holds a {kind}; allowed is a UNet2DModel, a network on pixels; "
            "give a pixel-space model"
        )
    if kind := config.get("class_embed_type"):
        raise ValueError(
            f"{folder} has class_embed_type {kind!r}; allowed is null, with num_class_embeds for "
            "a class-conditional network; give such a model"
        )
    try:
        _check_size(config, weights)
        network, report = UNet2DModel.from_pretrained(
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
    except Exception as error:  # A configuration can be wrong in as many ways as it has values.
        raise ValueError(
            f"the weights in {folder} do not fit its config.json ({one_line(error)}); "
            "give the folder as it was saved"
        ) from error
    return network


def _check_size(config: Mapping[str, Any], weights: Path) -> None:
    """Refuse a network that the file has too few bytes for, before memory is taken for it."""
    layers = config.get("layers_per_block", 1)
    if type(layers) is not int or not 0 < layers <= _MOST_LAYERS:
        raise ValueError(f"layers_per_block is {layers!r}, not 1 to {_MOST_LAYERS}")
    with torch.device("meta"):
        described = UNet2DModel.from_config(config)
    numbers, size = sum(t.numel() for t in described.state_dict().values()), weights.stat().st_size
    if 2 * numbers > size:  # two bytes each in half precision
        raise ValueError(f"it describes {numbers:,} numbers, {weights.name} has {size:,} bytes")


def _image_format(network: Mapping[str, Any], folder: Path) -> ImageFormat:
    channels = check_channels(folder, network["in_channels"], network["out_channels"])
    size, multiple = network["sample_size"], 2 ** (len(network["block_out_channels"]) - 1)
    if type(size) is not int or not 1 <= size <= _MOST_PIXELS or size % multiple:
        raise ValueError(
            f"{folder} has sample_size {size} in config.json; allowed are multiples of {multiple} "
            f"up to {_MOST_PIXELS}; write the one size in pixels of its square images there"
        )
    return ImageFormat(channels=channels, size=size)


def _check_scheduler(config: Mapping[str, Any]) -> None:
    """Refuse what this sampler would run wrongly."""
    allowed = dict(_ALLOWED)
    if not config.get("clip_sample", True):
        del allowed["clip_sample_range"]
    if config.get("trained_betas") is not None:
        del allowed["beta_schedule"]
    elif "beta_schedule" not in config:
        raise ValueError(
            f"the scheduler {config.get('_class_name', 'without a name')} has no beta_schedule, so "
            "none of the noise this sampler removes; allowed are those with one, as DDPMScheduler; "
            "give such a model"
        )
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise ValueError(
                f"the scheduler has {name} {json.dumps(config[name])}; allowed are "
                f"{', '.join(json.dumps(value) for value in values)}; give another model"
            )


def _schedule(config: Mapping[str, Any]) -> Schedule:
    """The scheduler's betas in float64; diffusers keeps them in float32."""
    steps, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule")
    bounds = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    try:
        if (betas := config.get("trained_betas")) is not None:
            return Schedule.from_betas(np.asarray(betas, dtype=np.float64))
        if type(steps) is not int or not 1 < steps <= _MOST_STEPS:
            raise ValueError(f"of {steps!r} steps")
        if name == "squaredcos_cap_v2":
            return Schedule.cosine(steps)
        first, last = (max(float(bound), 0.0) for bound in bounds)  # of which there are roots
        make = Schedule.linear if name == "linear" else Schedule.scaled_linear
        return make(steps, first, last)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the betas of the scheduler make no schedule ({one_line(error)}); allowed are 2 to "
            f"{_MOST_STEPS} (num_train_timesteps), all within (0, 1) (trained_betas, or beta_start "
            "and beta_end); give the folder as it was saved"
        ) from error


def _weights_file(folder: Path) -> Path:
    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} has no weights; allowed are {names[0]} and {names[1]}; copy the file there"
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; a diffusers folder has unet/config.json and "
            "scheduler/scheduler_config.json, or both files side by side; copy it there"
        )
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON; give the folder as it was saved") from error
