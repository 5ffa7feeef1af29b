"""Folders of diffusers around a network on pixels, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import DDPMScheduler, UNet2DModel

from augment import load_denoiser

__all__ = ["WEIGHTS", "edit_json", "refusal_of", "save_flat", "save_parts"]

WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_parts(folder: Path, network: UNet2DModel, **scheduler: object) -> Path:
    """As a pipeline: network and scheduler each in a folder of its own."""
    network.save_pretrained(folder / "unet")
    DDPMScheduler(**scheduler).save_pretrained(folder / "scheduler")
    return folder


def save_flat(folder: Path, network: UNet2DModel, **scheduler: object) -> Path:
    """Side by side in one folder."""
    network.save_pretrained(folder)
    DDPMScheduler(**scheduler).save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Write a configuration with other values, without those that are "absent"."""
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "absent"}))


def refusal_of(source: str | Path, kind: type[Exception]) -> str:
    """What loading it is answered with, in one line."""
    with pytest.raises(kind) as refusal:
        load_denoiser(source)
    message = str(refusal.value)
    assert "\n" not in message
    return message
