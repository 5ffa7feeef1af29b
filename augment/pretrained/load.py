"""From what a user has, a name or a path, to a generator or an upsampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from augment.denoiser import Denoiser
from augment.pretrained.checkpoints import CheckpointOptions
from augment.pretrained.diffusers_folder import load_pipeline
from augment.pretrained.files import one_line
from augment.pretrained.guided_diffusion import load_checkpoint
from augment.pretrained.unet import halve_convolutions
from augment.pretrained.upsampler import Upsampler

__all__ = ["embedded_generators", "load_any", "load_denoiser", "load_upsampler"]

_WEIGHTS = Path(__file__).parent / "weights"
_CHECKPOINTS = (".pt", ".pth", ".ckpt")


def embedded_generators() -> list[str]:
    """Names of the generators shipped with this package."""
    return sorted(folder.name for folder in _WEIGHTS.iterdir() if folder.is_dir())


def load_denoiser(
    source: str | Path,
    *,
    options: CheckpointOptions | None = None,
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
        dtype: of the convolutions; with torch.float16 or torch.bfloat16, normalisation, embeddings
            and head stay in float32.

    Raises:
        FileNotFoundError: none of the four, or a part of the folder is missing.
        ValueError: a network that this sampler cannot run, a checkpoint that takes options to know
            it entirely, or a hub that does not answer.
    """
    denoiser = load_any(source, options, dtype)
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
        denoiser = load_checkpoint(path, options)
    else:
        denoiser = load_pipeline(path if path.is_dir() else _download(source))
    if dtype != torch.float32:
        halve_convolutions(denoiser.network, dtype)
        denoiser.card["dtype"] = str(dtype)
    return denoiser


def _upsamples(denoiser: Denoiser) -> bool:
    config: Any = denoiser.network.config
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
