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
from augment.pretrained.files import CARD, replacing, sha256_of
from augment.pretrained.parts import (
    check_scheduler,
    load_network,
    noise_schedule,
    read_json,
    weights_file,
)
from augment.pretrained.unet import UNet2DModel, check_channels, common_heads, set_heads
from augment.schedule import Schedule

__all__ = ["load_pipeline", "save_pipeline", "scheduler_of"]

_MOST_PIXELS = 4096
"""A side of an image, in whose activations a network on pixels takes hundreds of GB."""


def load_pipeline(folder: Path) -> Denoiser:
    """The denoiser in a folder of diffusers.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: a network or scheduler that this sampler cannot run.
    """
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    parent = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    config = read_json(unet / "config.json")
    scheduler = read_json(parent / "scheduler_config.json")
    weights = weights_file(unet)
    network = _load_network(unet, config)
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    if "attention_heads" in card:
        set_heads(network, card["attention_heads"])
    check_scheduler(scheduler)
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
        noise_schedule(scheduler),
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
    with replacing(folder) as written:
        diffusers.DDPMPipeline(network, scheduler_of(denoiser)).save_pretrained(written)
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
    return diffusers.DDPMScheduler(
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
    return load_network(folder, UNet2DModel)


def _image_format(network: Mapping[str, Any], folder: Path) -> ImageFormat:
    channels = check_channels(folder, network["in_channels"], network["out_channels"])
    size, multiple = network["sample_size"], 2 ** (len(network["block_out_channels"]) - 1)
    if type(size) is not int or not 1 <= size <= _MOST_PIXELS or size % multiple:
        raise ValueError(
            f"{folder} has sample_size {size} in config.json; allowed are multiples of {multiple} "
            f"up to {_MOST_PIXELS}; write the one size in pixels of its square images there"
        )
    return ImageFormat(channels=channels, size=size)
