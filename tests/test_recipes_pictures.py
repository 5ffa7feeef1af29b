"""Pictures of any kind through the whole chain: large, oblong, transparent, grey from one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from recipe_doubles import SPLITS, digests, save_folder, save_generator, tiny_flags

from classify import load_table
from classify.datasets.medmnist import CHEST_FINDINGS
from recipes.celeba_augment import main
from recipes.chain.command.command_line import run

SHORT = ["--study.seeds=1", "--arms=[real,plain,minority]", "--num_synthetic=4"]


def check(out: Path, size: int, mode: str, sets: Sequence[str] = ("plain", "minority")) -> None:
    """A study with every arm, and images as the generator makes them."""
    scores = pd.read_csv(out / "scores.csv")
    assert set(scores["arm"]) == {"real", *sets}
    for name in sets:
        table = load_table(out / "synthetic" / name)
        assert len(table) == 4
        with Image.open(table["path"].iloc[0]) as image:
            assert (image.mode, image.size) == (mode, (size, size))


def test_images_of_256_pixels(tmp_path: Path) -> None:
    splits = ("train",) * 6 + ("val",) * 4 + ("test",) * 4
    data = save_folder(tmp_path / "data", size=256, splits=splits)
    generator = save_generator(tmp_path / "generator", size=256)
    flags = [*tiny_flags(data, generator, tmp_path / "out"), *SHORT, "--arms=[real,plain]"]
    main([*flags, "--sampler.steps=2", "--train.workers=1"])
    check(tmp_path / "out", 256, "RGB", sets=["plain"])
    assert not list((tmp_path / "out").rglob("pixels.npy"))  # a stream is not kept


def test_images_that_are_oblong_transparent_or_of_16_bits(tmp_path: Path) -> None:
    data = save_folder(tmp_path / "data", size=40)
    for number, file in enumerate(sorted((data / "images").iterdir())):
        with Image.open(file) as image:
            box = (0, 0, 40, 24) if number % 2 else (0, 0, 18, 40)
            part = image.crop(box).convert(("RGB", "RGBA", "L")[number % 3])
        if part.mode == "L":
            part = Image.fromarray(257 * np.asarray(part, np.uint16))
            assert part.mode == "I;16"
        part.save(file)
    generator = save_generator(tmp_path / "generator", size=16)
    main([*tiny_flags(data, generator, tmp_path / "out"), *SHORT])
    check(tmp_path / "out", 16, "RGB")


def test_chestmnist_is_one_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        count = SPLITS.count(split)
        labels = (np.arange(count)[:, None] + np.arange(14)) % 2
        noise = rng.integers(0, 100, (count, 28, 28)) + 150 * labels[:, :1, None]
        arrays |= {f"{split}_images": noise.astype(np.uint8), f"{split}_labels": labels}
    np.savez_compressed(tmp_path / "chestmnist.npz", **arrays)
    generator = save_generator(tmp_path / "generator", channels=1, size=16)
    main([*tiny_flags(tmp_path / "chestmnist.npz", generator, tmp_path / "out"), *SHORT])
    check(tmp_path / "out", 16, "L")
    assert set(CHEST_FINDINGS) < set(pd.read_csv(tmp_path / "out" / "scores.csv")["attribute"])


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_file_of_another_kind_writes_nothing(tmp_path: Path, content: bytes | None) -> None:
    generator = save_generator(tmp_path / "generator", channels=1)
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    before = digests(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: .*a\.npz.*MedMNIST") as ended:
        run(lambda: main(tiny_flags(tmp_path / "a.npz", generator, tmp_path / "out")))
    assert "\n" not in str(ended.value)
    assert digests(tmp_path) == before
