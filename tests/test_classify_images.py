"""The one decoder of image files, and the cache of what it decoded."""

from __future__ import annotations

import errno
import logging
import os
import struct
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageOps

from classify import decode, decode_tables, read_image
from classify.datasets import images as module

RAMP = (np.arange(400).reshape(20, 20) * 160).astype(np.uint16)
RANDOM = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def _images(folder: Path, count: int = 5, size: tuple[int, int] = (12, 9)) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_files_come_through_untouched(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RANDOM).convert(mode)
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").mode == mode
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), image)


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.jp2", "a.pgm"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, name: str) -> None:
    """They were clipped: everything above 255 became white."""
    image = Image.fromarray(RAMP)
    if name == "a.pgm":
        head = b"P5 20 20 65535\n"
        (tmp_path / name).write_bytes(head + RAMP.astype(">u2").tobytes())
    else:
        image.save(tmp_path / name)
    read = read_image(tmp_path / name)
    assert read.mode == "L"
    np.testing.assert_array_equal(read, RAMP >> 8)
    pixels, _ = decode([str(tmp_path / name)], 20)
    np.testing.assert_array_equal(pixels[0], np.repeat([RAMP >> 8], 3, axis=0))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff has pixels of mode [FI], whose.*8 or 16 bits"):
        read_image(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff has pixels of mode [FI].*--skip_bad"):
        decode([str(tmp_path / "a.tiff")], 8)


def test_an_image_that_is_a_program_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ghostscript(*_: object) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is EPS, a program that draws; convert it to PNG"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000, 2**30])
def test_an_image_too_large_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + data)
    with pytest.raises(ValueError, match=r"a\.png (has more pixels than the 89,478,485|does not)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image_upright(tmp_path: Path, orientation: int) -> None:
    stored = Image.new("RGB", (16, 8))
    stored.paste("red", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    corners = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top"}
    corners |= {7: "bottom", 8: "bottom"}
    read = np.asarray(read_image(tmp_path / "a.png"))[..., 0] == 255
    sides = {"left": read[:, :8], "right": read[:, 8:], "top": read[:8], "bottom": read[8:]}
    assert read.shape == ((8, 16) if orientation < 5 else (16, 8))
    assert sides[corners[orientation]].all()
    assert read.mean() == 0.5


def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    Image.fromarray(RANDOM).save(tmp_path / "a.png", exif=b"Exif\0\0no tiff header")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RANDOM)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RANDOM).convert(mode)
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:4], alpha[0] = 255, 128
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.mode == ("L" if mode == "LA" else "RGB")
    opaque = np.asarray(Image.fromarray(RANDOM).convert(read.mode))
    np.testing.assert_array_equal(np.asarray(read)[1:4], opaque[1:4])
    assert (np.asarray(read)[4:] == 255).all()
    half = opaque[0] + (255.0 - opaque[0]) * 127 / 255
    np.testing.assert_allclose(np.asarray(read)[0], half, atol=1)


def test_palettes_are_resolved(tmp_path: Path) -> None:
    palette = Image.fromarray(RANDOM).quantize(8)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), palette.convert("RGB"))
    first = np.asarray(palette) == 0
    palette.save(tmp_path / "clear.gif", transparency=0)
    clear = np.asarray(read_image(tmp_path / "clear.gif"))
    assert (clear[first] == 255).all()
    np.testing.assert_array_equal(clear[~first], np.asarray(palette.convert("RGB"))[~first])


@pytest.mark.parametrize(("mode", "name"), [("1", "a.png"), ("CMYK", "a.jpg"), ("YCbCr", "a.jpg")])
def test_other_modes_are_converted_as_pillow_does(tmp_path: Path, mode: str, name: str) -> None:
    Image.fromarray(RANDOM).convert(mode).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = image.convert("RGB")
    np.testing.assert_array_equal(read_image(tmp_path / name).convert("RGB"), expected)


@pytest.mark.parametrize("length", [0, 10, 60, 150])
def test_what_does_not_decode_is_named_in_one_line(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RANDOM).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.png does not decode as an image; restore it, or"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match=r"none\.png is missing; restore it, or take it"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="does not decode as an image; restore it"):
        read_image(tmp_path)


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


def test_cores_are_counted_where_the_system_cannot_say_which_are_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    paths = _images(tmp_path)
    assert torch.equal(decode(paths, 8)[0], decode(paths, 8, cache=tmp_path / "cache")[0])


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


def test_of_a_cache_what_is_asked_for_is_read_and_nothing_held(tmp_path: Path) -> None:
    paths = _images(tmp_path)
    table = pd.DataFrame({"path": paths})
    images = decode_tables([table], 8, cache=tmp_path / "cache")
    assert not any(
        isinstance(held, (torch.Tensor, np.ndarray)) for held in vars(images.pixels).values()
    )
    plain, _ = decode(paths, 8)
    assert (len(images.pixels), images.pixels.shape) == (len(paths), plain.shape)
    rows = torch.tensor([2, 0, 2])
    found = images.pixels[rows]
    assert torch.equal(found, plain[rows])
    found.zero_()  # a copy: the file stays as it is
    assert torch.equal(images.pixels[rows], plain[rows])


def test_what_an_older_decoder_cached_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = _images(tmp_path), tmp_path / "cache"
    monkeypatch.setattr(module, "_VERSION", 1)
    decode(paths, 8, cache=cache)
    monkeypatch.undo()
    decode(paths, 8, cache=cache)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("with_cache", [False, True])
def test_broken_image_is_an_error_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, with_cache: bool
) -> None:
    paths = _images(tmp_path)
    Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:60])
    Path(paths[4]).unlink()
    cache = tmp_path / "cache" if with_cache else None
    with pytest.raises(ValueError, match=r"2\.png does not decode.*--skip_bad \(and 1 more\)$"):
        decode(paths, 8, cache=cache)
    with caplog.at_level(logging.WARNING):
        pixels, kept = decode(paths, 8, skip_bad=True, cache=cache)
    assert f"{paths[2]} does not decode" in caplog.text
    assert f"{paths[4]} is missing" in caplog.text
    assert list(np.flatnonzero(~kept)) == [2, 4]
    assert not pixels[[2, 4]].any()


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


@pytest.mark.parametrize("name", ["pixels.npy", "kept.npy"])
@pytest.mark.parametrize("damage", ["gone", "emptied", "halved", "foreign", "garbage", "vast"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    paths, cache = _images(tmp_path), tmp_path / "cache"
    plain, _ = decode(paths, 8)
    decode(paths, 8, cache=cache)
    (file,) = cache.glob(f"*/{name}")
    if damage == "gone":
        file.unlink()
    elif damage == "foreign":
        np.save(file, np.zeros(3))
    elif damage == "vast":  # a header of many rows, none of which follows
        with file.open("wb") as cut:
            header = {"descr": "|b1", "fortran_order": False, "shape": (2**44,)}
            np.lib.format.write_array_header_1_0(cut, header)
    else:
        whole = file.read_bytes()
        contents = {"emptied": b"", "halved": whole[: len(whole) - 3], "garbage": b"x" * len(whole)}
        file.write_bytes(contents[damage])
    again, kept = decode(paths, 8, cache=cache)
    assert torch.equal(again, plain)
    assert kept.all()
    assert len(list(cache.iterdir())) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(
        OSError, match=r"MB free; the decoded images take .* MB; make room"
    ) as found:
        decode(_images(tmp_path), 8, cache=tmp_path / "cache")
    assert "\n" not in str(found.value)
    assert not list((tmp_path / "cache").iterdir())


def test_a_disk_that_is_really_full_ends_no_process(tmp_path: Path) -> None:
    """A write to a map without space behind it was a SIGBUS: no message, and files left behind."""
    disk, paths = tmp_path / "disk", _images(tmp_path, 100)
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(OSError, match=r"MB free; the decoded images take 1\.2 MB"):
            decode(paths, 64, cache=disk / "cache")
        assert not list((disk / "cache").iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_error_of_the_disk_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NDArray[np.bool_]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "_each", broken)
    with pytest.raises(OSError, match="Input/output error"):
        decode(_images(tmp_path), 8, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_two_runs_fill_one_cache_at_once(tmp_path: Path) -> None:
    paths, cache = _images(tmp_path, 200), tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: decode(paths, 16, cache=cache)[0], range(2)))
    assert all(torch.equal(pixels, decode(paths, 16)[0]) for pixels in both)
    assert len(list(cache.iterdir())) == 1
