"""Latent models of diffusers: a network on latents, the scheduler's noise and an autoencoder.

    LDM    unet/ or transformer/ ... vqvae/ or vae/     unconditional, or with class embeddings
    DiT    transformer/ vae/                            of classes, with a null class

Weights are safetensors alone.

References: Rombach et al. 2022, https://arxiv.org/abs/2112.10752; Peebles & Xie 2023,
https://arxiv.org/abs/2212.09748
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import diffusers
from diffusers.models.embeddings import Timesteps
from torch import nn

from augment.denoiser import Denoiser
from augment.pretrained.autoencoder import Autoencoder, load_autoencoder
from augment.pretrained.files import CARD, sha256_of
from augment.pretrained.parts import load_part, read_files, read_json, sampling_schedule

__all__ = ["latent_denoiser", "latents_of", "load_dit", "load_latent_diffusion"]

_OFFICIAL_DIT = {"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72}
"""DiT-XL/2, of which only its authors' weights are public."""


def load_latent_diffusion(folder: Path) -> Denoiser:
    """The denoiser of an LDM pipeline.

    Raises:
        FileNotFoundError: a part is missing; the message names it.
        ValueError: a part that this sampler cannot run.
    """
    network = load_part(folder / "unet", diffusers.UNet2DModel)
    latents = latents_of(folder, network.config)
    return latent_denoiser(folder, network, latents, classes=network.config["num_class_embeds"])


def load_dit(folder: Path) -> Denoiser:
    """The denoiser of a DiT pipeline, whose last embedding of classes, if there is one more than
    classes, stands for none.

    DiT's own code divides the logarithms of the time's frequencies by their number, diffusers' by
    one less, and no setting says by which a model was trained. DiT-XL/2 is taken for its authors',
    others for diffusers' own; `frequency_shift`, 0 or 1, in a card.json says otherwise.

    Raises:
        FileNotFoundError, ValueError: as `load_latent_diffusion`.
    """
    network = load_part(folder / "transformer", diffusers.DiTTransformer2DModel)
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    official = all(network.config[name] == value for name, value in _OFFICIAL_DIT.items())
    shift = card.get("frequency_shift", 0 if official else 1)
    if shift not in (0, 1):
        raise ValueError(
            f"{folder / CARD} has frequency_shift {shift!r}; allowed are 0 (DiT's own) and "
            "1 (diffusers'); write one of them"
        )
    for module in network.modules():
        if isinstance(module, Timesteps):
            module.downscale_freq_shift = shift
    classes = network.config["num_embeds_ada_norm"]
    embeddings = network.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    return latent_denoiser(
        folder,
        network,
        latents_of(folder, network.config),
        classes=classes,
        null_class=classes if embeddings.num_embeddings > classes else None,
        settings={"frequency_shift": shift},
    )


def latents_of(folder: Path, config: Any) -> Autoencoder:
    """The latents that a network of this configuration takes, by the autoencoder of its folder.

    Raises:
        FileNotFoundError, ValueError: as `load_latent_diffusion`.
    """
    size = config["sample_size"]
    if type(size) is not int:
        raise ValueError(
            f"{folder} has sample_size {size}; allowed is one number, of square latents; give such "
            "a model"
        )
    return load_autoencoder(_decoder(folder), size)


def latent_denoiser(
    folder: Path,
    network: nn.Module,
    latents: Autoencoder,
    *,
    config: Any = None,
    classes: int | None,
    null_class: int | None = None,
    settings: dict[str, Any] | None = None,
) -> Denoiser:
    """A network on latents with its autoencoder and the scheduler of its folder.

    Args:
        folder: of the pipeline.
        network: takes (B, c, h, w), timesteps and classes.
        latents: `latents_of` it.
        config: its configuration, if it is not its own.
        classes: how many it knows; None for none.
        null_class: which of its embeddings is of no class.
        settings: what it was read as, for records.

    Raises:
        FileNotFoundError, ValueError: as `load_latent_diffusion`.
    """
    config = config or network.config
    schedule, scheduler = sampling_schedule(read_json(folder / "scheduler/scheduler_config.json"))
    made, taken, channels = config["out_channels"], config["in_channels"], latents.shape[0]
    if taken != channels or made not in (channels, 2 * channels):
        raise ValueError(
            f"the network in {folder} takes {taken} channels and makes {made}, its autoencoder's "
            f"latents have {channels}; allowed are as many, and twice as many made with learned "
            "variance; give a model that needs no image beside the noise"
        )
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    # A VAE's scale is no weight, and users write it: the images are others by another.
    read_as = {**(settings or {}), "latents": {"scale": latents.scale, "shift": latents.shift}}
    return Denoiser(
        network,
        schedule,
        latents.image,
        prediction=scheduler.get("prediction_type", "epsilon"),
        variance="learned_range" if made == 2 * channels else "fixed_small",
        classes=classes,
        null_class=null_class,
        latents=latents,
        clip=bool(scheduler.get("clip_sample", False)),
        card={"source": str(folder), **card, "settings": read_as, "sha256": _sha256_of_all(folder)},
    )


def _decoder(folder: Path) -> Path:
    return folder / ("vqvae" if (folder / "vqvae").is_dir() else "vae")


def _sha256_of_all(folder: Path) -> str:
    """One hash of the weights that are read of all parts; a safety checker's are not."""
    networks = ("text_encoder", "text_encoder_2", "transformer", "unet")
    parts = [*(folder / name for name in networks if (folder / name).is_dir()), _decoder(folder)]
    digest = hashlib.sha256()
    for path in sorted(path for part in parts for path in read_files(part)):
        digest.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
