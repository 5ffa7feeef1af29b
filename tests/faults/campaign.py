"""What the campaign of faults is about: a small study, and a table of what it survived."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from random import Random
from unittest.mock import patch

from forked import AtWrite, Ended, Watch, command
from recipe_doubles import digests, tiny_flags

from recipes import celeba_augment
from recipes.chain.command.command_line import parse
from recipes.chain.run import Run
from recipes.chain.settings.study import NO_FLAGS, RunConfig

__all__ = ["Study", "Tally", "Turn", "results"]

_FEW = [
    "--study.seeds=1",
    "--num_synthetic=4",
    "--num_val=6",
    *("--arms", "real", "minority"),
]
_OF_THE_SESSION = ("report.html", "config.yaml", ".lock")
"""Files that tell times and places: they have to be there."""
_NOT_COMPARED = ("/log/", "cache/images-")
"""The fits' logs, one a session, and decoded images, whose names are of their paths."""


@dataclass
class Tally:
    """Faults by kind: how many were tried and how many were survived."""

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str, survived: bool) -> bool:
        """Count a fault, and print it where pytest shows that (`-s`); whether it was survived."""
        print(f"{kind}: {'survived' if survived else 'lost'}", flush=True)
        self.tried[kind] += 1
        self.survived[kind] += survived
        return survived


@dataclass(frozen=True)
class Turn:
    """What a command does between two moments, in seconds of the processor."""

    what: str
    begin: float
    end: float


@dataclass(frozen=True)
class Study:
    """A small study and what it leaves when nothing goes wrong."""

    root: Path
    reference: dict[str, str] = field(default_factory=dict)
    """File below the folder -> its hash."""
    writes: tuple[str, ...] = ()
    """The path of every change of a file, in order."""
    turns: tuple[Turn, ...] = ()

    @property
    def seconds(self) -> float:
        """Of the processor, that it takes."""
        return self.turns[-1].end

    def moment(self, rng: Random) -> float:
        """After how many seconds of the processor; each thing that it does is equally likely."""
        what = rng.choice(sorted({turn.what for turn in self.turns}))
        turns = [turn for turn in self.turns if turn.what == what]
        (turn,) = rng.choices(turns, [turn.end - turn.begin for turn in turns])
        return rng.uniform(turn.begin, turn.end)

    def flags(self, out: Path) -> list[str]:
        """Its command line with another folder."""
        return [*tiny_flags(self.root / "data", self.root / "generator", out), *_FEW]

    def differing(self, out: Path) -> list[str]:
        """The files that are not as they are when nothing goes wrong."""
        found = results(out)
        names = sorted({*found, *self.reference})
        return [name for name in names if found.get(name) != self.reference.get(name)]

    def run(self, out: Path, at: AtWrite | None = None, watch: Watch | None = None) -> Ended:
        """Run, or continue, it until it ends or is killed."""
        config = _read(*self.flags(out))
        return command(lambda _: _main(config), (), at=at, watch=watch)

    def finish(self, out: Path) -> None:
        """Run, or continue, it to its end."""
        ended = self.run(out)
        assert ended.status == 0, ended.errors

    def told(
        self, out: Path, at: AtWrite | None = None, watch: Watch | None = None
    ) -> tuple[Ended, tuple[Turn, ...]]:
        """Run it until it ends or is killed; what it did, and when."""
        with tempfile.NamedTemporaryFile("r+") as file:
            tell = partial(print, file=file, flush=True)
            with patch.object(Run, "doing", _telling(tell)):
                ended = self.run(out, at, watch)
            file.seek(0)
            lines = [line.split(maxsplit=1) for line in file.read().splitlines()]
        marks = [(float(second), what) for second, what in lines]
        moments = pairwise([*marks, (ended.seconds, "")])
        return ended, tuple(Turn(what, begin, end) for (begin, what), (end, _) in moments)


@cache
def _read(*words: str) -> RunConfig:
    """A command line, read once for all its commands: nothing is written meanwhile."""
    return parse(RunConfig, words, presets=celeba_augment.PRESETS, skip=NO_FLAGS)


def _main(config: RunConfig) -> None:
    with patch.object(celeba_augment, "parse", return_value=config):
        celeba_augment.main()


def _telling(tell: Callable[..., None]) -> Callable[[Run, str], AbstractContextManager[None]]:
    """`Run.doing`, which tells whenever something begins, or is gone back to."""
    doing, going_on = Run.doing, ["starting"]

    @contextmanager
    def told(run: Run, what: str) -> Iterator[None]:
        going_on.append(what.split()[0].strip(","))
        tell(time.process_time(), going_on[-1])
        with doing(run, what):
            yield
        going_on.pop()
        tell(time.process_time(), going_on[-1])

    tell(0.0, *going_on)
    return told


def results(out: Path) -> dict[str, str]:
    """Hashes of the files that a run leaves, however often it was stopped."""
    found = digests(out)
    compared = [name for name in found if not any(part in name for part in _NOT_COMPARED)]
    return {name: "" if name in _OF_THE_SESSION else found[name] for name in compared}
