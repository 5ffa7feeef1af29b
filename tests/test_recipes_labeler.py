"""A labeler trained by a recipe: what its folder is for, and what the rest of a run makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from recipe_doubles import digests, save_folder, save_generator, tiny_flags
from safetensors.torch import load_file, save_file

from labeling import load_labeler
from recipes import train_labeler
from recipes.celeba_augment import main

FAST = ["--train.epochs=1", "--train.rounds=1", "--train.architecture=shufflenet_v2_x0_5"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds data, a generator and a labeler trained on the data."""
    root = tmp_path_factory.mktemp("labeler")
    save_generator(root / "generator")
    save_folder(root / "data")
    train_labeler.main([str(root / "data"), "--out", str(root / "labeler"), *FAST])
    return root


def test_the_same_training_is_taken_as_it_stands(root: Path) -> None:
    before = digests(root / "labeler")
    again = train_labeler.main([str(root / "data"), "--out", str(root / "labeler"), *FAST])
    assert digests(root / "labeler") == before
    assert again.sha256 == load_labeler(root / "labeler").sha256 != ""


@pytest.mark.parametrize(
    ("flags", "what"),
    [(["--train.epochs=2"], "another config"), (["--attributes", "Male"], "another attributes")],
)
def test_other_settings_are_refused(root: Path, flags: list[str], what: str) -> None:
    before = digests(root / "labeler")
    with pytest.raises(ValueError, match=what):
        train_labeler.main([str(root / "data"), "--out", str(root / "labeler"), *FAST, *flags])
    assert digests(root / "labeler") == before


def test_other_labels_are_refused(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    table = pd.read_csv(data / "metadata.csv")
    table.assign(Male=1 - table["Male"]).to_csv(data / "metadata.csv", index=False)
    with pytest.raises(ValueError, match="other images or labels"):
        train_labeler.main([str(data), "--out", str(root / "labeler"), *FAST])


def test_a_labeler_from_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "labeler", tmp_path / "labeler")
    (tmp_path / "labeler" / "training.json").unlink()
    with pytest.raises(ValueError, match=r"no training\.json"):
        train_labeler.main([str(root / "data"), "--out", str(tmp_path / "labeler"), *FAST])


def test_images_guided_by_other_weights_do_not_mix(root: Path, tmp_path: Path) -> None:
    labeler, out = shutil.copytree(root / "labeler", tmp_path / "labeler"), tmp_path / "out"
    flags = [*tiny_flags(root / "data", root / "generator", out), f"--labeler={labeler}"]
    main(flags)
    record = json.loads((out / "synthetic" / "minority" / "settings.json").read_text())
    assert record["guidance"]["network"] == load_labeler(labeler).sha256
    (out / "synthetic" / "minority" / "1.png").unlink()
    weights = load_file(labeler / "model.safetensors")
    save_file({name: w * 1.01 for name, w in weights.items()}, labeler / "model.safetensors")
    with pytest.raises(ValueError, match="another run"):
        main(flags)


def test_what_the_user_added_to_the_table_stays(root: Path, tmp_path: Path) -> None:
    flags = tiny_flags(root / "data", root / "generator", tmp_path / "out")
    main(flags)
    path = tmp_path / "out" / "synthetic" / "plain" / "metadata.csv"
    first = pd.read_csv(path)
    pd.read_csv(path).assign(verdict=list("abcdef")).to_csv(path, index=False)
    main(flags)
    again = pd.read_csv(path)
    assert list(again["verdict"]) == list("abcdef")
    pd.testing.assert_frame_equal(again.drop(columns="verdict"), first)


def test_attributes_the_labeler_does_not_know_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = save_folder(tmp_path / "data", attributes=("Male", "Square"))
    flags = tiny_flags(data, save_generator(tmp_path / "generator"), tmp_path / "out")
    main([*flags, "--study.seeds=1"])
    printed = capfd.readouterr().out
    assert "does not know Square" in printed
    assert "one seed, so no interval" in printed
    assert "nan" not in printed
