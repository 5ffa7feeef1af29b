"""From what a user has, a name or a path, to a generator or an upsampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from augment.denoiser import Denoiser
from augment.files import one_line
from augment.pretrained.checkpoints import CheckpointOptions
from augment.pretrained.diffusers_folder import load_pipeline
from augment.pretrained.edm import EDM, load_edm
from augment.pretrained.guided_diffusion import load_checkpoint
from augment.pretrained.latent_models import load_dit, load_latent_diffusion
from augment.pretrained.parts import parts_of, read_json
from augment.pretrained.text_to_image import load_text_to_image
from augment.pretrained.unet import halved
from augment.pretrained.upsampler import Upsampler

__all__ = ["embedded_generators", "load_any", "load_denoiser", "load_upsampler"]

_WEIGHTS = Path(__file__).parent / "weights"
_CHECKPOINTS = (".pt", ".pth", ".ckpt")
_INDEX = "model_index.json"


def embedded_generators() -> list[str]:
    """Names of the generators shipped with this package."""
    return sorted(folder.name for folder in _WEIGHTS.iterdir() if folder.is_dir())


def load_denoiser(
    source: str | Path,
    *,
    options: CheckpointOptions | None = None,
    prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Denoiser:
    """Load a pretrained generator.

    An embedded name always means the embedded generator. A file or folder of such a name is given
    as a path: as the text `./avatars-32`, or as a `Path`.

    Args:
        source: an embedded name (`embedded_generators()`), a guided-diffusion `.pt` file, a
            diffusers folder, or a hub id `owner/name` (downloaded by diffusers, once, into its own
            cache). The first load of a `.pt` file records its hash beside it; later ones are held
            to it.
        options: what the tensors of a `.pt` file that is no known checkpoint cannot tell.
        prompts: of a text-to-image model, one per class, in their order.
        negative_prompt: what its images are guided away from, instead of from no prompt: the null
            class.
        dtype: of the convolutions; with torch.float16 or torch.bfloat16, normalisation, embeddings
            and head stay in float32. Of a latent model the whole network is in it, save for a
            UNet2DModel, and the autoencoder stays in float32.

    Raises:
        FileNotFoundError: none of the four, or a part of the folder is missing.
        ValueError: a network that this sampler cannot run, a checkpoint that takes options to know
            it entirely, or a hub that does not answer.
    """
    if negative_prompt is not None and prompts is None:
        raise ValueError(
            f"a negative_prompt is given for {source} without prompts; allowed is one of a "
            "text-to-image model; give prompts too, or leave it out"
        )
    denoiser = load_any(source, options, dtype, prompts, negative_prompt)
    if _upsamples(denoiser):
        raise ValueError(
            f"{source} is an upsampler, which needs images to enlarge; allowed is a generator; "
            "give it to load_upsampler"
        )
    return denoiser


def load_upsampler(
    source: str | Path,
    *,
    options: CheckpointOptions | None = None,
    dtype: torch.dtype = torch.float32,
) -> Upsampler:
    """Load a pretrained upsampler; arguments and errors are those of `load_denoiser`."""
    denoiser = load_any(source, options, dtype)
    if not _upsamples(denoiser):
        raise ValueError(
            f"{source} is a generator, which takes no images; allowed is an upsampler; "
            "give it to load_denoiser"
        )
    return Upsampler(denoiser)


def load_any(
    source: str | Path,
    options: CheckpointOptions | None = None,
    dtype: torch.dtype = torch.float32,
    prompts: Sequence[str] | None = None,
    negative_prompt: str | None = None,
) -> Denoiser:
    """Either of them; an upsampler's denoiser takes twice its image's channels."""
    embedded = source in embedded_generators()
    path = _WEIGHTS / source if embedded else Path(source).expanduser()
    checkpoint = not embedded and (path.is_file() or path.suffix in _CHECKPOINTS)
    if options not in (None, CheckpointOptions()) and not checkpoint:
        raise ValueError(
            f"{source} is no checkpoint file; options are allowed for one only, a diffusers "
            "folder says everything; leave them out"
        )
    if checkpoint:
        _refuse_prompts(source, prompts)
        denoiser = load_checkpoint(path, options)
    else:
        folder = path if path.is_dir() else _download(source)
        denoiser = _load_folder(folder, prompts, negative_prompt)
    return denoiser if dtype == torch.float32 else halved(denoiser, dtype)


def _load_folder(
    folder: Path, prompts: Sequence[str] | None, negative_prompt: str | None
) -> Denoiser:
    """The denoiser of a diffusers folder, by the parts that its index names."""
    index = read_json(folder / _INDEX) if (folder / _INDEX).is_file() else {}
    if index.get("_class_name") == EDM:
        _refuse_prompts(folder, prompts)
        return load_edm(folder)
    parts = parts_of(index).keys()
    if any(name.startswith("text_encoder") for name in parts):
        _check_text_parts(folder, index)
        if prompts is None:
            raise ValueError(
                f"{folder} makes images of prompts, and none are given; allowed is one per class; "
                "give --prompts, a file with one per line, or load_denoiser(prompts=...)"
            )
        return load_text_to_image(folder, prompts, negative_prompt)
    _refuse_prompts(folder, prompts)
    if "transformer" in parts:
        return load_dit(folder)
    return load_latent_diffusion(folder) if parts & {"vae", "vqvae"} else load_pipeline(folder)


def _check_text_parts(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse what is told of prompts otherwise than Stable Diffusion."""
    parts = parts_of(index).keys()
    wanted = ["unet", "vae", "tokenizer", "text_encoder"]
    if parts & {"tokenizer_2", "text_encoder_2"}:
        wanted += ["tokenizer_2", "text_encoder_2"]
    if missing := [name for name in wanted if name not in parts]:
        raise ValueError(
            f"{folder} is a {index.get('_class_name')} without {', '.join(missing)}; allowed are "
            "Stable Diffusion 1, 2 and XL, whose refiner is none; give such a model"
        )


def _refuse_prompts(source: object, prompts: Sequence[str] | None) -> None:
    if prompts is not None:
        raise ValueError(
            f"{source} is no text-to-image model, and prompts are given; allowed is None; leave "
            "them out"
        )


def _upsamples(denoiser: Denoiser) -> bool:
    config: Any = getattr(denoiser.network, "config", None)
    if config is None or denoiser.latents is not None:
        return False
    return bool(config["in_channels"] != denoiser.image.channels)


def _download(source: str | Path) -> Path:
    """Fetch the network and scheduler of a hub id through diffusers' own client."""
    name = str(source)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"generator {name!r} is no folder or file; give a diffusers folder, a "
            "guided-diffusion .pt file, a hub id owner/name, or one of: "
            f"{', '.join(embedded_generators())}"
        )
    try:
        return Path(DiffusionPipeline.download(name, use_safetensors=None))
    except Exception as error:  # The hub client raises many kinds, which mean the same to the user.
        raise ValueError(
            f"generator {name!r} is no local folder and the hub did not give it "
            f"({one_line(error)}); download it elsewhere and give its folder"
        ) from error
