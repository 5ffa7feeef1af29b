"""What the stages of a run take: seconds, memory and disk, each counted to the innermost stage."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recipes.chain.benchmarks.benchmarking import resident
from recipes.chain.run import Run
from recipes.chain.settings.study import RunConfig

__all__ = ["Clock", "MeasuredRun", "Stages", "Taken"]

Clock = Literal["wall", "cpu"]
_OUTSIDE = "the rest"
"""What is in no stage."""


@dataclass(kw_only=True)
class Taken:
    """By a stage, all its turns together."""

    seconds: float = 0.0
    processor: float = 0.0
    """Seconds of this process on all cores, which say more where others use them too."""
    megabytes: float | None = None
    """Resident memory of the process at most, files that are mapped included; None where Linux'
    /proc is not."""
    disk: int = 0
    """Bytes of files by which the folder grew; a file with several names counts once."""

    def by(self, clock: Clock) -> float:
        """Its seconds by a clock."""
        return self.seconds if clock == "wall" else self.processor


class Stages:
    """Counts what goes on to the innermost of the stages that are going on."""

    def __init__(self, folder: Path) -> None:
        """`folder`: whose files are counted."""
        self.taken: dict[str, Taken] = {}
        self._folder = folder
        self._open = [_OUTSIDE]
        self._began, self._worked, self._size = *_clocks(), _bytes(folder)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count the block to a stage, but for what its own stages take."""
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        taken = self.taken.setdefault(self._open[-1], Taken())
        now, worked = _clocks()
        taken.seconds += now - self._began
        taken.processor += worked - self._worked
        if (peak := resident("VmHWM")) is not None:
            taken.megabytes = max(peak, taken.megabytes or 0.0)
        size = _bytes(self._folder)
        taken.disk += size - self._size
        with suppress(OSError):  # Linux' way to begin a new peak
            Path("/proc/self/clear_refs").write_text("5")
        self._began, self._worked, self._size = *_clocks(), size


class MeasuredRun(Run):
    """A run that measures what each of its stages takes."""

    def __init__(self, config: RunConfig, stages: Stages) -> None:
        super().__init__(config)
        self._stages = stages

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        with self._stages.of(what), super().doing(what):
            yield
        taken = self._stages.taken[what]
        self.say(
            f"  {what}: {taken.seconds:,.1f} s, {taken.processor:,.1f} of the processor, "
            f"{taken.megabytes or 0:,.0f} MB"
        )


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _bytes(folder: Path) -> int:
    total, seen = 0, set[int]()
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                status = os.stat(os.path.join(place, name))
                total += 0 if status.st_ino in seen else status.st_size
                seen.add(status.st_ino)
    return total
