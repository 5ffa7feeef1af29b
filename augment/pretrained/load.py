"""From what a user has, a name or a path, to a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from augment.denoiser import Denoiser
from augment.pretrained.diffusers_folder import load_pipeline
from augment.pretrained.guided_diffusion import load_checkpoint
from augment.pretrained.options import CheckpointOptions
from augment.pretrained.precision import halve_convolutions
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

    Args:
        source: an embedded name (`embedded_generators()`), a guided-diffusion `.pt` file, a
            diffusers folder, or a hub id `owner/name` (downloaded by diffusers, once, into its own
            cache).
            The first load of a `.pt` file records its hash beside it; later ones are held to it.
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
    path = Path(source).expanduser()
    checkpoint = path.is_file() or path.suffix in _CHECKPOINTS
    if options not in (None, CheckpointOptions()) and not checkpoint:
        raise ValueError(
            f"{source} is no checkpoint file; options are allowed for one only, a diffusers "
            "folder says everything; leave them out"
        )
    denoiser = load_checkpoint(path, options) if checkpoint else load_pipeline(_folder(source))
    if dtype != torch.float32:
        halve_convolutions(denoiser.network, dtype)
        denoiser.card["dtype"] = str(dtype)
    return denoiser


def _folder(source: str | Path) -> Path:
    """The diffusers folder that a path, an embedded name or a hub id stands for."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if str(source) in embedded_generators():
        return _WEIGHTS / str(source)
    if path.is_absolute() or str(source).count("/") != 1 or str(source).startswith("."):
        embedded = ", ".join(embedded_generators())
        raise FileNotFoundError(
            f"generator {str(source)!r} is no folder or file; give a diffusers folder, a "
            f"guided-diffusion .pt file, a hub id owner/name, or one of: {embedded}"
        )
    return _download(str(source))


def _upsamples(denoiser: Denoiser) -> bool:
    config: Any = denoiser.network.config
    return bool(config["in_channels"] != denoiser.image.channels)


def _download(hub_id: str) -> Path:
    """Fetch a pipeline's network and scheduler through diffusers' own hub client."""
    try:
        return Path(DiffusionPipeline.download(hub_id, use_safetensors=None))
    except Exception as error:  # The hub client raises many kinds; all mean the same to the user.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"generator {hub_id!r} is no local folder and the hub did not give it ({reason}); "
            "download it elsewhere and give its folder"
        ) from error
