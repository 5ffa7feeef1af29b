"""The folder that a checkpoint is converted to: as diffusers opens it and as this package does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adm_doubles import Adm, AdmUnet, randomised
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from augment.pretrained import CheckpointOptions, load_upsampler
from augment.pretrained.load import load_any
from augment.pretrained.unet import set_heads
from recipes.convert import main

ADM = Adm(order="legacy", classes=7)
UPSAMPLER = Adm(
    order="legacy", heads=4, in_channels=6, classes=7, widths=(32, 64, 96), attention=(1, 2)
)


def _checkpoint(folder: Path, adm: Adm) -> tuple[AdmUnet, Path, CheckpointOptions]:
    network = randomised(AdmUnet(adm))
    torch.save(network.state_dict(), folder / "model.pt")
    heads = {"heads": adm.heads} if adm.heads else {"head_channels": adm.head_channels}
    options = CheckpointOptions(
        attention_order=adm.order, schedule="linear", image_size=16, **heads
    )
    return network, folder / "model.pt", options


def _convert(path: Path, out: Path, options: CheckpointOptions) -> Path:
    given = {name: value for name, value in vars(options).items() if value is not None}
    flags = [f"--options.{name}={value}" for name, value in given.items()]
    return main([str(path), f"--out={out}", *flags])


def _inputs(adm: Adm) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(2, adm.in_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([3, 700]), torch.tensor([0, 6])


@pytest.mark.parametrize("adm", [ADM, UPSAMPLER])
def test_it_is_loaded_again_as_the_checkpoint_is(tmp_path: Path, adm: Adm) -> None:
    _, path, options = _checkpoint(tmp_path, adm)
    direct = load_any(path, options)
    again = load_any(_convert(path, tmp_path / "folder", options))
    inputs = _inputs(adm)
    assert torch.equal(direct.network(*inputs).sample, again.network(*inputs).sample)
    np.testing.assert_array_equal(direct.schedule.alpha_bar, again.schedule.alpha_bar)
    for name in ("image", "prediction", "variance", "classes"):
        assert getattr(direct, name) == getattr(again, name)
    assert again.card["converted"] == {"from": "model.pt", "sha256": direct.card["sha256"]}
    assert again.card["settings"] == direct.card["settings"]


def test_diffusers_loads_it_by_itself(tmp_path: Path) -> None:
    network, path, options = _checkpoint(tmp_path, ADM)
    folder = _convert(path, tmp_path / "folder", options)
    unet = UNet2DModel.from_pretrained(folder / "unet").eval()
    inputs = _inputs(ADM)
    torch.testing.assert_close(unet(*inputs).sample, network(*inputs), atol=1e-4, rtol=0)
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config["beta_schedule"] == "linear"
    assert scheduler.config["trained_betas"] is None
    assert scheduler.config["variance_type"] == "learned_range"


def test_heads_that_diffusers_cannot_state_are_in_the_card_and_survive_saving(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, path, options = _checkpoint(tmp_path, UPSAMPLER)
    folder = _convert(path, tmp_path / "folder", options)
    assert json.loads((folder / "card.json").read_text())["attention_heads"] == 4
    printed = capsys.readouterr().out
    assert "settings: attention_order legacy, heads 4, schedule linear, image_size 16," in printed
    assert "every attention has 4 heads: after UNet2DModel.from_pretrained, set" in printed
    inputs = _inputs(UPSAMPLER)
    expected = network(*inputs)
    found = load_upsampler(folder).denoiser.network(*inputs).sample
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    alone = UNet2DModel.from_pretrained(folder / "unet").eval()
    assert (alone(*inputs).sample - expected).abs().max() > 1e-2
    set_heads(alone, 4)
    torch.testing.assert_close(alone(*inputs).sample, expected, atol=1e-4, rtol=0)


def test_heads_of_one_width_need_no_card(tmp_path: Path) -> None:
    adm = Adm(heads=4, classes=7)
    network, path, options = _checkpoint(tmp_path, adm)
    folder = _convert(path, tmp_path / "folder", options)
    assert "attention_heads" not in json.loads((folder / "card.json").read_text())
    alone = UNet2DModel.from_pretrained(folder / "unet").eval()
    inputs = _inputs(adm)
    torch.testing.assert_close(alone(*inputs).sample, network(*inputs), atol=1e-4, rtol=0)


def test_nothing_is_written_over_and_errors_are_one_line(tmp_path: Path) -> None:
    _, path, _ = _checkpoint(tmp_path, ADM)
    new = tmp_path / "new"
    for arguments, message in (
        ([path, "--out", tmp_path], "is not empty; give a new folder"),
        ([path, "--out", path], "is not empty; give a new folder"),
        ([path, "--out", new], r"cannot tell attention_order .*, or as --options.attention_order"),
        ([tmp_path / "gone.pt", "--out", new], "is missing"),
        ([path, "--out", new, "--options.attention_order", "old"], "attention_order"),
        # An embedded name is no file.
        (["avatars-32", "--out", new], r"avatars-32 is missing; give the \.pt file"),
        ([tmp_path, "--out", new], "is a folder; give a guided-diffusion"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
            main([str(argument) for argument in arguments])
        assert "\n" not in str(refusal.value)
    assert not new.exists()
