"""Image files as tensors: crop, resize and modes, of whatever the reader gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augment.images import ImageFiles, centre_crop, pixels_sha256


def _save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


RANDOM = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def test_an_image_of_the_right_size_comes_through_untouched(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", RANDOM)
    image = ImageFiles([path], Image.open, size=8, channels=3)[0]
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), RANDOM)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centred_square_is_kept(tmp_path: Path, axis: int) -> None:
    borders = np.zeros((8, 4, 3), dtype=np.uint8)
    pixels = np.concatenate([borders, RANDOM, borders], axis=1)
    pixels = pixels.swapaxes(0, 1) if axis else pixels
    image = ImageFiles([_save(tmp_path / "a.png", pixels)], Image.open, size=8, channels=3)[0]
    inner = RANDOM.swapaxes(0, 1) if axis else RANDOM
    assert np.array_equal(image.permute(1, 2, 0).numpy(), inner)


def test_a_constant_image_stays_constant_at_any_size(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.full((9, 17, 3), 77, dtype=np.uint8))
    image = ImageFiles([path], Image.open, size=32, channels=3)[0]
    assert torch.equal(image, torch.full((3, 32, 32), 77, dtype=torch.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_become_the_channels_asked_for(
    tmp_path: Path, mode: str, channels: int
) -> None:
    path = _save(tmp_path / "a.png", RANDOM, mode)
    assert ImageFiles([path], Image.open, size=8, channels=channels)[0].shape == (channels, 8, 8)


def test_grey_is_luminance(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[..., 1] = 100
    image = ImageFiles([_save(tmp_path / "a.png", pixels)], Image.open, size=8, channels=1)[0]
    assert image.unique().tolist() == [59]  # ITU-R 601: .587 of green.


def test_stack_is_every_image_in_order(tmp_path: Path) -> None:
    paths = [_save(tmp_path / f"{i}.png", np.full((4, 4, 3), i, np.uint8)) for i in range(3)]
    stacked = ImageFiles(paths, Image.open, size=4, channels=3).stack()
    assert stacked.shape == (3, 3, 4, 4)
    assert stacked.amax(dim=(1, 2, 3)).tolist() == [0, 1, 2]


def test_some_of_the_files_are_read_by_their_positions_and_hashed_as_one_tensor_is(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    paths = [
        _save(tmp_path / f"{i}.png", rng.integers(0, 256, (4, 4, 3), np.uint8)) for i in range(65)
    ]
    files = ImageFiles(paths, Image.open, size=4, channels=1)
    every = files.stack()
    assert files.shape == every.shape == (65, 1, 4, 4)
    assert torch.equal(files[torch.tensor([64, 2])], every[[64, 2]])
    assert pixels_sha256(files) == hashlib.sha256(every.numpy().tobytes()).hexdigest()


def test_the_reader_is_asked_for_the_path_when_the_image_is(tmp_path: Path) -> None:
    asked = []

    def read(path: str) -> Image.Image:
        asked.append(path)
        return Image.new("L", (9, 9), 7)

    files = ImageFiles([tmp_path / "a", "b"], read, size=4, channels=3)
    assert not asked
    assert files[1].unique().tolist() == [7]
    assert asked == ["b"]
    with pytest.raises(ValueError, match=r"^channels is 2; give 1 for grey images or 3 for RGB$"):
        ImageFiles(["b"], read, size=4, channels=2)


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (12, 9), (5, 8)])
def test_the_crop_halves_then_resizes_then_cuts(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    found = centre_crop(image, 8)
    assert found.size == (8, 8)
    naive = image
    for _ in range({30: 1}.get(min(size), 0)):
        naive = naive.resize((naive.width // 2, naive.height // 2), Image.Resampling.BOX)
    short = min(naive.size)
    naive = naive.resize(
        (round(naive.width * 8 / short), round(naive.height * 8 / short)), Image.Resampling.BICUBIC
    )
    array = np.asarray(naive)
    top, left = (array.shape[0] - 8) // 2, (array.shape[1] - 8) // 2
    np.testing.assert_array_equal(np.asarray(found), array[top : top + 8, left : left + 8])
