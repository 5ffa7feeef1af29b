"""The commands that train a generator and a noised classifier, from a folder of images on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from augment import load_denoiser, load_noised_classifier
from recipes import generate, train_generator, train_noised_classifier
from recipes.chain.settings.targets import plan_bits
from recipes.chain.training import cells_as_names

GENERATOR = ["--network.size=8", "--network.widths=[8, 8]", "--network.attention_levels=[]"]
CLASSIFIER = ["--network.size=8", "--network.widths=[32, 32]", "--network.attention_levels=[]"]
STEPS = ["--training.steps=2", "--training.batch_size=2", "--accelerator=cpu", "--devices=1"]


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
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _generator(images, tmp_path / "out", "--network.channels=1")
    denoiser = load_denoiser(folder)
    assert denoiser.image.shape == (1, 8, 8)
    assert (denoiser.card["images"], denoiser.card["trained_on"]) == (6, "images")
    assert str(tmp_path) not in (folder / "card.json").read_text()
    (images / "metadata.csv").unlink()
    capsys.readouterr()
    folder = _generator(images, tmp_path / "all")
    assert load_denoiser(folder).card["images"] == 8
    line = capsys.readouterr().out.splitlines()[-1]  # there are no labels for a study
    assert line == f"python recipes/generate.py {folder} --out {tmp_path / 'all' / 'images'}"


def test_another_set_of_images_in_the_same_folder_is_refused(images: Path, tmp_path: Path) -> None:
    (images / "metadata.csv").unlink()
    card = (_generator(images, tmp_path / "out") / "card.json").read_bytes()
    (images / "0.png").unlink()
    with pytest.raises(ValueError, match=r"other images; give .* another --out"):
        _generator(images, tmp_path / "out")
    assert (tmp_path / "out" / "generator" / "card.json").read_bytes() == card


def test_a_classifier_is_trained_on_the_train_rows_that_have_a_value(
    images: Path, tmp_path: Path
) -> None:
    folder = _classifier(images, tmp_path / "out")
    card = json.loads((folder / "card.json").read_text())
    assert (card["heads"], card["images"]) == ({"Bright": ["0", "1", "10"]}, 5)
    assert card["trained_on"] == "images"
    assert str(tmp_path) not in json.dumps(card)
    assert sum(load_noised_classifier(folder).heads.values()) == 3


def test_several_columns_are_heads_of_one_classifier_that_steers_by_the_images_seeds(
    images: Path, tmp_path: Path
) -> None:
    _write(
        images,
        split=["train"] * 8,
        Hat=["1", "", "0", "1", "", "0", "1", ""],
        Bald=["0", "1", "", "1", "", "0", "1", ""],
    )
    words = [str(images), "Hat", "Bald", f"--out={tmp_path / 'out'}"]
    folder = train_noised_classifier.main([*words, *CLASSIFIER, *STEPS])
    classifier = load_noised_classifier(folder)
    assert classifier.heads == {"Hat": 2, "Bald": 2}
    assert classifier.card["images"] == 6  # those with a value of either
    made = _generator(images, tmp_path / "made")
    flags = ["--seeds=2", "--sampler.steps=2", "--accelerator=cpu", "--devices=1"]
    guided = ["--guidance.scale=0", f"--classifier.source={folder}"]
    out = generate.main([str(made), f"--out={tmp_path / 'bits'}", *flags, *guided])
    record = json.loads((out / "settings.json").read_text())["guidance"]
    assert plan_bits(["Hat", "Bald"]).identity in record
    one = [f"--out={tmp_path / 'one'}", "--classifier.target=1"]
    with pytest.raises(ValueError, match=r"^the classifier has 2 heads, the model no classes, and"):
        generate.main([str(made), *one, *flags, *guided])


def test_a_generator_starts_from_another_at_any_size_and_the_last_line_is_the_next_command(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _generator(images, tmp_path / "first")
    assert "8 images are few" not in capsys.readouterr().out
    words = [str(images), f"--out={tmp_path / 'second'}", f"--start={first}", *STEPS]
    folder = train_generator.main([*words, "--network.size=16"])
    denoiser = load_denoiser(folder)
    assert denoiser.image.shape == (3, 16, 16)
    assert denoiser.card["start_sha256"] == load_denoiser(first).card["sha256"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"python recipes/celeba_augment.py --data {images} --generator {folder}"
    for flag, message in (
        ("--network.channels=1", r"network.channels is 1, but .* its own network, of 3 channels;"),
        ("--network.widths=[8, 8]", r"network.widths is \(8, 8\), but .* leave it out"),
    ):
        with pytest.raises(ValueError, match=message):
            train_generator.main([*words, flag])


def test_few_images_are_better_learned_from_another_generator(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _generator(images, tmp_path / "out")
    told = "6 images are few to start from random weights: stop this, and give --start avatars-32"
    assert told in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"other start; give the same .*, or another --out$"):
        train_generator.main(
            [str(images), f"--out={tmp_path / 'out'}", "--start=avatars-32", *STEPS]
        )


def test_columns_become_classes_and_their_combinations(images: Path, tmp_path: Path) -> None:
    _write(images, split=["train"] * 8, Bright=list("01010101"), Kind=list("aabbaab") + [""])
    folder = _generator(images, tmp_path / "one", "--classes", "Kind")
    assert load_denoiser(folder).card["classes"] == ["a", "b"]
    both = load_denoiser(_generator(images, tmp_path / "two", "--classes", "Bright", "Kind"))
    names = [f"Bright={bright},Kind={kind}" for bright in "01" for kind in "ab"]
    assert (both.card["classes"], both.classes, both.null_class) == (names, 4, 4)
    made = generate.main(
        [str(tmp_path / "two" / "generator"), f"--out={tmp_path / 'made'}", "--seeds=3"]
        + ["--sampler.steps=2", "--sampler.label=2", "--sampler.class_scale=2"]
        + ["--guidance.scale=0", "--accelerator=cpu", "--devices=1"]
    )
    assert list(pd.read_csv(made / "metadata.csv")["class_label"]) == [2, 2, 2]
    with pytest.raises(
        ValueError, match="has no column Hat; it has file_name, split, Bright, Kind"
    ):
        _generator(images, tmp_path / "none", "--classes", "Hat")


def test_sigterm_saves_says_one_line_and_the_same_command_continues(
    images: Path, tmp_path: Path
) -> None:
    root = Path(__file__).parents[1]
    words = [sys.executable, "-u", str(root / "recipes" / "train_generator.py"), str(images)]
    words += [f"--out={tmp_path / 'out'}", *GENERATOR, *STEPS[1:]]
    words = [*words, "--training.steps=5000"]
    log = tmp_path / "stderr"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            words, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if "more steps take about" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    text = log.read_text()
    assert text.strip().splitlines()[-1] == "stopped by SIGTERM; the same command continues"
    assert not any(word in text for word in ("Traceback", "GPU available", "Tip:"))
    state = torch.load(tmp_path / "out" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 12 <= state["global_step"] < 500  # 500 is when the first one is due


def test_cells_are_names_whatever_pandas_read_them_as() -> None:
    for column in ([1.0, None, 0.0], ["1.0", "", " 0"], [1, pd.NA, 0]):
        assert list(cells_as_names(pd.Series(column))) == ["1", "", "0"]
    assert list(cells_as_names(pd.Series(["night", "1.50"]))) == ["night", "1.50"]


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
    known = "file_name, split, Bright"
    with pytest.raises(ValueError, match=f"has no column Bald; give one of {known}"):
        _classifier(images, out, column="Bald")
    with pytest.raises(ValueError, match="split has 1 classes in the training images"):
        _classifier(images, out, column="split")
    _write(images, split=["test"] * 8)
    with pytest.raises(ValueError, match="has no train row, and no other may be learned from"):
        _generator(images, out)
    for command in (train_generator, train_noised_classifier):
        with pytest.raises(ValueError, match="required"):
            command.main([])
    assert not out.exists()


def test_the_command_itself_ends_without_a_traceback(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "recipes" / "train_generator.py"), str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {tmp_path / 'none'} ")
