"""A labeler trained by a recipe: what its folder is for, and what the rest of a run makes of it."""

from __future__ import annotations

import json
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from recipe_doubles import digests, save_folder, save_generator, tiny_flags
from safetensors.torch import load_file, save_file

import recipes.chain.labels.labeler
from classify import FitConfig, load_table
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


def test_the_command_says_how_good_the_labeler_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = save_folder(tmp_path / "data"), tmp_path / "out"
    flags = ["--attributes", "Smiling", "--half", "--licence", "CC0", "--seed", "1"]
    train_labeler.main([str(data), "--out", str(out), *FAST, *flags])
    assert f"{out}: macro F1 " in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["attributes"] == ["Smiling"]
    assert card["licence"] == "CC0"
    metrics = {"f1", "precision", "recall", "average_precision"}
    assert set(card["scores"]["Smiling"]) == metrics
    weights = load_file(out / "model.safetensors").values()
    assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float16}
    names = sorted(file.name for file in out.iterdir())
    assert names == ["card.json", "log", "model.safetensors", "training.json"]


def test_bad_images_are_left_out_only_if_asked_for(tmp_path: Path) -> None:
    data, out = save_folder(tmp_path / "data"), tmp_path / "out"
    (data / "images" / "000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"000\.png does not decode"):
        train_labeler.main([str(data), "--out", str(out), *FAST])
    train_labeler.main([str(data), "--out", str(out), *FAST, "--skip_bad"])


def test_soft_labels_are_taken_if_asked_for(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    table = pd.read_csv(data / "metadata.csv").astype({"Male": float})
    table.loc[[0, 1], "source"], table.loc[[0, 1], "Male"] = "synthetic", 0.25
    table.to_csv(data / "metadata.csv", index=False)
    out = str(tmp_path / "out")
    with pytest.raises(ValueError, match=r"0\.25"):
        train_labeler.main([str(data), "--out", out, *FAST])
    train_labeler.main([str(data), "--out", out, *FAST, "--soft"])


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--train.epochs=2"], r"config\.epochs is 1 there and 2 now"),
        (
            ["--attributes", "Male"],
            r'attributes is \["Male", "Smiling"\] there and \["Male"\] now, '
            r'data is "\w+ there and "\w+ now',
        ),
        (["--seed=1"], "seed is 0 there and 1 now"),
    ],
)
def test_other_settings_are_refused(root: Path, flags: list[str], what: str) -> None:
    before = digests(root / "labeler")
    refusal = rf"training\.json is of other work: {what}; give another"
    with pytest.raises(ValueError, match=refusal):
        train_labeler.main([str(root / "data"), "--out", str(root / "labeler"), *FAST, *flags])
    assert digests(root / "labeler") == before


def test_the_state_of_a_fit_that_was_done_when_killed_is_removed(root: Path) -> None:
    state = root / "labeler" / "last.ckpt"
    state.touch()
    train_labeler.main([str(root / "data"), "--out", str(root / "labeler"), *FAST])
    assert not state.exists()


def test_other_labels_are_refused(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    table = pd.read_csv(data / "metadata.csv")
    table.assign(Male=1 - table["Male"]).to_csv(data / "metadata.csv", index=False)
    with pytest.raises(ValueError, match=r"of other work: data is .* give .* the same data"):
        train_labeler.main([str(data), "--out", str(root / "labeler"), *FAST])


def test_a_labeler_from_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "labeler", tmp_path / "labeler")
    (tmp_path / "labeler" / "training.json").unlink()
    with pytest.raises(ValueError, match=r"holds card\.json but no training\.json"):
        train_labeler.main([str(root / "data"), "--out", str(tmp_path / "labeler"), *FAST])


def test_no_data_is_one_line(tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=r"^[^\n]*none[^\n]*$"):
        train_labeler.main([str(tmp_path / "none"), "--out", str(tmp_path / "out"), *FAST])


def _slow(fabric: Fabric, data: Path, out: Path) -> None:
    """One process trains for longer than the process group's timeout, the other waits."""
    train = recipes.chain.labels.labeler.fit

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(4)
        return train(*args, **options)

    recipes.chain.labels.labeler.fit = slow
    torch.set_num_threads(1)
    labeler = recipes.chain.labels.labeler.train_labeler(
        load_table(data),
        ["Male"],
        out,
        config=FitConfig(epochs=1, rounds=1, architecture="shufflenet_v2_x0_5"),
        source="",
        licence="",
        command="",
        fabric=fabric,
    )
    (out.parent / f"{fabric.global_rank}").write_text(labeler.sha256)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_processes_wait_beyond_the_timeout(root: Path, tmp_path: Path) -> None:
    strategy = DDPStrategy(
        start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=3)
    )
    Fabric(accelerator="cpu", devices=2, strategy=strategy).launch(
        _slow,  # type: ignore[arg-type]
        root / "data",
        tmp_path / "labeler",
    )
    first, second = ((tmp_path / rank).read_text() for rank in "01")
    assert first == second != ""


def test_images_guided_by_other_weights_do_not_mix(root: Path, tmp_path: Path) -> None:
    labeler, out = shutil.copytree(root / "labeler", tmp_path / "labeler"), tmp_path / "out"
    few = ["--study.seeds=1", "--arms", "real", "minority"]
    flags = [*tiny_flags(root / "data", root / "generator", out), *few, f"--labeler={labeler}"]
    flags += ["--guidance.distance=features"]
    main(flags)
    record = json.loads((out / "synthetic" / "minority" / "settings.json").read_text())
    assert record["guidance"]["network"] == load_labeler(labeler).sha256
    (out / "synthetic" / "minority" / "1.png").unlink()
    weights = load_file(labeler / "model.safetensors")
    save_file({name: w * 1.01 for name, w in weights.items()}, labeler / "model.safetensors")
    with pytest.raises(ValueError, match="another run"):
        main(flags)


def test_what_the_user_added_to_the_table_stays(root: Path, tmp_path: Path) -> None:
    few = ["--study.seeds=1", "--arms", "real", "plain"]
    flags = [*tiny_flags(root / "data", root / "generator", tmp_path / "out"), *few]
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
    main([*flags, "--labeler=avatars", "--study.seeds=1", "--arms", "real", "plain"])
    printed = capfd.readouterr().out
    assert "does not know Square" in printed
    assert "one seed, so no interval" in printed
    assert "nan" not in printed
