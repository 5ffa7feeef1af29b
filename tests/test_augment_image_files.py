"""Image files as tensors: crop, resize, modes, and what does not decode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from augment.image_files import ImageFiles, find_images


def _save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


RANDOM = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_comes_through_untouched(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", RANDOM)
    image = ImageFiles([path], size=8, channels=3)[0]
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), RANDOM)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centred_square_is_kept(tmp_path: Path, axis: int) -> None:
    borders = np.zeros((8, 4, 3), dtype=np.uint8)
    pixels = np.concatenate([borders, RANDOM, borders], axis=1)
    pixels = pixels.swapaxes(0, 1) if axis else pixels
    image = ImageFiles([_save(tmp_path / "a.png", pixels)], size=8, channels=3)[0]
    inner = RANDOM.swapaxes(0, 1) if axis else RANDOM
    assert np.array_equal(image.permute(1, 2, 0).numpy(), inner)


def test_a_constant_image_stays_constant_at_any_size(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.full((9, 17, 3), 77, dtype=np.uint8))
    image = ImageFiles([path], size=32, channels=3)[0]
    assert torch.equal(image, torch.full((3, 32, 32), 77, dtype=torch.uint8))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode_becomes_the_channels_asked_for(tmp_path: Path, mode: str, channels: int) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    path = _save(tmp_path / f"a{suffix}", RANDOM, mode)
    assert ImageFiles([path], size=8, channels=channels)[0].shape == (channels, 8, 8)


def test_grey_is_luminance(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[..., 1] = 100
    image = ImageFiles([_save(tmp_path / "a.png", pixels)], size=8, channels=1)[0]
    assert image.unique().tolist() == [59]  # ITU-R 601: .587 of green.


def test_stack_is_every_image_in_order(tmp_path: Path) -> None:
    paths = [_save(tmp_path / f"{i}.png", np.full((4, 4, 3), i, np.uint8)) for i in range(3)]
    stacked = ImageFiles(paths, size=4, channels=3).stack()
    assert stacked.shape == (3, 3, 4, 4)
    assert stacked.amax(dim=(1, 2, 3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("length", [0, 10, 60, 150])
def test_a_file_that_does_not_decode_is_named_in_one_line(tmp_path: Path, length: int) -> None:
    path = _save(tmp_path / "a.png", RANDOM)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.png does not decode as an image; repair it or take"):
        ImageFiles([path], size=8, channels=3)[0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused_not_cut_off(tmp_path: Path, dtype: type) -> None:
    path = _save(tmp_path / "a.tiff", RANDOM[..., 0].astype(dtype) * 200)
    with pytest.raises(ValueError, match=r"a\.tiff has pixels of mode .*; allowed are 8 bits a ch"):
        ImageFiles([path], size=8, channels=1)[0]


def test_a_folder_gives_its_images_and_those_below_sorted(tmp_path: Path) -> None:
    paths = [_save(tmp_path / name, RANDOM) for name in ("b.png", "a.JPG", "below/c.bmp")]
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images(tmp_path) == sorted(paths)


def test_a_table_gives_its_train_rows_alone(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        _save(tmp_path / "in" / name, RANDOM)
    table = pd.DataFrame({"file_name": ["in/c.png", "in/a.png"], "split": ["train", "val"]})
    table.to_csv(tmp_path / "metadata.csv", index=False)
    assert find_images(tmp_path) == [tmp_path / "in/c.png"]
    table.drop(columns="split").to_csv(tmp_path / "metadata.csv", index=False)
    assert find_images(tmp_path) == [tmp_path / "in/c.png", tmp_path / "in/a.png"]


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ("", ValueError, r"metadata\.csv is no table .*; repair it or take it out$"),
        ("name\na.png\n", ValueError, r"no column file_name, only name; add it"),
        ("file_name\na.png\nz.png\n", FileNotFoundError, r"^1 images .*the first .*z\.png; copy"),
        ("file_name,split\na.png,val\n", ValueError, r"holds no image; allowed are"),
        ("file_name\n../a.png\n", ValueError, r"\.\./a\.png.* leads out of the folder; "),
        ("file_name\n/a.png\n", ValueError, r"/a\.png.* leads out of the folder; "),
    ],
)
def test_a_table_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, table: str, kind: type[Exception], message: str
) -> None:
    _save(tmp_path / "in" / "a.png", RANDOM)
    _save(tmp_path / "a.png", RANDOM)  # What the climbing row would reach.
    (tmp_path / "in" / "metadata.csv").write_text(table)
    with pytest.raises(kind, match=message) as refusal:
        find_images(tmp_path / "in")
    assert "\n" not in str(refusal.value)


def test_a_missing_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; give a folder of images"):
        find_images(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image; allowed"):
        find_images(tmp_path)
