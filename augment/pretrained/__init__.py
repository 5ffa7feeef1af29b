"""Pretrained generators: embedded names, diffusers folders and hub ids, all made a `Denoiser`."""

from __future__ import annotations

from pathlib import Path

from diffusers import DiffusionPipeline

from augment.denoiser import Denoiser
from augment.pretrained.diffusers_folder import load_pipeline, save_pipeline

__all__ = ["embedded_generators", "load_denoiser", "load_pipeline", "save_pipeline"]

_WEIGHTS = Path(__file__).parent / "weights"


def embedded_generators() -> list[str]:
    """Names of the generators shipped with this package."""
    return sorted(folder.name for folder in _WEIGHTS.iterdir() if folder.is_dir())


def load_denoiser(source: str | Path) -> Denoiser:
    """Load a pretrained generator.

    Args:
        source: an embedded name (`embedded_generators()`), a diffusers folder, or a hub id
            `owner/name` (downloaded by diffusers, once, into its own cache).

    Raises:
        FileNotFoundError: neither of the three, or a part of the folder is missing.
        ValueError: a network that this sampler cannot run, or a hub that does not answer.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return load_pipeline(path)
    if str(source) in embedded_generators():
        return load_pipeline(_WEIGHTS / str(source))
    if path.is_absolute() or str(source).count("/") != 1 or str(source).startswith("."):
        embedded = ", ".join(embedded_generators())
        raise FileNotFoundError(
            f"generator {str(source)!r} is no folder; give a diffusers folder, "
            f"a hub id owner/name, or one of: {embedded}"
        )
    return load_pipeline(_download(str(source)))


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
