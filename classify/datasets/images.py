"""The only image decoder, and the only cache of decoded images.

`read_image` says once for all commands what a file's pixels are. `decode` brings many files to one
size, and keeps them in a memory-mapped file, so that every file is read once, whatever number of
tables, fits and restarts use it. Images above 128 pixels are not kept: `decode_tables` looks
whether they decode, and they are decoded again whenever they are asked for.

What each kind of picture becomes:

- grey stays grey, and is repeated for a network of three channels;
- transparent pixels are laid over white;
- of 16 bits the upper 8 are kept;
- of a picture that is not square, the middle square is cut out;
- a larger one is resized in one bicubic step, antialiased; one of more than 89 million pixels is
  refused.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from classify.cores import usable_cores
from classify.datasets.pixels import Mapped, Pixels, Rows
from classify.files import done_once
from classify.progress import progress

__all__ = ["Images", "decode", "decode_tables", "read_image"]

_HELD = 128
"""Side in pixels up to which decoded images are held; 20,000 at 256 pixels would be 3.9 GB."""
_CHUNK = 64
"""Images that a thread takes at a time."""
_BLOCK = 1 << 24
"""Bytes written at a time where the system cannot reserve space in one call."""
_PIXELS, _KEPT = "pixels.npy", "kept.npy"
_VERSION = 2
"""Raise when `read_image` or the resizing change: old cached pixels must not pass for new ones."""
_GREY = ("1", "L", "I;16")
"""Modes that `read_image` makes grey; a palette or alpha makes colours of them all the same."""
_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose mode `I` is 16 bits in 32: that of others can mean any range."""
PROGRAMS = ("EPS",)
"""Formats whose files are programs: Pillow would have Ghostscript run them."""
_MOST_PIXELS = 89_478_485
"""Limit of an image, as Pillow warns of more by default: 256 MB in RGB."""
_TOO_LARGE = f"has more pixels than the {_MOST_PIXELS:,} that are allowed; make it smaller"
_log = logging.getLogger(__name__)


def read_image(path: str | Path) -> Image.Image:
    """Decode an image file.

    Returns:
        The image upright, as its EXIF data say, with 8 bits per channel, in mode `L` if the file is
        grey and else in `RGB`. Of 16 bits the upper 8 are kept, transparent pixels are laid over
        white, of several frames the first is taken, colour profiles are not applied.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not decode, is PostScript, has more than 89 million pixels, or such
            without a known range (32 bits, floats).
    """
    try:
        with Image.open(path) as image:
            refusal = _refusal(image)
            if refusal is None:
                image.load()
                with suppress(Exception):  # EXIF data that cannot be read turn nothing
                    ImageOps.exif_transpose(image, in_place=True)
                return _eight_bits(image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; restore it, or take it out") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is twice ours
        raise ValueError(f"{path} {_TOO_LARGE}, or take it out") from error
    except Exception as error:  # a broken file can raise nearly anything in the decoders
        raise ValueError(
            f"{path} does not decode as an image; restore it, or take it out"
        ) from error
    raise ValueError(f"{path} {refusal}, or take it out")


def _refusal(image: Image.Image) -> str | None:
    """Why an image is not decoded, by its header: before anything is executed or allocated."""
    if image.format in PROGRAMS:
        return f"is {image.format}, a program that draws; convert it to PNG"
    if image.width * image.height > _MOST_PIXELS:
        return _TOO_LARGE
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        return (
            f"has pixels of mode {image.mode}, whose range is not known; images have 8 or 16 bits "
            "a channel; convert it"
        )
    return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode.startswith("I"):
        bits = image.tag_v2.get(258, (16,))[0] if hasattr(image, "tag_v2") else 16
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        grey = image.mode in ("L", "LA", "La")
        return Image.alpha_composite(white, coloured).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in _GREY else "RGB")


@dataclass(frozen=True)
class Streamed:
    """Files that are decoded whenever they are asked for, to the pixels that `decode` gives."""

    paths: Sequence[str]
    size: int

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.paths), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The images of rows int64 (B,), uint8 (B, 3, S, S)."""
        pixels = np.zeros((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(pixels, rows.tolist(), strict=True):
            if not _decode_one(image, self.paths[row]):
                raise ValueError(
                    f"{self.paths[row]} does not decode any more; restore it, then start again"
                )
        return torch.from_numpy(pixels)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Decoded images, found by path."""

    pixels: Pixels
    """uint8 (N, 3, S, S); read when they are asked for from a cache, and decoded above 128
    pixels."""
    paths: pd.Index
    """Path of each; those that could not be decoded are not among them, though they have pixels
    (zeros).
    """
    positions: NDArray[np.int64]
    """Row of `pixels` for each of `paths`."""

    def usable(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the table whose image was decoded."""
        return table[table["path"].isin(self.paths)]

    def of(self, table: pd.DataFrame) -> Rows:
        """The table's images, in its order."""
        return Rows(self.pixels, self.rows(table))

    def rows(self, table: pd.DataFrame) -> Tensor:
        """Rows of `pixels` for the table's images, int64 (len(table),)."""
        found = self.paths.get_indexer(pd.Index(table["path"]))
        if (found < 0).any():
            raise ValueError(
                f"{table['path'].iloc[int((found < 0).argmax())]} is not among the decoded images; "
                "they are those of the tables that were decoded; decode all tables together"
            )
        return torch.from_numpy(self.positions[found])


def decode_tables(
    tables: Iterable[pd.DataFrame], size: int, *, skip_bad: bool = False, cache: Path | None = None
) -> Images:
    """Decode the images of all tables, each once; see `decode`.

    Above 128 pixels it is only looked whether they decode; nothing is held or cached.
    """
    paths = pd.Index(pd.concat([table["path"] for table in tables]).unique())
    pixels: Pixels
    if size > _HELD:
        pixels = Streamed(list(paths), size)
        kept = _each(len(paths), lambda rows: [_decodes(paths[row]) for row in rows])
        _report_bad(paths[~kept], skip_bad)
    elif cache is None:
        pixels, kept = decode(paths, size, skip_bad=skip_bad)
    else:
        pixels, kept = _through(cache, paths, size, skip_bad)
    return Images(pixels=pixels, paths=paths[kept], positions=np.flatnonzero(kept))


def decode(
    paths: Sequence[str] | pd.Index, size: int, *, skip_bad: bool = False, cache: Path | None = None
) -> tuple[Tensor, NDArray[np.bool_]]:
    """Decode image files to RGB, cropped to the middle square and resized (bicubic) to `size`.

    Args:
        paths: The N files.
        size: Side in pixels.
        skip_bad: Leave out, with a warning, what does not decode; otherwise that is an error.
        cache: Folder for a memory-mapped copy, so that the images need no memory and a second call
            finds them decoded; it is found by the files' paths, sizes and times, and by `size`, and
            made again if it is damaged. Of several processes, one fills it for all. Without it,
            the images are held in memory.

    Returns:
        uint8 (N, 3, size, size), zeros where not kept, and which were kept (N,).

    Raises:
        ValueError: An image does not decode, and `skip_bad` is off.
        OSError: The disk of the cache is full; nothing is left on it.
    """
    if cache is not None:
        mapped, kept = _through(cache, paths, size, skip_bad)
        # copy-on-write: torch wants a writable array, the file stays as it is
        return torch.from_numpy(np.load(mapped.file, mmap_mode="c")), kept
    pixels = np.zeros((len(paths), 3, size, size), np.uint8)
    kept = _each(len(paths), lambda rows: [_decode_one(pixels[row], paths[row]) for row in rows])
    _report_bad([path for path, good in zip(paths, kept, strict=True) if not good], skip_bad)
    return torch.from_numpy(pixels), kept


def _through(
    cache: Path, paths: Sequence[str] | pd.Index, size: int, skip_bad: bool
) -> tuple[Mapped, NDArray[np.bool_]]:
    """The images as the cache has them, decoded if they are not there; see `decode`."""
    entry = cache / f"images-{_key(paths, size)}"
    found = _cached(entry, len(paths), size)
    if found is None:
        done_once(
            entry.with_name(f".{entry.name}.lock"),
            lambda: _cached(entry, len(paths), size) is not None,
            lambda: _write_cache(entry, paths, size),
        )
        found = _cached(entry, len(paths), size)
        if found is not None and not skip_bad and not found[1].all():
            shutil.rmtree(entry, ignore_errors=True)  # of a call that is refused nothing stays
    if found is None:
        raise OSError(f"{entry} cannot be read back; give another folder, or mend the disk")
    kept = found[1]
    _report_bad([path for path, good in zip(paths, kept, strict=True) if not good], skip_bad)
    return found


def _key(paths: Sequence[str] | pd.Index, size: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {size}".encode())
    for path in paths:
        try:
            stat = os.stat(path)
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        except OSError:  # reported when it is decoded
            digest.update(f"{path}\0missing\0".encode())
    return digest.hexdigest()[:16]


def _cached(entry: Path, count: int, size: int) -> tuple[Mapped, NDArray[np.bool_]] | None:
    """Pixels and which were kept; None if they are not there, or not whole."""
    try:
        kept = np.load(entry / _KEPT)
        pixels = np.load(entry / _PIXELS, mmap_mode="r")
    except (OSError, ValueError, EOFError, MemoryError):  # the last of a header of many rows
        return None
    whole = (kept.dtype, kept.shape) == (np.bool_, (count,))
    whole &= (pixels.dtype, pixels.shape) == (np.uint8, (count, 3, size, size))
    return (Mapped(entry / _PIXELS, torch.Size(pixels.shape)), kept) if whole else None


def _write_cache(entry: Path, paths: Sequence[str] | pd.Index, size: int) -> None:
    """Decode into a folder of this process, and move the files to `entry`."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        _reserved(scratch / _PIXELS, np.uint8, (len(paths), 3, size, size))
        kept = _reserved(scratch / _KEPT, np.bool_, (len(paths),))

        def some(rows: range) -> list[bool]:
            pixels = np.load(scratch / _PIXELS, mmap_mode="r+")  # for these alone, see `Mapped`
            return [_decode_one(pixels[row], paths[row]) for row in rows]

        kept[:] = _each(len(paths), some)
        del kept  # written out; Windows moves no file that is mapped
        entry.mkdir(exist_ok=True)
        for name in (_PIXELS, _KEPT):
            os.replace(scratch / name, entry / name)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            f"{entry.parent} has {shutil.disk_usage(entry.parent).free / 1e6:,.1f} MB free; the "
            f"decoded images take {len(paths) * 3 * size**2 / 1e6:,.1f} MB; make room, or choose a "
            "folder elsewhere"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reserved(file: Path, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """A new array file, mapped; all its space is taken first, since writing to a map that finds no
    space ends the process.
    """
    array = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
    with file.open("r+b") as target:
        target.seek(-array.nbytes, os.SEEK_END)
        _reserve(target, array.nbytes)
    return array


def _reserve(target: BinaryIO, count: int) -> None:
    """Take space for the next `count` bytes of an open file, all of them zero."""
    if hasattr(os, "posix_fallocate"):
        try:
            return os.posix_fallocate(target.fileno(), target.tell(), count)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
    for start in range(0, count, _BLOCK):
        target.write(bytes(min(_BLOCK, count - start)))
    return None


def _each(count: int, some: Callable[[range], list[bool]]) -> NDArray[np.bool_]:
    """Call it for 0 to `count` - 1, chunk by chunk on all cores; what it returned, (count,)."""
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    kept: list[bool] = []
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        progress(total=count, desc="decoding", unit="image") as bar,
    ):
        for chunk in pool.map(some, chunks):
            kept += chunk
            bar.update(len(chunk))
    return np.array(kept, dtype=bool)


def _decode_one(pixels: NDArray[np.uint8], path: str) -> bool:
    """Decode into `pixels`, (3, S, S); whether it succeeded."""
    size = pixels.shape[-1]
    try:
        image = read_image(path)
    except (OSError, ValueError):
        return False
    square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    pixels[:] = np.asarray(square).transpose(2, 0, 1)
    return True


def _decodes(path: str) -> bool:
    try:
        read_image(path)
    except (OSError, ValueError):
        return False
    return True


def _report_bad(bad: Sequence[str], skip_bad: bool) -> None:
    """Warn of the files that were not decoded, or refuse the first of them with its reason."""
    for path in bad:
        try:
            read_image(path)
            reason = f"{path} did not decode as an image; restore it, or take it out"
        except (OSError, ValueError) as error:
            reason = str(error)
        if not skip_bad:
            more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
            raise ValueError(f"{reason}, or leave such images out with --skip_bad{more}")
        _log.warning("left out: %s", reason)
