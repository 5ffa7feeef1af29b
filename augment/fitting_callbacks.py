"""Beside the steps of a training: how long it takes is told, and its state is saved."""

from __future__ import annotations

import io
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from tqdm import tqdm

from augment.files import write_bytes

__all__ = ["Checkpoints", "Progress"]

_WARMUP_STEPS = 2
"""The first ones load libraries and allocate memory."""
_MEASURED_STEPS = 10
_LINES = 10
"""How often the time that is left is told where no bar can be drawn."""


class Progress(Callback):
    """One bar over all steps; before, how long they take, measured on the first few."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first, self.began = trainer.global_step, time.perf_counter()
        hidden = None if trainer.is_global_zero else True  # None hides it from a file
        self.bar = tqdm(
            total=self.steps, initial=self.first, unit="step", disable=hidden, leave=False
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.bar.update()
        step = trainer.global_step
        taken, left = step - self.first - _WARMUP_STEPS, self.steps - step
        if not trainer.is_global_zero:
            return
        if taken <= 0:
            self.began = time.perf_counter()
            return
        seconds = (time.perf_counter() - self.began) / taken
        if taken == _MEASURED_STEPS:
            measured = f"{seconds:.2g} s a step, measured on {taken}"
            say(f"{left:,} more steps take about {_duration(seconds * left)} ({measured})")
        is_due = taken > _MEASURED_STEPS and step % max(1, self.steps // _LINES) == 0
        if self.bar.disable and left and is_due:
            loss = float(trainer.callback_metrics["train/loss"])
            about = _duration(seconds * left)
            say(f"step {step:,} of {self.steps:,}: loss {loss:.3f}, about {about} left")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


def say(text: str) -> None:
    """Print a line above the bar, at once."""
    tqdm.write(text)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _WholeFile(TorchCheckpointIO):
    """Writes beside the target, where Lightning's own leaves the checkpoints of killed runs in the
    system's temporary folder.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), buffer.getvalue())


class Checkpoints(Checkpoint):
    """Writes what the training continues from: at intervals, at its end, and when it is stopped.

    Ctrl-C and SIGTERM wait for the end of their step, or a part of the weights would be a step
    ahead of the rest. A second one does not wait. Neither does any where several processes train
    together: the others would wait for this one.
    """

    def __init__(self, file: Path, *, every: int, steps: int) -> None:
        self.file, self.every, self.steps = file, every, steps
        self._handlers: dict[int, Any] = {}
        self._arrived: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = _WholeFile()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._handlers[number] = signal.signal(number, self._postpone)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if self._arrived or trainer.should_stop or step % self.every == 0 or step == self.steps:
            trainer.save_checkpoint(self.file)
        if self._arrived:
            self._deliver(self._arrived)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _postpone(self, number: int, frame: FrameType | None) -> None:
        if self._arrived:
            self._deliver(number)
        self._arrived = number

    def _deliver(self, number: int) -> None:
        """Leave the signal to whoever would have had it."""
        self._restore()
        signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
