"""A model runs where its caller put it, or on the devices that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from augment_doubles import TinyNetwork, tiny_denoiser
from lightning.fabric import Fabric
from PIL import Image

from augment import L2, Denoiser, ImageFormat, SamplerConfig, Schedule, generate, upsample
from augment.minority_score import score_files
from augment.pretrained import Upsampler

SAMPLER = SamplerConfig(steps=2)


def _generate(folder: Path, fabric: Fabric | None) -> None:
    generate(tiny_denoiser(), [0], folder / "new", sampler=SAMPLER, fabric=fabric)


def _upsample(folder: Path, fabric: Fabric | None) -> None:
    image = ImageFormat(channels=1, size=16)
    upsampler = Upsampler(Denoiser(TinyNetwork(2, 1), Schedule.linear(), image))
    upsample(upsampler, folder / "small", folder / "new", sampler=SAMPLER, fabric=fabric)


def _score(folder: Path, fabric: Fabric | None) -> None:
    score_files(tiny_denoiser(), [folder / "a.png"], L2(), read=Image.open, fabric=fabric)


@pytest.mark.parametrize("work", [_generate, _upsample, _score])
def test_without_a_fabric_nothing_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Path, Fabric | None], None]
) -> None:
    """A model on a GPU was moved to the CPU."""
    generate(tiny_denoiser(channels=1), [0], tmp_path / "small", sampler=SAMPLER)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    moved: list[object] = []
    monkeypatch.setattr(Denoiser, "to", lambda self, device: moved.append(device) or self)
    work(tmp_path, None)
    assert moved == []
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    work(tmp_path, fabric)
    assert moved == [torch.device("cpu")]
