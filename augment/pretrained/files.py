"""Files of weights: read without executing anything, and held to the hash of their first use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["hold_to_hash", "read_tensors", "sha256_of"]


def sha256_of(path: Path) -> str:
    """The file's hash in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def hold_to_hash(path: Path, sha256: str) -> None:
    """Compare a file's hash with that recorded beside it; at first use, record it.

    The record, FILE.sha256, has the format of `sha256sum`, so that one that was downloaded with the
    file does as well. In a folder that cannot be written nothing is recorded.

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
        written = record.with_name(f".{record.name}.{os.getpid()}")
        written.write_text(f"{sha256}  {path.name}\n")
        os.replace(written, record)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict saved by torch, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, or would have to be executed to be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the .pt file of a checkpoint")
    try:
        with warnings.catch_warnings():
            # Said of bytes that are no pickle, just before they are refused.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Of bytes that are no pickle, the unpickler raises what it meets.
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path} is no file of tensors ({reason}); allowed is a state dict saved by torch; "
            "give the .pt file as it was downloaded"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        found = f"keys {', '.join(map(str, list(state)[:3]))}" if state else "nothing"
        found = found if isinstance(state, dict) else f"a {type(state).__name__}"
        raise ValueError(
            f"{path} holds {found}; allowed is a state dict, tensors by name; "
            "save the network's own state_dict()"
        )
    return {str(name): tensor for name, tensor in state.items()}
