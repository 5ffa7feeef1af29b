"""Ctrl-C and SIGTERM: a command ends at once, wherever it is, and says where that was; and its
further processes end with it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread, Timer
from types import FrameType

__all__ = ["Stopped", "end_with", "signals_left_alone", "signals_raised"]

_SIGNALS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""Signals that stop a command, and how Python treats them on its own."""
_AGAIN_SECONDS = 0.1
_LOOK_SECONDS = 0.2


class Stopped(BaseException):
    """Ctrl-C or SIGTERM has arrived.

    It is no KeyboardInterrupt, which Lightning's Trainer turns into an exit without a word; SIGTERM
    alone it would heed only at the end of a step, and then exit as if all were well.
    """

    def __init__(self, number: int) -> None:
        """`number`: the signal's."""
        super().__init__(number)
        self.number = number
        self.where = ""
        """What was being done, as `Run.doing` names it."""

    def __str__(self) -> str:
        where = f" while {self.where}" if self.where else ""
        name = signal.Signals(self.number).name
        return f"stopped by {name}{where}; the same command continues"


def end_with(parent: int) -> None:
    """End this process by SIGTERM once its parent has ended; only a process that is exchanging data
    with it would notice otherwise. Windows does not tell that a parent has ended: there it goes on.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


@contextmanager
def signals_left_alone() -> Iterator[None]:
    """Let the system end the process at Ctrl-C and SIGTERM: Python's handlers do not run while
    another language's code waits. Nothing may be half done then, for nothing is put in order.
    Signals that the caller ignores stay ignored.
    """
    heeded = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, signal.SIG_DFL) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def signals_raised() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM a `Stopped`, unless the caller ignores or handles them.

    Python drops what is raised while it clears objects away, which is a good part of what happens
    between two fits; the signal is then sent again.
    """
    owner, unraisable, over = os.getpid(), sys.unraisablehook, Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a worker process that this one forked
        os.kill(os.getpid(), number)

    def send_again(number: int) -> None:
        if not over.is_set():
            os.kill(owner, number)

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, Stopped):
            Timer(_AGAIN_SECONDS, send_again, [what.exc_value.number]).start()
        else:
            unraisable(what)

    taken = {one: own for one, own in _SIGNALS.items() if signal.getsignal(one) is own}
    sys.unraisablehook = dropped
    for one in taken:
        signal.signal(one, stop)
    try:
        yield
    finally:
        over.set()
        for one, own in taken.items():
            signal.signal(one, own)
        sys.unraisablehook = unraisable
