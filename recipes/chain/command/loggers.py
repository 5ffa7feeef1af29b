"""Lightning's loggers, besides the CSV files that every training writes."""

from __future__ import annotations

import pydoc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

__all__ = ["logger_of"]


def _tensorboard(folder: Path) -> Logger:
    return loggers.TensorBoardLogger(folder, name="tensorboard")


def _wandb(folder: Path) -> Logger:
    import wandb

    wandb.finish()  # the fit before, whose run would go on
    return loggers.WandbLogger(
        project="minority-augment", name=folder.name, save_dir=folder, offline=True
    )


def _mlflow(folder: Path) -> Logger:
    return loggers.MLFlowLogger(
        experiment_name="minority-augment",
        run_name=folder.name,
        tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}",
    )


_NAMED = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
"""Package -> its logger of a training in a folder."""


def logger_of(name: str | None) -> Callable[[Path], Logger] | None:
    """What makes the logger of a training from the folder of the training.

    Args:
        name: tensorboard, wandb (offline; `wandb sync` uploads what it writes), mlflow (an SQLite
            file), or the path of a class that takes `save_dir`, as most of Lightning's do; None for
            no other logger than the CSV files'.

    Raises:
        ValueError: no such class, or its package is not installed.
    """
    if name is None:
        return None
    if name in _NAMED:
        if find_spec(name) is None:
            raise ValueError(
                f"logger is {name}, whose package is not installed; "
                "pip install 'minority-augment[loggers]', or leave --logger out"
            )
        return _NAMED[name]
    # Of Lightning's alone: looking a name up imports its module, which runs what stands in it.
    found = pydoc.locate(name) if name.startswith("lightning.") else None
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise ValueError(
            f"logger is {name}; give {', '.join(_NAMED)}, or the path of a class of Lightning's "
            "loggers, such as lightning.pytorch.loggers.CometLogger"
        )
    kind: Any = found  # its arguments are known by convention only
    return lambda folder: kind(save_dir=str(folder))
