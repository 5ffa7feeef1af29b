"""What the campaign of faults is about: a small study, and a table of what it survived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forked import command
from recipe_doubles import digests, tiny_flags

from recipes import celeba_augment

__all__ = ["Study", "Tally", "results"]

_FEW = [
    "--study.seeds=1",
    "--num_synthetic=4",
    "--num_val=6",
    *("--arms", "real", "minority"),
]
_PATTERNS = ("*.png", "*.csv", "*.npz")


@dataclass
class Tally:
    """Faults by kind: how many were tried and how many were survived."""

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, survived: bool) -> bool:
        """Count a fault; returns whether it was survived."""
        self.tried[kind] += 1
        self.survived[kind] += survived
        return survived


@dataclass(frozen=True)
class Study:
    """A small study and what it leaves when nothing goes wrong."""

    root: Path
    reference: dict[str, str]
    """File below the folder -> its hash."""
    seconds: float
    """Of the processor, that it takes."""

    def flags(self, out: Path) -> list[str]:
        """Its command line with another folder."""
        return [*tiny_flags(self.root / "data", self.root / "generator", out), *_FEW]

    def differing(self, out: Path) -> list[str]:
        """The files that are not as they are when nothing goes wrong."""
        found = results(out)
        names = sorted({*found, *self.reference})
        return [name for name in names if found.get(name) != self.reference.get(name)]

    def run(self, out: Path, more: Sequence[str] = ()) -> None:
        """Run, or continue, it to its end."""
        ended = command(celeba_augment.main, [*self.flags(out), *more])
        assert ended.status == 0, ended.errors


def results(out: Path) -> dict[str, str]:
    """Hashes of the files that must not differ: not those of the fits' logs, one a session."""
    found = {name: hash for pattern in _PATTERNS for name, hash in digests(out, pattern).items()}
    return {name: hash for name, hash in found.items() if "/log/" not in name}
