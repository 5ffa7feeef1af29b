"""The commands that train a generator and a noised classifier, from a folder of images on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from augment import load_denoiser, load_noised_classifier
from recipes import train_generator, train_noised_classifier
from recipes.train_noised_classifier import class_names

GENERATOR = ["--network.size=8", "--network.widths=[8, 8]", "--network.attention_levels=[]"]
CLASSIFIER = ["--network.size=8", "--network.widths=[32, 32]", "--network.attention_levels=[]"]
STEPS = ["--training.steps=2", "--training.batch_size=2", "--accelerator=cpu", "--devices=1"]

pytestmark = [
    # Lightning's own: it calls a deprecated class of torch, and gives tips.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*resumed from the checkpoint ended.*"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight images, the first six of them in train."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in range(8):
        pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    splits = ["train"] * 6 + ["val", "test"]
    values = ["1.0", "", "0", "1", "10", "0", "2", "2"]
    _write(folder, split=splits, Bright=values)
    return folder


def _write(folder: Path, **columns: Sequence[str]) -> None:
    names = [f"{name}.png" for name in range(8)]
    pd.DataFrame({"file_name": names, **columns}).to_csv(folder / "metadata.csv", index=False)


def _generator(images: Path, out: Path, *flags: str) -> Path:
    return train_generator.main([str(images), f"--out={out}", *GENERATOR, *STEPS, *flags])


def _classifier(images: Path, out: Path, *flags: str, column: str = "Bright") -> Path:
    words = [str(images), column, f"--out={out}"]
    return train_noised_classifier.main([*words, *CLASSIFIER, *STEPS, *flags])


def test_a_generator_is_trained_on_a_tables_train_rows_and_its_card_names_no_path(
    images: Path, tmp_path: Path
) -> None:
    folder = _generator(images, tmp_path / "out", "--network.channels=1")
    denoiser = load_denoiser(folder)
    assert denoiser.image.shape == (1, 8, 8)
    assert (denoiser.card["images"], denoiser.card["trained_on"]) == (6, "images")
    assert str(tmp_path) not in (folder / "card.json").read_text()
    (images / "metadata.csv").unlink()
    assert load_denoiser(_generator(images, tmp_path / "all")).card["images"] == 8


def test_another_set_of_images_in_the_same_folder_is_refused(images: Path, tmp_path: Path) -> None:
    (images / "metadata.csv").unlink()
    card = (_generator(images, tmp_path / "out") / "card.json").read_bytes()
    (images / "0.png").unlink()
    with pytest.raises(ValueError, match=r"other images .* another --out"):
        _generator(images, tmp_path / "out")
    assert (tmp_path / "out" / "generator" / "card.json").read_bytes() == card


def test_a_classifier_is_trained_on_the_train_rows_that_have_a_value(
    images: Path, tmp_path: Path
) -> None:
    folder = _classifier(images, tmp_path / "out")
    card = json.loads((folder / "card.json").read_text())
    assert (card["attribute"], card["classes"], card["images"]) == ("Bright", ["0", "1", "10"], 5)
    assert card["trained_on"] == "images"
    assert str(tmp_path) not in json.dumps(card)
    assert load_noised_classifier(folder).classes == 3


def test_cells_are_names_whatever_pandas_read_them_as() -> None:
    for column in ([1.0, None, 0.0], ["1.0", "", " 0"], [1, pd.NA, 0]):
        assert list(class_names(pd.Series(column))) == ["1", "", "0"]
    assert list(class_names(pd.Series(["night", "1.50"]))) == ["night", "1.50"]


@pytest.mark.parametrize(
    ("train", "flags", "message"),
    [
        (_generator, ["--training.ema=2"], "training.ema is 2.0"),
        (_generator, ["--nonsense=2"], "nonsense"),
        (_classifier, ["--training.steps=0"], "training.steps is 0"),
    ],
)
def test_bad_flags_are_refused_in_one_line(
    images: Path, tmp_path: Path, train: Callable[..., Path], flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        train(images, tmp_path / "out", *flags)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_bad_input_is_refused_in_one_line(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="give a folder of images"):
        _generator(tmp_path / "none", out)
    with pytest.raises(ValueError, match="has no column Bald; it has file_name, split, Bright"):
        _classifier(images, out, column="Bald")
    with pytest.raises(ValueError, match="split has 1 classes in the training images"):
        _classifier(images, out, column="split")
    _write(images, split=["test"] * 8)
    with pytest.raises(ValueError, match="has no train row; only these are trained on; add some"):
        _generator(images, out)
    for command in (train_generator, train_noised_classifier):
        with pytest.raises(ValueError, match="required"):
            command.main([])
    assert not out.exists()


def test_the_command_itself_ends_without_a_traceback(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "recipes" / "train_generator.py"), str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {tmp_path / 'none'} ")
