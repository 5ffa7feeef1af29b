"""Lightning's Trainer as a fit wants it: one device, resumable, and nothing on the console."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger

from classify.callbacks import SaveState
from classify.config import FitConfig
from classify.data import FitData

STATE = "last.ckpt"
"""File of the state an interrupted fit continues from."""
_first_only: Any = rank_zero_only
"""Its attribute `rank` is not typed."""
_LIGHTNINGS_OWN_WARNINGS = (".*LeafSpec.*",)
"""It calls a deprecated class of torch."""


def make_trainer(
    config: FitConfig,
    data: FitData,
    folder: Path | None,
    callbacks: list[L.Callback],
    device: torch.device | None,
) -> L.Trainer:
    """A Trainer for one device, even inside a job of several processes, that says nothing."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        callbacks = [*callbacks, SaveState(folder / STATE)]
    return L.Trainer(
        accelerator=device.type if device else "auto",
        devices=[device.index]
        if device and device.index is not None and device.type != "cpu"
        else 1,
        plugins=[LightningEnvironment()],
        precision=config.precision,
        max_epochs=len(data.bounds) - 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=CSVLogger(folder, name="log") if folder else False,
        callbacks=callbacks,
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


@contextmanager
def alone() -> Iterator[None]:
    """A fit is one process's own, whichever of the study's processes that is: Lightning's logger
    would write in the first one only.
    """
    rank = _first_only.rank
    _first_only.rank = 0
    try:
        yield
    finally:
        _first_only.rank = rank


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's tips and device lines off the console, and the warnings named here, which
    are its own.
    """
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
