"""A run: its folder, which no other run may use, its devices, and what it tells on the way."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from lightning.fabric import Fabric

from classify.files import differences, write_text
from recipes.chain.command.devices import chosen_precision, launch, processes, resolved_devices
from recipes.chain.command.files import check_folder
from recipes.chain.command.stopping import Stopped
from recipes.chain.settings.study import RunConfig

__all__ = ["RECORD", "Run"]

RECORD = "config.yaml"
"""A run's settings, in its folder."""
_CIRCUMSTANCES = frozenset(
    {"out", "devices", "num_nodes", "preview", "trials", "allow_unlike", "logger"}
)
"""Settings that do not change the results: another value continues the same run."""
_RESULTS = ("scores.csv", "summary.csv", "comparison.csv", "report.html")
"""Files that a run writes last, over those of its own earlier session."""

_LEFT_BEHIND = re.compile(
    r"\.images-[0-9a-f]{16}-\w{8}|\..+\.\d+(-[0-9a-f]{8})?\.\w+|\..+\.lock|\.taken-[0-9a-f]{8}"
)
"""Names under which decoded images and files are written, until they are whole, and of what lies
there while processes share the work."""


class Run:
    """A run, whose folder no other run holds until its block ends.

    Args:
        config: the settings.
        within: a larger piece of work that this run is a part of, whose devices and decoded images
            it shares.
    """

    def __init__(self, config: RunConfig, within: Run | None = None) -> None:
        self.config, self.out = config, config.out
        self._within = within
        self.cache: Path = within.cache if within else self.out / "cache"
        """Folder of decoded images."""
        self.notes: list[str] = []
        """What the report should say besides the figures; a sentence each."""
        self.cautions: list[str] = []
        """Why its verdict should not be trusted; a sentence each."""
        self.reservations: list[str] = []
        """What the verdict begins with; a sentence each."""
        self._lock = FileLock(self.out / ".lock")
        self._is_first = False
        """Whether no run held the folder before this one."""

    @cached_property
    def fabric(self) -> Fabric:
        """The devices, started when they are first needed: what is refused before that is said by
        one process.

        Raises:
            ValueError: they are not there.
        """
        return self._within.fabric if self._within else _launched(self.config)

    def hold(self) -> None:
        """Keep other runs out of the folder until this one ends, and remove what one that was
        killed had half written there; on one process.

        Raises:
            ValueError: another run stands there, or the same one is going on.
        """
        self.check_claim()
        if self._lock.is_locked:
            return
        is_first = not Path(self._lock.lock_file).is_file()
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"{self.out} is in use by a run that is going on; wait for it, or give another "
                "--out"
            ) from error
        self._is_first = is_first
        if is_first:  # so what lies there is no run's
            return
        for path in [p for p in self.out.rglob(".*") if _LEFT_BEHIND.fullmatch(p.name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def claim(self) -> None:
        """Hold the folder, and write `config.yaml` into it, anew where the run grows; on one
        process.

        Raises:
            ValueError: another run stands there, or the same one is going on.
        """
        self.hold()
        path = self.out / RECORD
        if not path.is_file() or self._grows(yaml.safe_load(path.read_text(encoding="utf-8"))):
            write_text(path, yaml.safe_dump(self.config.record(), sort_keys=False))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Or they would report a lost connection; devices that were never started have none.
        if isinstance(error, Stopped) and "fabric" in vars(self):
            for process in getattr(self.fabric.strategy.launcher, "procs", ()):
                process.kill()
        if self._is_first and not (self.out / RECORD).is_file():
            with suppress(OSError):  # Windows removes it when it is released
                Path(self._lock.lock_file).unlink()  # of a run that was refused
        self._lock.release()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage, and note how long it took."""
        self.say(f"{name} ...")
        started = time.perf_counter()
        with self.doing(name[:1].lower() + name[1:]):
            yield
        self.notes.append(f"{name}: {time.perf_counter() - started:.0f} s in this session.")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Let a run that is stopped here say what it was doing; the innermost name is taken."""
        try:
            yield
        except Stopped as stopped:
            stopped.where = stopped.where or what
            raise

    def say(self, text: str) -> None:
        """Print once, however many processes there are."""
        if self.fabric.is_global_zero:
            print(text, flush=True)

    def note(self, text: str) -> None:
        """Print it and put it into the report."""
        self.notes.append(text)
        self.say(text)

    def caution(self, text: str) -> None:
        """Print it, and put it beside the report's verdict."""
        self.cautions.append(text)
        self.say(f"caution: {text}")

    def reserve(self, text: str) -> None:
        """Print it, and let the verdict begin with it."""
        self.reservations.append(text)
        self.say(text)

    def check_claim(self) -> None:
        """Refuse a folder that holds another run, or results that are no run of ours; of a preview,
        which writes no results, none.

        To be called when bad input has been refused, which a user wants to know of first.
        """
        if self.config.preview:
            return
        check_folder(self.out)
        path, record = self.out / RECORD, self.config.record()
        if not path.is_file():
            if results := [name for name in _RESULTS if (self.out / name).exists()]:
                raise ValueError(
                    f"{self.out} holds {results[0]} but no {RECORD}, so no run of ours; "
                    "give another --out"
                )
            return
        try:
            found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} holds no settings of a run; give another --out") from error
        if lacking := sorted(record.keys() - found.keys()):
            raise ValueError(
                f"{path} says nothing of {lacking[0]}, so it is of another version; "
                "give another --out"
            )
        if self._grows(found):
            found["study"] = record["study"]
        told = record.keys() - _CIRCUMSTANCES
        old, new = ({k: one.get(k) for k in record if k in told} for one in (found, record))
        if differing := differences(old, new):
            raise ValueError(
                f"{self.out} holds another run: {differing}; give another --out, or the settings "
                "in its config.yaml"
            )

    def _grows(self, found: Mapping[str, Any]) -> bool:
        """Whether more seeds are wanted than the record in the folder has."""
        study = found["study"]  # of a record that was cut short, not always a mapping
        seeds = study.get("seeds") if isinstance(study, Mapping) else None
        is_fewer = isinstance(seeds, int) and seeds < self.config.study.seeds
        return self.config.may_grow and is_fewer


def _launched(config: RunConfig) -> Fabric:
    devices = processes(config.devices)
    machines = resolved_devices(devices, config.num_nodes)[1]
    if config.preview and machines > 1:
        raise ValueError(
            f"preview is given on {machines} machines; one makes a preview, so start it on one"
        )
    return launch(devices, num_nodes=config.num_nodes, precision=chosen_precision(config.precision))
