"""Decoded images: every file is read once, whatever number of tables, fits and restarts use it."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

_CHUNK = 64
"""Images a thread takes at a time."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Decoded images, found by path."""

    pixels: Tensor
    """uint8 (N, 3, S, S)."""
    paths: pd.Index
    """Path of each; those that could not be decoded are not among them, though they have pixels
    (zeros).
    """
    positions: NDArray[np.int64]
    """Row of `pixels` for each of `paths`."""

    def usable(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the table whose image was decoded."""
        return table[table["path"].isin(self.paths)]

    def rows(self, table: pd.DataFrame) -> Tensor:
        """Rows of `pixels` for the table's images, int64 (len(table),)."""
        found = self.paths.get_indexer(pd.Index(table["path"]))
        if (found < 0).any():
            raise ValueError(
                f"{table['path'].iloc[int((found < 0).argmax())]} is not among the decoded images: "
                "decode all tables together"
            )
        return torch.from_numpy(self.positions[found])


def decode_tables(
    tables: Iterable[pd.DataFrame], size: int, *, skip_bad: bool = False, cache: Path | None = None
) -> Images:
    """Decode the images of all tables, each once; see `decode`."""
    paths = pd.Index(pd.concat([table["path"] for table in tables]).unique())
    pixels, kept = decode(paths, size, skip_bad=skip_bad, cache=cache)
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
            finds
            them decoded; it is found by the files' paths, sizes and times, and by `size`. Without,
            they are held in memory.

    Returns:
        uint8 (N, 3, size, size), zeros where not kept, and which were kept (N,).

    Raises:
        ValueError: An image does not decode, and `skip_bad` is off.
    """
    if cache is None:
        pixels = np.zeros((len(paths), 3, size, size), np.uint8)
        kept = _fill(pixels, paths, skip_bad)
        return torch.from_numpy(pixels), kept
    entry = cache / f"images-{_key(paths, size)}"
    if not entry.is_dir():
        _write_cache(entry, paths, size)
    kept = np.load(entry / "kept.npy")
    _report_bad(paths, kept, skip_bad)
    # copy-on-write: torch wants a writable array, the file stays as it is
    return torch.from_numpy(np.load(entry / "pixels.npy", mmap_mode="c")), kept


def _key(paths: Sequence[str] | pd.Index, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    for path in paths:
        try:
            stat = os.stat(path)
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        except OSError:  # reported when it is decoded
            digest.update(f"{path}\0missing\0".encode())
    return digest.hexdigest()[:16]


def _write_cache(entry: Path, paths: Sequence[str] | pd.Index, size: int) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        pixels = np.lib.format.open_memmap(
            scratch / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(paths), 3, size, size)
        )
        np.save(scratch / "kept.npy", _fill(pixels, paths, skip_bad=None))
        pixels.flush()
        if not entry.is_dir():  # another process may have been quicker
            scratch.rename(entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(
    pixels: NDArray[np.uint8], paths: Sequence[str] | pd.Index, skip_bad: bool | None
) -> NDArray[np.bool_]:
    """Decode into `pixels` on all cores; returns which succeeded. `skip_bad` None: the caller
    reports.
    """
    size = pixels.shape[-1]

    def fill(start: int) -> list[bool]:
        rows = range(start, min(start + _CHUNK, len(paths)))
        return [_decode_one(pixels[row], paths[row], size) for row in rows]

    kept: list[bool] = []
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(
            total=len(paths), desc="decoding", unit="image", delay=2, leave=False, disable=None
        ) as bar,
    ):
        for chunk in pool.map(fill, range(0, len(paths), _CHUNK)):
            kept += chunk
            bar.update(len(chunk))
    if skip_bad is not None:
        _report_bad(paths, kept, skip_bad)
    return np.array(kept, dtype=bool)


def _decode_one(pixels: NDArray[np.uint8], path: str, size: int) -> bool:
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    except Exception:  # a broken file can raise nearly anything in the decoders
        return False
    pixels[:] = np.asarray(fitted).transpose(2, 0, 1)
    return True


def _report_bad(paths: Sequence[str] | pd.Index, kept: Iterable[bool], skip_bad: bool) -> None:
    bad = [path for path, good in zip(paths, kept, strict=True) if not good]
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise ValueError(
            f"{bad[0]} does not decode as an image{more}: restore it, or leave such images out "
            "with --skip_bad"
        )
    for path in bad:
        _log.warning("%s does not decode as an image: left out", path)
