"""Nothing that is loaded is executed, wherever a file is read: each holds a payload here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recipe_doubles import save_generator

from augment import LPIPS, load_denoiser
from augment.fitting import _resume_from
from augment.metrics.encoders import _read_state
from augment.pretrained import load_noised_classifier
from classify import decode
from classify.predictions import read_predictions, unit_folder
from classify.trainer import saved_state
from labeling import load_labeler
from recipes.celeba_augment import PRESETS
from recipes.chain.command.command_line import parse
from recipes.chain.finished import run_settings
from recipes.chain.settings.study import NO_FLAGS, RunConfig


class _Payload:
    """Leaves a file named `executed` where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("executed",)


def _pickled(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.ones(1), "global_step": _Payload()}, path)
    return path


def _arrays(path: Path, **arrays: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = np.array([_Payload()], dtype=object)
    np.savez(path, **dict.fromkeys(("files", "attributes", "labels", *arrays), payload))
    return path


def _generator(root: Path) -> object:
    folder = save_generator(root / "generator")
    unet = folder / "unet" / "diffusion_pytorch_model"
    unet.with_suffix(".safetensors").unlink()
    _pickled(unet.with_suffix(".bin"))
    return load_denoiser(folder)


def _predictions(root: Path) -> object:
    _arrays(unit_folder(root, "real", 0) / "predictions.npz", probabilities=0)
    return read_predictions(root, ["real"], 1)


def _transformer(root: Path) -> object:
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.ViTConfig(**shape, intermediate_size=8, image_size=8, patch_size=8)
    config.save_pretrained(root)
    _pickled(root / "pytorch_model.bin")
    return load_labeler(root)


def _settings(root: Path) -> object:
    (root / "a.yaml").write_text('labeler: !!python/object/apply:os.mkdir ["executed"]\n')
    return parse(RunConfig, [f"--config={root / 'a.yaml'}"], presets=PRESETS, skip=NO_FLAGS)


def _class_path(root: Path) -> object:
    (root / "a.yaml").write_text("sampler: {class_path: os.mkdir, init_args: {path: executed}}\n")
    return parse(RunConfig, [f"--config={root / 'a.yaml'}"], presets=PRESETS, skip=NO_FLAGS)


def _record(root: Path) -> object:
    (root / "config.yaml").write_text('out: !!python/object/apply:os.mkdir ["executed"]\n')
    return run_settings(root)


def _prompts(root: Path) -> object:
    (root / "a.yaml").write_text('model: !!python/object/apply:os.mkdir ["executed"]\n')
    return load_labeler(root / "a.yaml")


@pytest.mark.parametrize(
    "read",
    [
        lambda root: load_denoiser(_pickled(root / "a.pt")),
        _generator,
        lambda root: load_noised_classifier(_pickled(root / "a.pt")),
        lambda root: LPIPS("vgg", trunk=_pickled(root / "a.pth")),
        lambda root: _read_state(_pickled(root / "a.pth")),
        lambda root: _resume_from(_pickled(root / "last.ckpt"), {}, 1),
        _predictions,
        _transformer,
        _settings,
        _class_path,
        _record,
        _prompts,
    ],
    ids=[
        "pt",
        "bin",
        "classifier",
        "lpips",
        "encoder",
        "training",
        "npz",
        "hf",
        "config",
        "class_path",
        "record",
        "clip",
    ],
)
def test_a_payload_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        read(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_what_can_be_made_again_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of an interrupted fit, and decoded images."""
    monkeypatch.chdir(tmp_path)
    _pickled(tmp_path / "last.ckpt")
    assert saved_state(tmp_path) is None
    Image.new("RGB", (8, 8), "red").save("a.png")
    pixels, _ = decode([str(tmp_path / "a.png")], 8)
    decode([str(tmp_path / "a.png")], 8, cache=tmp_path / "cache")
    for name in ("pixels.npy", "kept.npy"):
        (file,) = (tmp_path / "cache").glob(f"*/{name}")
        np.save(file, np.array([_Payload()], dtype=object))
        again, _ = decode([str(tmp_path / "a.png")], 8, cache=tmp_path / "cache")
        assert torch.equal(again, pixels)
    assert not (tmp_path / "executed").exists()
