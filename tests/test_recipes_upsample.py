"""The command of `upsample`: from folder to folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from augment_doubles import tiny_denoiser, tiny_unet
from PIL import Image

from augment import Denoiser, ImageFormat, SamplerConfig, Schedule, generate
from augment.pretrained import save_pipeline
from recipes.chain.command.command_line import run
from recipes.upsample import main


def test_the_command_goes_from_folder_to_folder(tmp_path: Path) -> None:
    seeds = [5, 2, 9, 4]
    generate(tiny_denoiser(channels=1), seeds, tmp_path / "small", sampler=SamplerConfig(steps=2))
    network = tiny_unet(2, 1, sample_size=16)
    image = ImageFormat(channels=1, size=16)
    save_pipeline(Denoiser(network, Schedule.linear(), image), tmp_path / "up", card={})
    arguments = [str(tmp_path / "up"), "--sampler.steps", "2", "--devices", "1"]
    out = main([str(tmp_path / "small"), *arguments, "--out", str(tmp_path / "large")])
    names = {*(f"{seed}.png" for seed in seeds), "metadata.csv", "settings.json"}
    assert {path.name for path in out.iterdir()} == names
    with Image.open(out / "5.png") as stored:
        assert np.asarray(stored).shape == (16, 16)
    with pytest.raises(SystemExit, match=r"^error: .*gone.settings.json is missing; give a folder"):
        run(lambda: main([str(tmp_path / "gone"), *arguments, "--out", str(tmp_path / "new")]))
