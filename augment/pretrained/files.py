"""Files of weights: read without executing anything, held to their first hash, replaced whole."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from augment.files import one_line, write_bytes

__all__ = ["CARD", "hold_to_hash", "optional_module", "read_tensors", "replacing", "sha256_of"]

CARD = "card.json"
"""What a folder of weights says of itself, beside them."""


def sha256_of(path: Path) -> str:
    """The file's hash in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def hold_to_hash(path: Path, sha256: str) -> None:
    """Compare a file's hash with the one recorded beside it; at the first use, record it.

    The record, FILE.sha256, has the format of `sha256sum`, so that one downloaded with the file is
    held to as well. In a folder that cannot be written nothing is recorded.

    Raises:
        ValueError: the file is not the recorded one.
    """
    record = path.with_name(f"{path.name}.sha256")
    if record.is_file():
        recorded = (record.read_text().split() or [""])[0].lower()
        if recorded != sha256:
            raise ValueError(
                f"{path} has the sha256 {sha256}, but {record.name} beside it records "
                f"{recorded or 'none'}; give the file that was recorded, or delete the record"
            )
        return
    with contextlib.suppress(OSError):
        write_bytes(record, f"{sha256}  {path.name}\n".encode())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict saved by torch, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or would have to be executed to be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the .pt file of a checkpoint")
    try:
        _check_packing(path)
        with warnings.catch_warnings():
            # torch warns of bytes that are no pickle just before it refuses them.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # The unpickler raises anything when the bytes are no pickle.
        raise ValueError(
            f"{path} is no file of tensors ({one_line(error)}); allowed is a state dict saved by "
            "torch; give the .pt file as it was downloaded"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        found = f"keys {', '.join(map(str, list(state)[:3]))}" if state else "nothing"
        found = found if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(
            f"{path} holds {found}; allowed is a state dict, tensors by name; "
            "save the network's own state_dict()"
        )
    if unstored := [str(name) for name, tensor in state.items() if not _is_stored(tensor)]:
        raise ValueError(
            f"{path} holds {unstored[0]}, not all of whose elements are in the file; allowed are "
            "dense tensors; save the network's own state_dict()"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _is_stored(tensor: Tensor) -> bool:
    """Whether a tensor takes the memory of all its elements already: one number, repeated without
    end, would fill any when it is copied.
    """
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _check_packing(path: Path) -> None:
    """Refuse an archive that unpacks to more than its own size: torch stores its bytes as they are,
    and a few that are compressed can fill any memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, more than it has")


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write to, whose files then replace those of the same name in `folder`.

    If the writing fails, `folder` keeps what it had. JSON files come last: a card or an index says
    to whoever waits for it that the others are there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        written = Path(name)
        yield written
        files = [path for path in written.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.suffix == ".json"):
            target = folder / path.relative_to(written)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def optional_module(module: str, *, needed_by: str, extra: str) -> Any:
    """A module that comes with an extra of this package.

    Raises:
        ValueError: it is not installed; one line that says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{module.partition('.')[0]} is not installed, which {needed_by} use; "
            f"pip install 'minority-augment[{extra}]'"
        ) from error
