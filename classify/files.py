"""Files by which runs and processes meet: written whole, claimed, sealed, held, waited for.

A folder of results is *claimed* by a record of what it is for, so that another run is refused. A
finished piece of work is *sealed* by the hashes of its files, so that a damaged one is made again.
What one process is at it *holds*, so that others take other pieces, and its own once it has died.
Processes learn of one another by such files alone: a barrier of the process group ends the job
after its timeout, 30 minutes by default, however well the work goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from lightning.fabric.utilities.rank_zero import rank_zero_only

__all__ = [
    "claim",
    "differences",
    "done_once",
    "held",
    "is_sealed",
    "seal",
    "sha256_of",
    "share_out",
    "write_bytes",
    "write_text",
]

Piece = TypeVar("Piece")

_SEAL = "finished.json"
_POLL_SECONDS = 0.2
_HEAD_START_SECONDS = 1.0
"""How long a command's further processes leave a piece of work to the first."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename: the whole file or none."""
    # Of another machine, too, a process may have this number.
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, content.encode())


def claim(path: Path, record: Mapping[str, Any]) -> None:
    """Write down what a folder is for, or check that it is for the same.

    Args:
        path: the record's file; its folder is made if absent.
        record: as JSON can hold it; compared whole, nested entries by their dotted names.

    Raises:
        ValueError: the folder is for something else, holds files but no record, or cannot be a
            folder; one line that names all differences.
    """
    folder = path.parent
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file, where a folder has to be; give another folder")
    wanted = json.loads(json.dumps(record))
    if not path.exists() and _is_unclaimed(path):
        write_text(path, json.dumps(wanted, indent=1))
    elif found := differences(_read_record(path), wanted):
        raise ValueError(
            f"{path} is of other work: {found}; give another folder, or the same data and settings"
        )


def _is_unclaimed(path: Path) -> bool:
    """Whether its folder, made if absent, is empty; not if another process has claimed it just now.

    Raises:
        ValueError: it holds files, but no record.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(file.name for file in path.parent.iterdir())
    if path.name in names:
        return False
    if foreign := [name for name in names if not name.startswith(".")]:
        raise ValueError(
            f"{path.parent} holds {foreign[0]} but no {path.name}, so it is of other work; give "
            "another folder"
        )
    return True


def _read_record(path: Path) -> dict[str, Any]:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        there = error
    if not isinstance(there, dict):
        raise ValueError(
            f"{path} is damaged; it should say in JSON what the folder is for; remove the folder "
            "to make it again, or give another one"
        )
    return there


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Every entry in which two records differ, in words and nested ones by dotted names; empty if
    none does.
    """
    old, new = _flat(there), _flat(now)
    return ", ".join(
        f"{name} is {_short(old.get(name))} there and {_short(new.get(name))} now"
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    )


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:60]


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested entries under their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def seal(folder: Path, names: Sequence[str]) -> None:
    """Mark work as finished: keep the hashes (SHA-256) of its files beside them."""
    write_text(folder / _SEAL, json.dumps({name: sha256_of(folder / name) for name in names}))


def is_sealed(folder: Path, names: Sequence[str]) -> bool:
    """Whether the work is finished and every one of its files is as it was then."""
    try:
        hashes = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
        return all(hashes[name] == sha256_of(folder / name) for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def share_out(pieces: Sequence[Piece], attempt: Callable[[Piece], bool]) -> None:
    """Return when all pieces of work are done, each by whichever process is free for it: also those
    of a process that is slower, or has died.

    Args:
        pieces: the same in all processes, those first that this one should begin with.
        attempt: does a piece, unless another process is at it; whether the piece is done.
    """
    left = list(pieces)
    while left := [piece for piece in left if not attempt(piece)]:
        time.sleep(_POLL_SECONDS)


def done_once(lock: Path, is_done: Callable[[], bool], work: Callable[[], object]) -> None:
    """Return when a piece of work is done by one process; if that one dies, by another.

    The first process of a command begins before the others: if the work is refused, it is the one
    to say so, and ends them.

    Args:
        lock: a file's path, whose folder is made if absent; the process that is at it holds it.
        is_done: whether it is done.
        work: does it; what it raises, this process raises, and another one begins anew.
    """

    def attempt(lock: Path) -> bool:
        with held(lock) as is_ours:
            if is_ours and not is_done():
                work()
        return is_ours or is_done()

    lock.parent.mkdir(parents=True, exist_ok=True)
    if getattr(rank_zero_only, "rank", None) and not is_done():
        time.sleep(_HEAD_START_SECONDS)
    share_out([lock], attempt)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock file, which is gone in the end; whether no other process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(PermissionError):  # Windows removes it when it is released
            path.unlink(missing_ok=True)
        lock.release()
