"""Commands in forks of this process, which has everything imported: each takes seconds, and can be
killed, or refused by the system, at any of its writes.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

from recipes.chain.command.command_line import run

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_TRACEBACK = 99
_POLL_SECONDS = 0.004

AtWrite = Callable[[int, str], None]
"""Called before each change of a file, with its number, from 1 on, and the path."""
Watch = Callable[[int], None]
"""Called with the id of the process that was started."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Of the exit; negative is the number of a signal."""
    errors: str
    """What it wrote to stderr."""
    seconds: float
    """Of the processor."""
    megabytes: float
    """Resident memory at most; that of this process, from which it was forked, included."""

    @property
    def lines(self) -> list[str]:
        """The lines on stderr but for progress bars."""
        lines = re.split(r"[\r\n]+", self.errors)
        return [line for line in lines if line.strip() and "%|" not in line and "it/s" not in line]

    @property
    def is_refusal(self) -> bool:
        """Whether it ended with status 2 and one line that says why."""
        told = [line for line in self.lines if line.startswith("error: ")]
        return self.status == 2 and len(told) == 1 and "Traceback" not in self.errors


def start(main: Callable[[Sequence[str]], object], words: Sequence[str], at: AtWrite | None) -> int:
    """Start a command as the terminal does; its output goes to files that `_output` names."""
    child = os.fork()
    if child:
        return child
    status = _TRACEBACK
    try:
        for number in (1, 2):
            os.dup2(os.open(_output(os.getpid(), number), os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        warnings.simplefilter("ignore")  # which the tests make errors, and a terminal does not
        sys.argv, sys.dont_write_bytecode = ["python", *words], True
        if at is not None:
            _watch_writes(at)
        run(lambda: main(words))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch_writes(at: AtWrite) -> None:
    done, busy = 0, False

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal done, busy
        opened = event == "open" and isinstance(details[2], int) and details[2] & _WRITES
        if busy or not (opened or event in _CHANGES) or not isinstance(details[0], (str, bytes)):
            return
        path = os.fsdecode(details[0])
        if path.startswith(("/dev/", "/proc/")):
            return
        done, busy = done + 1, True
        try:
            at(done, path)
        finally:
            busy = False

    sys.addaudithook(hook)


def _output(process: int, number: int) -> Path:
    return Path(tempfile.gettempdir()) / f"forked-{os.getppid()}-{process}-{number}"


def wait(child: int) -> Ended:
    """Wait for a started command."""
    _, status, used = os.wait4(child, 0)
    files = [Path(tempfile.gettempdir()) / f"forked-{os.getpid()}-{child}-{n}" for n in (1, 2)]
    errors = files[1].read_text(errors="replace") if files[1].exists() else ""
    for file in files:
        file.unlink(missing_ok=True)
    seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3
    return Ended(os.waitstatus_to_exitcode(status), errors, seconds, megabytes)


def command(
    main: Callable[[Sequence[str]], object],
    words: Sequence[str],
    *,
    at: AtWrite | None = None,
    watch: Watch | None = None,
) -> Ended:
    """Start a command and wait for it."""
    child = start(main, words, at)
    if watch is not None:
        watch(child)
    return wait(child)


def killed_at(write: int) -> AtWrite:
    """SIGKILL just before the change of this number."""

    def at(done: int, _: str) -> None:
        if done == write:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def clock(process: int) -> float:
    """Seconds of the processor that a process has had: on a busy machine it is at the same places
    as on an idle one.
    """
    return time.clock_gettime((~process << 3) | 2)  # Linux' number of such a clock


def killed_after(seconds: float) -> Watch:
    """SIGKILL when the process has had so many seconds of the processor."""

    def watch(process: int) -> None:
        running = os.pidfd_open(process)
        with suppress(OSError):  # it has just ended
            while not select([running], [], [], _POLL_SECONDS)[0]:
                if clock(process) >= seconds:
                    os.kill(process, signal.SIGKILL)
                    break
        os.close(running)

    return watch


def refused_from(is_met: Callable[[str], bool], number: int) -> AtWrite:
    """An error of the system at the first change of such a path and at every later change."""
    refusing = False

    def at(_: int, path: str) -> None:
        nonlocal refusing
        refusing = refusing or is_met(path)
        if refusing:
            raise OSError(number, os.strerror(number), path)

    return at
