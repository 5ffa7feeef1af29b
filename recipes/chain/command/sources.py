"""What a setting names by a word or a folder, found where people look for it.

A folder that holds what is meant one level down, as `runs/gen` of `train_generator.py` holds
`generator/`, stands for what it holds; a word that is nearly a known name is refused with the name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from augment import embedded_generators
from classify.datasets import holds_table
from classify.names import closest, one_of
from labeling import embedded_labelers

__all__ = [
    "DATA",
    "FITTED",
    "GENERATOR",
    "GENERATORS",
    "LABELERS",
    "SOURCE",
    "TRAIN",
    "Source",
]

TRAIN, GENERATOR = "train", "generator"
FITTED = (TRAIN, GENERATOR)
"""The labelers that a run fits first, on its own rows."""
SOURCE = "source"
"""Key of a field's metadata under which a `Source` stands."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a setting's value may lie."""

    holds: Callable[[Path], bool]
    """Whether a folder is such a thing."""
    names: Callable[[], Sequence[str]] = list
    """Words that are no folder."""

    def found(self, given: Any, setting: str) -> Any:
        """The value, or in its place the folder below that it means; of a list each.

        Raises:
            ValueError: a folder that holds several, or a word that is nearly a name.
        """
        if isinstance(given, (list, tuple)):
            return [self.found(one, setting) for one in given]
        if given is None or str(given) in self.names():
            return given
        folder = Path(given).expanduser()
        if not folder.exists() and closest(str(given), self.names()):
            raise ValueError(
                f"{setting} is {given}, no name, file or folder; {one_of(str(given), self.names())}"
            )
        if not folder.is_dir() or self.holds(folder):
            return given
        below = [one for one in sorted(folder.iterdir()) if one.is_dir() and self.holds(one)]
        if len(below) > 1:
            raise ValueError(
                f"{setting} is {given}, which holds {' and '.join(map(str, below))}; give one of "
                "them"
            )
        if not below:
            return given
        _say(f"{setting} is {below[0]}, found in {given}")
        return type(given)(below[0])


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


def _has(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)


def _is_generator(folder: Path) -> bool:
    return _has(folder, "model_index.json", "unet/config.json", "scheduler_config.json")


def _is_labeler(folder: Path) -> bool:
    ours = _has(folder, "card.json") and _has(folder, "model.safetensors", "head.safetensors")
    return (ours or _has(folder, "config.json")) and not _is_generator(folder)


DATA: Mapping[str, Source] = {SOURCE: Source(holds=holds_table)}
"""Metadata of a field that names a folder of labelled images."""
GENERATORS: Mapping[str, Source] = {SOURCE: Source(holds=_is_generator, names=embedded_generators)}
"""Metadata of one that names a generator."""
LABELERS: Mapping[str, Source] = {
    SOURCE: Source(holds=_is_labeler, names=lambda: [*FITTED, *embedded_labelers()])
}
"""Metadata of one that names a labeler."""
