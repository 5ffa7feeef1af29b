"""Decoding, the stream of batches and augmentation."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from classify import Augmentation, FitConfig, StageConfig, decode, decode_tables
from classify.augmentation import transform
from classify.data import FitData, Split, balanced, rows_by_value, stream


def _images(folder: Path, count: int = 5, size: tuple[int, int] = (12, 9)) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return paths


def test_decoding_is_pils_crop_and_resize(tmp_path: Path) -> None:
    paths = _images(tmp_path)
    Image.open(paths[1]).convert("L").save(paths[1])
    pixels, kept = decode(paths, 8)
    assert pixels.shape == (5, 3, 8, 8)
    assert pixels.dtype == torch.uint8
    assert kept.all()
    for path, image in zip(paths, pixels, strict=True):
        expected = ImageOps.fit(Image.open(path).convert("RGB"), (8, 8), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(expected))


def test_cache_gives_the_same_pixels_and_follows_the_files(tmp_path: Path) -> None:
    paths = _images(tmp_path)
    cache = tmp_path / "cache"
    plain, _ = decode(paths, 8)
    cached, _ = decode(paths, 8, cache=cache)
    assert torch.equal(cached, plain)
    (entry,) = cache.iterdir()
    written = os.stat(entry / "pixels.npy").st_mtime_ns
    decode(paths, 8, cache=cache)
    assert os.stat(entry / "pixels.npy").st_mtime_ns == written
    Image.new("RGB", (12, 9), "red").save(paths[0])
    os.utime(paths[0], ns=(1, 1))
    changed, _ = decode(paths, 8, cache=cache)
    assert (changed[0, 0] == 255).all()
    assert torch.equal(changed[1:], plain[1:])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("with_cache", [False, True])
def test_broken_image_is_an_error_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, with_cache: bool
) -> None:
    paths = _images(tmp_path)
    Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:60])
    cache = tmp_path / "cache" if with_cache else None
    with pytest.raises(ValueError, match=r"2\.png does not decode.*--skip_bad"):
        decode(paths, 8, cache=cache)
    with caplog.at_level(logging.WARNING):
        pixels, kept = decode(paths, 8, skip_bad=True, cache=cache)
    assert f"{paths[2]} does not decode" in caplog.text
    assert list(np.flatnonzero(~kept)) == [2]
    assert not pixels[2].any()


def test_images_are_found_by_path_whatever_the_table(tmp_path: Path) -> None:
    paths = _images(tmp_path)
    Path(paths[0]).write_bytes(b"")
    one, two = pd.DataFrame({"path": paths[:3]}), pd.DataFrame({"path": paths[:0:-1]})
    images = decode_tables([one, two], 8, skip_bad=True)
    usable = images.usable(one)
    assert list(usable["path"]) == paths[1:3]
    assert torch.equal(images.pixels[images.rows(usable)], decode(paths[1:3], 8)[0])
    assert torch.equal(images.pixels[images.rows(two)], decode(paths[:0:-1], 8)[0])
    with pytest.raises(ValueError, match="not among the decoded images"):
        images.rows(one)


def test_stream_is_permutations_end_to_end_however_it_is_cut() -> None:
    whole = stream(7, 0, 21, seed=3)
    for epoch in torch.split(whole, 7):
        assert sorted(epoch.tolist()) == list(range(7))
    assert not torch.equal(whole[:7], whole[7:14])
    pieces = [stream(7, start, min(start + 4, 21), seed=3) for start in range(0, 21, 4)]
    assert torch.equal(torch.cat(pieces), whole)
    assert not torch.equal(stream(7, 0, 21, seed=4), whole)


def _data(rounds: int, *, n_real: int = 10, stage: StageConfig | None = None) -> FitData:
    """Ten images, the last of them synthetic, whose label is their number."""
    pixels = torch.arange(10 * 3 * 4 * 4).remainder(256).to(torch.uint8).view(10, 3, 4, 4)
    split = Split(
        pixels=pixels,
        rows=torch.arange(10),
        labels=torch.arange(10.0)[:, None],
        synthetic=torch.arange(10) >= n_real,
    )
    config = FitConfig(rounds=rounds, batch_size=4, second_stage=stage or StageConfig())
    return FitData(split, split, config=config, steps=11, seed=5)


def _numbers(data: FitData) -> list[list[float]]:
    """The images of each step, by number."""
    rounds = range(len(data.bounds) - 1)
    return [batch.labels.flatten().tolist() for number in rounds for batch in data.round(number)]


def test_batches_do_not_depend_on_the_rounds() -> None:
    one, several = _data(1), _data(3)
    assert several.bounds == [0, 4, 7, 11]
    whole = list(one.round(0))
    parts = [batch for number in range(3) for batch in several.round(number)]
    assert len(whole) == len(parts) == 11
    for a, b in zip(whole, parts, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)
        assert len(a.labels) == 4


@pytest.mark.parametrize("rows", ["all", "real", "balanced"])
def test_a_second_stage_takes_its_rows_from_its_step_on(
    rows: Literal["all", "real", "balanced"],
) -> None:
    """It begins at step 7 of 11, in the middle of a round or at its start."""
    whole = _numbers(_data(1, n_real=6))
    staged = [
        _numbers(_data(rounds, n_real=6, stage=StageConfig(share=0.4, rows=rows)))
        for rounds in (1, 2, 3)
    ]
    assert staged[0] == staged[1] == staged[2]
    assert [len(step) for step in staged[0]] == [4] * 11
    assert staged[0][:7] == whole[:7]
    if rows == "all":
        assert staged[0] == whole
    elif rows == "real":
        last = [image for step in staged[0][7:] for image in step]
        assert sorted(last[:6]) == [0, 1, 2, 3, 4, 5]
        assert max(last) < 6
    else:
        assert staged[0][7:] != whole[7:]


def test_balanced_draws_give_each_value_of_each_attribute_the_same_chance() -> None:
    """Of three attributes one row has the first, another the second, and all have the third.

    So there are five values; row 0 is drawn for the first, or as one of the rows with the third or
    without the second.
    """
    labels = torch.zeros(100, 3)
    labels[0, 0] = labels[1, 1] = labels[:, 2] = 1
    labels[2, :2] = torch.nan
    values = rows_by_value(labels)
    assert [len(rows) for rows in values] == [1, 1, 100, 98, 98]
    drawn = balanced(values, 20_000, np.random.default_rng(0))
    chance = 1 / 5 * (1 + 1 / 100 + 1 / 98)
    for row in (0, 1):
        assert (drawn == row).float().mean().item() == pytest.approx(chance, rel=0.1)
    assert (drawn == 2).float().mean().item() == pytest.approx(1 / 500, rel=0.5)


def test_a_second_stage_of_real_rows_needs_some() -> None:
    with pytest.raises(ValueError, match="all images to train on are synthetic; add real ones"):
        _data(1, n_real=0, stage=StageConfig(share=0.5))
    _data(1, n_real=0, stage=StageConfig(share=0.0))


def test_no_augmentation_changes_nothing() -> None:
    images = torch.randint(256, (6, 3, 9, 9), dtype=torch.uint8)
    none = Augmentation(flip=False, shift=0.0)
    maps = none.draw(6, 9, torch.Generator().manual_seed(0))
    torch.testing.assert_close(transform(images, maps), images.float(), atol=1e-3, rtol=0)


def test_flip_and_shift_are_exact_moves() -> None:
    images = torch.randint(256, (64, 3, 10, 10), dtype=torch.uint8)
    flipped = Augmentation(flip=True, shift=0.0).draw(64, 10, torch.Generator().manual_seed(0))
    moved = transform(images, flipped)
    is_flipped = flipped[:, 0, 0] < 0
    assert 10 < is_flipped.sum() < 54
    expected = torch.where(is_flipped[:, None, None, None], images.flip(-1), images).float()
    torch.testing.assert_close(moved, expected, atol=1e-3, rtol=0)

    maps = Augmentation(flip=False, shift=0.2).draw(64, 10, torch.Generator().manual_seed(0))
    pixels = (maps[:, :, 2] * 5).round().int()
    assert pixels.abs().max() == 2
    for image, result, (dx, dy) in zip(
        images, transform(images, maps), pixels.tolist(), strict=True
    ):
        rows, columns = (torch.arange(10) + dy).clamp(0, 9), (torch.arange(10) + dx).clamp(0, 9)
        torch.testing.assert_close(result, image[:, rows][:, :, columns].float(), atol=1e-3, rtol=0)


def test_rotation_by_a_right_angle() -> None:
    image = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    torch.testing.assert_close(
        transform(image, quarter), image.rot90(1, (2, 3)).float(), atol=1e-2, rtol=0
    )
    maps = Augmentation(flip=False, shift=0.0, rotation=10).draw(
        500, 8, torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(torch.linalg.det(maps[:, :, :2]), torch.ones(500))
    degrees = torch.rad2deg(torch.asin(maps[:, 1, 0]))
    assert 9 < degrees.max() <= 10
    assert -10 <= degrees.min() < -9


@pytest.mark.parametrize("bad", [{"shift": 1.0}, {"shift": -0.1}, {"rotation": -1.0}])
def test_augmentation_says_what_is_allowed(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"augmentation.{next(iter(bad))} is .*; give"):
        Augmentation(**bad)  # type: ignore[arg-type]
