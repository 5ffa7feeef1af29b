"""Features of image files: extracted once, then kept.

The cache has a folder an encoder, named by the key of its card; in it are shards with the features
of about 4,096 images, each beside the hash of its file's content. So a second run extracts nothing,
a set that has grown only what is new, and a run that was killed goes on. Names do not matter.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm.auto import tqdm

from augment.files import write_bytes
from augment.images import Read
from augment.metrics.encoder import Encoder, EncoderCard
from augment.pretrained.files import sha256_of

__all__ = ["default_cache", "extract"]

Place = tuple[Path, int]
"""A shard and a row of it."""

_SHARD = 4096
_THREADS = 4  # Pillow and hashlib let go of the interpreter's lock


def default_cache() -> Path:
    """Where features are kept if nothing else is said: in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "minority-augment" / "features"


def extract(
    paths: Sequence[str | Path],
    encoder: Encoder,
    *,
    read: Read,
    cache: Path | None = None,
    batch_size: int = 64,
    name: str = "images",
    fabric: Fabric | None = None,
) -> NDArray[np.float32]:
    """Features of image files, of any sizes.

    Args:
        paths: the images.
        encoder: moved to the fabric's device; left where it is without a fabric.
        read: decodes a file to 8 bits per channel, as `classify.datasets.read_image` does; what it
            gives is taken as RGB.
        cache: the folder of kept features, shared by all processes; `default_cache()` if left out.
        batch_size: images at a time on each device.
        name: what the progress bar calls them.
        fabric: a launched Lightning Fabric, whose processes share the work; every one of them gets
            the whole result.

    Returns:
        float32 (N, D), in the order of `paths`.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: there is none, one is refused by the reader, or a feature is not finite.
    """
    if not paths or batch_size < 1:
        raise ValueError(
            f"there are {len(paths)} {name} and batch_size is {batch_size}; give at least 1 of each"
        )
    if fabric is None:
        fabric = Fabric(accelerator="cpu", devices=1)
    else:
        encoder.to(fabric.device)
    folder = (cache or default_cache()) / encoder.card.key
    hashes = _hashes([Path(path) for path in paths])
    known = _index(folder)
    missing = {h: str(path) for h, path in zip(hashes, paths, strict=True) if h not in known}
    fabric.barrier()  # before any writes: all must see the same images missing, to share them
    batches = partial(_batches, encoder=encoder, read=read, batch_size=batch_size)
    shards = _shards(list(missing), batch_size, fabric.world_size)
    _fill(folder, missing, shards, encoder.card, name, batches, fabric)
    fabric.barrier()
    return _collect(hashes, _index(folder) if missing else known)


def _hashes(paths: Sequence[Path]) -> list[str]:
    if gone := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(gone)} images are missing, the first {gone[0]}; "
            "copy them there, or leave them out"
        )
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(sha256_of, paths))


def _index(folder: Path) -> dict[str, Place]:
    """Where the features of each known image are."""
    places: dict[str, Place] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(shard, framework="pt") as file:
                rows = file.get_tensor("hashes").numpy()
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{shard} is no shard of features ({error}); delete it, and they are made again"
            ) from error
        places.update({row.tobytes().hex(): (shard, i) for i, row in enumerate(rows)})
    return places


def _shards(hashes: Sequence[str], batch_size: int, processes: int) -> list[Sequence[str]]:
    """Of whole batches, always the same images together: in another batch a feature is rounded
    otherwise.
    """
    batches = -(-len(hashes) // batch_size)
    size = batch_size * max(1, min(_SHARD // batch_size, -(-batches // processes)))
    return [hashes[first : first + size] for first in range(0, len(hashes), size)]


def _fill(
    folder: Path,
    missing: Mapping[str, str],
    shards: Sequence[Sequence[str]],
    card: EncoderCard,
    name: str,
    batches: Callable[[Sequence[str]], Iterator[Tensor]],
    fabric: Fabric,
) -> None:
    """Extract what is missing, this process its share, and write a shard as it gets full."""
    mine = shards[fabric.global_rank :: fabric.world_size]
    if mine:
        folder.mkdir(parents=True, exist_ok=True)
    if mine and fabric.is_global_zero:
        write_bytes(folder / "card.json", (json.dumps(asdict(card), indent=2) + "\n").encode())
    silent = not (mine and fabric.is_global_zero)
    title = f"{card.name} features of {name}"
    with tqdm(total=sum(map(len, mine)), desc=title, unit="image", disable=silent) as bar:
        for shard in mine:
            features = []
            for batch in batches([missing[h] for h in shard]):
                features.append(batch)
                bar.update(len(batch))
            _write_shard(folder, shard, torch.cat(features))


def _batches(
    paths: Sequence[str],
    *,
    encoder: Encoder,
    read: Read,
    batch_size: int,
) -> Iterator[Tensor]:
    """Features of the images, (batch_size, D) at a time, on the CPU."""

    def pixels(path: str) -> Tensor:  # uint8 (3, H, W)
        decoded: Tensor = pil_to_tensor(read(path).convert("RGB"))
        return decoded

    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(paths), batch_size):
            batch = paths[first : first + batch_size]
            features = encoder(list(pool.map(pixels, batch))).cpu()
            finite = features.isfinite().all(dim=1)
            if not finite.all():
                raise ValueError(
                    f"encoder {encoder.card.name} gives features that are not finite for "
                    f"{batch[int(finite.int().argmin())]}; take another encoder"
                )
            yield features


def _write_shard(folder: Path, hashes: Sequence[str], features: Tensor) -> None:
    content = b"".join(map(bytes.fromhex, hashes))
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(len(hashes), -1)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
    write_bytes(path, save({"features": features.contiguous(), "hashes": rows}))


def _collect(hashes: Sequence[str], places: Mapping[str, Place]) -> NDArray[np.float32]:
    """The features in order, from one shard at a time."""
    wanted: dict[Path, list[tuple[int, int]]] = {}
    for target, h in enumerate(hashes):
        shard, row = places[h]
        wanted.setdefault(shard, []).append((target, row))
    result = np.empty(0, dtype=np.float32)
    for shard, pairs in wanted.items():
        with safe_open(shard, framework="pt") as file:
            features = file.get_tensor("features").numpy()
        if not len(result):
            result = np.empty((len(hashes), features.shape[1]), dtype=np.float32)
        targets, rows = np.array(pairs).T
        result[targets] = features[rows]
    return result
