"""Upsampling from folder to folder: what the network is given, what is written, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from augment_doubles import TinyNetwork, class_denoiser, tiny_denoiser
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from augment import (
    Denoiser,
    ImageFormat,
    SamplerConfig,
    Schedule,
    SelfGuidance,
    generate,
    upsample,
)
from augment.noise import REVERSE, UPSAMPLING, NoiseStream, derived_seeds
from augment.pretrained import Upsampler
from augment.upsample import _SmallImages

SAMPLER = SamplerConfig(steps=4, batch_size=3)
IMAGE = ImageFormat(channels=1, size=16)


class Enlarging(nn.Module):
    """The noise that leaves the enlarged small image, seen beside the noisy one."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.alpha_bar = torch.tensor(schedule.alpha_bar)
        self.labels: list[list[int]] = []
        self.starts: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            self.labels.append(labels.tolist())
        if int(t[0]) == 999:
            self.starts.append(x[:, :1].clone())
        noisy, enlarged = x.chunk(2, dim=1)
        alpha_bar = self.alpha_bar[t].reshape(-1, 1, 1, 1).float()
        return (noisy - alpha_bar.sqrt() * enlarged) / (1 - alpha_bar).sqrt()


def _enlarging(classes: int | None = None) -> Upsampler:
    schedule = Schedule.linear()
    return Upsampler(Denoiser(Enlarging(schedule), schedule, IMAGE, classes=classes))


def _random() -> Upsampler:
    return Upsampler(Denoiser(TinyNetwork(2, 1), Schedule.linear(), IMAGE))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    sampler = SamplerConfig(steps=5, batch_size=8)
    denoiser = tiny_denoiser(channels=1)
    generate(denoiser, [5, 2, 9, 4], tmp_path / "small", sampler=sampler, guidance=SelfGuidance())
    return tmp_path / "small"


def _pixels(folder: Path, seed: int) -> np.ndarray:
    with Image.open(folder / f"{seed}.png") as image:
        return np.asarray(image, dtype=int)


def _hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.png")}


def test_each_image_is_made_beside_its_own_small_one(small: Path, tmp_path: Path) -> None:
    table = upsample(_enlarging(), small, tmp_path / "large", sampler=SAMPLER)
    for seed in (5, 2, 9, 4):
        x = torch.tensor(_pixels(small, seed) / 127.5 - 1)[None, None]
        enlarged = interpolate(x, (16, 16), mode="bilinear")[0, 0]
        expected = ((enlarged + 1) * 127.5).numpy()
        assert np.abs(_pixels(tmp_path / "large", seed) - expected).max() <= 1.01  # Truncated.
    assert [Path(path).name for path in table["path"]] == ["5.png", "2.png", "9.png", "4.png"]
    assert len({_pixels(tmp_path / "large", seed).tobytes() for seed in (5, 2, 9, 4)}) == 4


def test_rows_keep_what_the_small_images_were_given(small: Path, tmp_path: Path) -> None:
    labelled = pd.read_csv(small / "metadata.csv", dtype=str).assign(Bald=["1", "0", "", "1"])
    labelled.to_csv(small / "metadata.csv", index=False)
    upsample(_enlarging(), small, tmp_path / "large", sampler=SAMPLER)
    written = pd.read_csv(tmp_path / "large" / "metadata.csv", dtype=str)
    pd.testing.assert_frame_equal(written, pd.read_csv(small / "metadata.csv", dtype=str))
    assert set(written["sampler"]) == {"self-guided"}


def test_it_draws_noise_of_its_own_by_the_seed_alone(small: Path, tmp_path: Path) -> None:
    upsampler = _enlarging()
    upsample(upsampler, small, tmp_path / "large", sampler=SAMPLER)
    found = torch.cat(upsampler.denoiser.network.starts)
    seeds = derived_seeds([5, 2, 9, 4], UPSAMPLING)
    expected = NoiseStream(seeds, REVERSE, (1, 16, 16), torch.device("cpu")).draw()
    assert torch.equal(found, expected)
    of_small = NoiseStream([5, 2, 9, 4], REVERSE, (1, 8, 8), torch.device("cpu")).draw()
    assert not np.intersect1d(found.numpy(), of_small.numpy()).size
    upsample(_random(), small, tmp_path / "a", sampler=SAMPLER)
    upsample(_random(), small, tmp_path / "b", sampler=SamplerConfig(steps=4, batch_size=1))
    for seed in (5, 2, 9, 4):
        difference = _pixels(tmp_path / "a", seed) - _pixels(tmp_path / "b", seed)
        assert np.abs(difference).max() <= 1


def test_a_run_taken_up_again_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    upsample(_random(), small, tmp_path / "large", sampler=SAMPLER)
    whole = _hashes(tmp_path / "large")
    (tmp_path / "large" / "2.png").unlink()
    (tmp_path / "large" / "9.png").write_bytes(b"cut")
    upsampler = _random()
    upsample(upsampler, small, tmp_path / "large", sampler=SAMPLER)
    assert _hashes(tmp_path / "large") == whole
    assert upsampler.denoiser.network.forwards == 4  # One block of the two.
    with pytest.raises(ValueError, match=r"another run \(steps 4, now 5\); give another folder$"):
        upsample(_random(), small, tmp_path / "large", sampler=SamplerConfig(steps=5))
    record = json.loads((small / "settings.json").read_text())
    (small / "settings.json").write_text(json.dumps({**record, "guidance": "another"}))
    with pytest.raises(ValueError, match=r"another run \(small "):
        upsample(_random(), small, tmp_path / "large", sampler=SAMPLER)


def test_the_class_of_the_small_image_is_that_of_the_large(tmp_path: Path) -> None:
    table = generate(class_denoiser(), range(4), tmp_path / "small", sampler=SAMPLER)
    upsampler = _enlarging(classes=4)
    upsample(upsampler, tmp_path / "small", tmp_path / "large", sampler=SAMPLER)
    labels = table["class_label"].tolist()
    assert upsampler.denoiser.network.labels == [labels[:3]] * 4 + [labels[3:]] * 4
    with Image.open(tmp_path / "large" / "3.png") as image:
        image.load()
        assert json.loads(image.text["class_label"]) == labels[3]  # type: ignore[attr-defined]
    asked = _enlarging(classes=4)
    sampler = SamplerConfig(steps=2, batch_size=4, label=2)
    upsample(asked, tmp_path / "small", tmp_path / "asked", sampler=sampler)
    assert asked.denoiser.network.labels == [[2] * 4] * 2
    with pytest.raises(ValueError, match="is no class of the model; give one of 0 to 1"):
        upsample(_enlarging(classes=2), tmp_path / "small", tmp_path / "new", sampler=SAMPLER)
    assert not (tmp_path / "new").exists()


def test_classes_and_seeds_may_have_become_floats_but_not_be_missing(tmp_path: Path) -> None:
    """So does pandas write a column that once had a gap."""
    generate(class_denoiser(), range(4), tmp_path, sampler=SAMPLER)
    table = pd.read_csv(tmp_path / "metadata.csv")
    labels = table["class_label"].tolist()
    floats = table.astype({"class_label": float, "seed": float})
    floats.to_csv(tmp_path / "metadata.csv", index=False)
    found = _SmallImages.read(tmp_path)
    assert (found.seeds, found.labels()) == ([0, 1, 2, 3], labels)
    floats.loc[2, "class_label"] = float("nan")
    floats.to_csv(tmp_path / "metadata.csv", index=False)
    with pytest.raises(
        ValueError,
        match=r"is not a class for every image \('' is not a whole number\).* give sampler\.label",
    ):
        _SmallImages.read(tmp_path).labels()


def test_what_cannot_be_enlarged_is_refused_before_a_folder_is_made(
    small: Path, tmp_path: Path
) -> None:
    def refusal(kind: type[Exception], upsampler: Upsampler, **changes: int) -> str:
        sampler = SamplerConfig(**{"steps": 4, **changes})  # type: ignore[arg-type]
        with pytest.raises(kind) as refused:
            upsample(upsampler, small, tmp_path / "large", sampler=sampler)
        assert not (tmp_path / "large").exists()
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "has no column class_label; give sampler.label" in refusal(ValueError, _enlarging(4))
    assert "give 1 to 1000 steps" in refusal(ValueError, _enlarging(), steps=1001)
    assert "is unconditional" in refusal(ValueError, _enlarging(), label=1)
    narrow = Denoiser(TinyNetwork(2, 1), Schedule.linear(), ImageFormat(channels=1, size=8))
    assert "holds images of 8 pixels, and the upsampler makes 8; give smaller" in refusal(
        ValueError, Upsampler(narrow)
    )
    (small / "9.png").unlink()
    assert "1 images of" in refusal(FileNotFoundError, _enlarging())
    table = pd.read_csv(small / "metadata.csv")
    table.drop(columns="seed")[:2].to_csv(small / "metadata.csv", index=False)
    assert "has no seed of its own for every image" in refusal(ValueError, _enlarging())
    (small / "metadata.csv").unlink()
    assert "metadata.csv is missing" in refusal(FileNotFoundError, _enlarging())
    (small / "settings.json").unlink()
    assert "settings.json is missing; give a folder" in refusal(FileNotFoundError, _enlarging())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("settings.json", b'{"image": [1, 8', r"settings\.json is damaged or not a record"),
        ("settings.json", b"{}", r"has no seed of its own for every image, or not their size"),
        ("metadata.csv", b"", r"metadata\.csv is not a table \("),
        ("metadata.csv", b"file_name,seed\n5.png,5", r"metadata\.csv is cut off; repair it"),
        ("metadata.csv", b"file_name,seed\n5.png,5\n5.png,5\n", r"seed 5 is given twice"),
        ("metadata.csv", b"file_name,seed\n../5.png,5\n", r"names \.\./5\.png beside seed 5; give"),
        ("5.png", b"cut", r"5\.png is damaged; delete it and generate again"),
    ],
)
def test_a_damaged_file_of_the_small_images_is_named(
    small: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (small / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        upsample(_enlarging(), small, tmp_path / "large", sampler=SAMPLER)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "large").glob("*.png"))
