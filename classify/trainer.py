"""Lightning's Trainer as a fit wants it: one device, resumable, and nothing on the console."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from torch import Tensor
from tqdm import tqdm

from classify.config import FitConfig
from classify.data import FitData
from classify.files import write_bytes

MakeLogger = Callable[[Path], Logger]
"""From the folder of a fit to a logger of it, besides that of the CSV file."""

LOG = "log"
"""Folder of the CSV files of a fit, one per session."""
STATE = "last.ckpt"
"""File of the state that an interrupted fit continues from."""
_rank_zero: Any = rank_zero_only
"""Lightning's; its attribute `rank` is not typed."""
_LIGHTNINGS_OWN_WARNINGS = (".*LeafSpec.*", ".*sync_dist=True.*", ".*many workers.*")
"""It calls a deprecated class of torch, takes a fit for one of several processes together, and
wants as many workers as there are cores."""
_log = logging.getLogger(__name__)


def make_trainer(
    config: FitConfig,
    data: FitData,
    folder: Path | None,
    callbacks: list[L.Callback],
    device: torch.device | None,
    logger: MakeLogger | None = None,
) -> L.Trainer:
    """A Trainer for one device, even inside a job of several processes, that says nothing."""
    logs: list[Logger] = []
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        callbacks = [*callbacks, SaveState(folder / STATE)]
        logs = [CSVLogger(folder, name=LOG), *([logger(folder)] if logger else [])]
    numbered = device is not None and device.index is not None and device.type != "cpu"
    return L.Trainer(
        accelerator=device.type if device else "auto",
        devices=[device.index] if device and numbered else 1,
        plugins=[LightningEnvironment(), _WholeFile()],
        precision=config.precision,
        max_epochs=len(data.bounds) - 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=logs or False,
        callbacks=callbacks,
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def check_whole(trainer: L.Trainer, steps: int) -> None:
    """Take no fit for a finished one that something stopped without an exception.

    Raises:
        RuntimeError: it took fewer steps than it should.
    """
    if trainer.interrupted or trainer.global_step < steps:
        raise RuntimeError(
            f"the fit was stopped after {trainer.global_step} of {steps} steps; the same call "
            "continues"
        )


class KeepBest(L.Callback):
    """Keeps the weights of the best validation in memory, and in the state a fit continues from.

    A score that is not a number counts as the lowest; of equal ones the later is kept.
    """

    def __init__(self, monitor: str) -> None:
        """`monitor`: name of the logged score, higher is better."""
        self.monitor = monitor
        self.score = -math.inf
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        score = -math.inf if math.isnan(score) else score
        if score >= self.score:
            self.score, self.step = score, trainer.global_step
            state = pl_module.state_dict()
            self.weights = {name: value.detach().cpu().clone() for name, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.step = state_dict["score"], state_dict["step"]
        self.weights = state_dict["weights"]


class SaveState(Checkpoint):
    """Writes what the fit continues from, after every round."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self.file)


class _WholeFile(TorchCheckpointIO):
    """Writes beside the target, where Lightning's own leaves the checkpoints of killed runs in the
    system's temporary folder.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())


def saved_state(folder: Path | None) -> Path | None:
    """The state to continue from; None where there is none that can be read."""
    if folder is None or not (file := folder / STATE).exists():
        return None
    try:
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a damaged file can raise nearly anything in the reader
        _log.warning("%s is damaged: the fit starts anew", file)
        return None
    return file


def forget_state(folder: Path) -> None:
    """Remove what a finished fit would have continued from, and what a killed one left of it."""
    for file in (folder / STATE, *folder.glob(f".{STATE}.*.tmp")):
        file.unlink(missing_ok=True)


class StepBar(L.Callback):
    """One progress bar over the optimiser steps of the whole fit, on a terminal only."""

    def __init__(self, label: str, steps: int, monitor: str) -> None:
        self.label, self.steps, self.monitor = label, steps, monitor

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        how: dict[str, Any] = {"unit": "step", "delay": 2, "leave": False, "disable": None}
        self._bar = tqdm(total=self.steps, initial=trainer.global_step, desc=self.label, **how)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        self._bar.set_postfix_str(f"{self.monitor} {score:.3f}", refresh=False)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


@contextmanager
def alone() -> Iterator[None]:
    """Let Lightning's logger write in any process, not only in the first: a fit is one process's
    own.
    """
    rank = _rank_zero.rank
    _rank_zero.rank = 0
    try:
        yield
    finally:
        _rank_zero.rank = rank


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's tips, device lines and own warnings off the console."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _LIGHTNINGS_OWN_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
