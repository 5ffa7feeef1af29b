"""The command of `generate`: what it writes, with what, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from augment_doubles import tiny_unet
from PIL import Image
from torch import Tensor

from augment import L1, Boost, Denoiser, ImageFormat, Schedule, SelfGuidance, load_denoiser, sample
from augment.pretrained import save_pipeline
from recipes import generate, score, upsample
from recipes.chain.command.command_line import run
from recipes.generate import main

FAST = ["--sampler.steps", "4", "--accelerator", "cpu", "--devices", "1"]


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    image = ImageFormat(channels=3, size=8)
    save_pipeline(Denoiser(tiny_unet(), Schedule.cosine(), image), tmp_path / "model", card={})
    return tmp_path / "model"


def _run(generator: Path, name: str, *arguments: str, seeds: int = 2) -> dict[str, Any]:
    """The record of the folder that the command wrote beside the generator."""
    out = generator.parent / name
    words = [str(generator), "--out", str(out), "--seeds", str(seeds), *FAST, *arguments]
    run(lambda: main(words))
    record: dict[str, Any] = json.loads((out / "settings.json").read_text())
    return record


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_it_writes_the_samples_of_the_settings(generator: Path) -> None:
    arguments = ("--guidance.every", "2", "--guidance.distance", "l1", "--first_seed", "3")
    record = _run(generator, "new", *arguments)
    guidance = SelfGuidance(every=2, distance=L1())
    assert record["guidance"] == repr(guidance)
    expected = sample(load_denoiser(generator), [3, 4], steps=4, guidance=guidance)
    for seed, image in zip((3, 4), expected, strict=True):
        found = _pixels(generator.parent / "new" / f"{seed}.png")
        assert np.array_equal(found, image.permute(1, 2, 0).numpy())


def test_guidance_of_no_strength_is_plain_sampling(generator: Path) -> None:
    assert _run(generator, "plain", "--guidance.scale", "0")["guidance"] is None
    assert _run(generator, "none", "--guidance.budget", "0")["guidance"] is None
    assert "budget=0.4" in _run(generator, "budget", "--guidance.budget", "0.4")["guidance"]


def test_more_seeds_extend_a_folder_and_other_settings_are_refused(generator: Path) -> None:
    _run(generator, "new")
    first = (generator.parent / "new" / "0.png").stat().st_mtime_ns
    _run(generator, "new", seeds=4)
    assert (generator.parent / "new" / "3.png").is_file()
    assert (generator.parent / "new" / "0.png").stat().st_mtime_ns == first
    with pytest.raises(SystemExit, match=r"^error: .* holds results of another run"):
        _run(generator, "new", "--guidance.scale", "0.5")


def test_an_image_or_a_folder_of_them_is_edited(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "refs").mkdir()
    for name, level in (("a", 250), ("b", 5)):
        Image.new("RGB", (20, 12), (level,) * 3).save(tmp_path / "refs" / f"{name}.png")
    record = _run(generator, "edits", "--edit", str(tmp_path / "refs"), "--strength", "0", seeds=4)
    assert record["edit"].startswith("Edit(references='")
    levels = [_pixels(generator.parent / "edits" / f"{seed}.png").mean() for seed in range(4)]
    assert [level > 127 for level in levels] == [True, False, True, False]
    one = _run(generator, "one", "--edit", str(tmp_path / "refs" / "b.png"))
    assert one["edit"] != record["edit"]
    with pytest.raises(SystemExit, match=r"^error: edit .*gone.png is missing; give an image or a"):
        _run(generator, "new", "--edit", str(tmp_path / "gone.png"))
    with pytest.raises(SystemExit, match=r"^error: edit strength is 2.0; give 0 "):
        _run(generator, "new", "--edit", str(tmp_path / "refs"), "--strength", "2")


def test_noise_is_boosted_by_the_papers_settings_or_others(generator: Path) -> None:
    plain, steps = ("--guidance.scale", "0"), ("--sampler.steps", "20")
    assert _run(generator, "boost", *plain, *steps, "--boost", "{}")["boost"] == repr(Boost())
    record = _run(generator, "less", *plain, *steps, "--boost", "{gamma: 2.5}")
    assert record["boost"] == repr(Boost(gamma=2.5))
    with pytest.raises(SystemExit, match=r"^error: .*edit x is given beside boost"):
        _run(generator, "new", "--edit", "x", "--boost", "{}")


def test_only_train_images_are_edited(generator: Path, tmp_path: Path) -> None:
    for name, level in (("a", 250), ("b", 5)):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / f"{name}.png")
    (tmp_path / "metadata.csv").write_text("file_name,split\na.png,test\nb.png,train\n")
    record = _run(generator, "folder", "--edit", str(tmp_path))
    assert record["edit"] == _run(generator, "b", "--edit", str(tmp_path / "b.png"))["edit"]
    (tmp_path / "metadata.csv").write_text("file_name,split\na.png,test\n")
    with pytest.raises(SystemExit, match=r"^error: .* has no train row, and no other may"):
        _run(generator, "new", "--edit", str(tmp_path))


class _Brightness(torch.nn.Module):
    """A classifier of noised images: class 1 is the brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.card = {"bright": 2}, {"sha256": "0123456789abcdef"}
        self.image, self.schedule = ImageFormat(channels=3, size=8), Schedule.cosine()

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3))[:, None] * torch.tensor([[-1.0, 1.0]])


def test_a_classifier_is_added_to_self_guidance_or_stands_alone(
    generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {Path("brightness"): _Brightness()}
    monkeypatch.setattr("recipes.generate.load_noised_classifier", known.__getitem__)
    arguments = ("--classifier.source", "brightness", "--classifier.target")
    both = _run(generator, "both", *arguments, "1", "--classifier.scale", "3")["guidance"]
    assert both.startswith("SelfGuidance(")
    assert both.endswith("target=1, scale=3.0)")
    alone = _run(generator, "alone", *arguments, "1", "--guidance.scale", "0")["guidance"]
    assert alone.startswith("ClassifierGuidance(")
    with pytest.raises(SystemExit, match=r"^error: classifier.target is 2; give one of its"):
        _run(generator, "new", *arguments, "2")


def test_every_rival_is_a_few_lines_of_yaml(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for level in range(0, 256, 51):
        Image.new("RGB", (8, 8), (level, 255 - level, 0)).save(tmp_path / "real" / f"{level}.png")
    terms = {
        "low_density": {"images": str(tmp_path / "real"), "alpha": 0.2},
        "jacobian": {"encoder": "activations", "rank": 2, "every": 2},
        "particles": {"group": 2},
    }
    config = tmp_path / "rivals.yaml"
    config.write_text(json.dumps({"guidance": {"scale": 0}, **terms}))
    record = _run(generator, "rivals", "--config", str(config))["guidance"]
    hardness, jacobian, particles = record.split(" + ")
    assert hardness.startswith("HardnessAscent(hardness=hardness('")
    assert hardness.endswith("scale=0.2)")
    assert "rank=2" in jacobian
    assert "group=2" in particles
    smooth = _run(generator, "unsure", "--uncertainty", "{}", "--labeler", "avatars")["guidance"]
    assert "UncertaintyGuidance(" in smooth
    for words, message in (
        (["--jacobian", "{}", "--labeler", "avatars"], "is of ReLU and linear layers alone"),
        (["--jacobian", "{}"], "labeler is None; uncertainty and jacobian go through one"),
        (["--labeler", "avatars"], "and no guidance goes through it; give uncertainty"),
        (["--low_density", "{}"], "low_density has no images, data or discriminator; give one"),
    ):
        with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
            _run(generator, "new", *words)
        assert not (generator.parent / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "seeds is 0 and first_seed 0; give 1 to 10,000,000 images"),
        (["--first_seed", "-1"], "first_seed -1"),
        (["--sampler.steps", "1001"], "give 1 to 1000 steps"),
        (
            ["--guidance.perturb", "1"],
            "guidance.perturb is 1.0; give a fraction of the steps",
        ),
        (["--guidance.distance", "cosine"], "guidance.distance"),
        (["--accelerator", "tpu"], "devices is 1 with accelerator tpu"),
        (["--devices", "many"], "devices is 'many' with accelerator cpu"),
        # Options that would do nothing:
        (["--strength", "0.3"], "strength is 0.3 without an edit; give --edit, or leave it out"),
        (["--classifier.target", "1"], "classifier.target is 1 and classifier.scale 1.0 without"),
        (
            ["--classifier.scale", "3"],
            "classifier.scale 3.0 without a classifier; give classifier.so",
        ),
    ],
)
def test_bad_input_is_one_line(generator: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        _run(generator, "new", *arguments)
    assert str(ended.value).startswith("error: ")
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)
    assert not (generator.parent / "new").exists()


@pytest.mark.parametrize("command", [generate, upsample, score], ids=lambda c: c.__name__)
def test_help_names_every_flag(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help", "all"])
    assert ended.value.code == 0
    group = "--score.samples" if command is score else "--sampler.solver"
    shown = capsys.readouterr().out
    for text in ("--out", group, "Number of devices, or auto"):
        assert text in shown


def test_the_file_is_a_command_that_refuses_in_one_line(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    root = Path(__file__).parents[1]
    words = [str(generator), "--seeds", "1", *FAST, "--out", str(tmp_path / "file" / "below")]
    done = subprocess.run(
        [sys.executable, str(root / "recipes" / "generate.py"), *words],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith("below is a file or lies below one; give a folder")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"
