"""A search for settings by Optuna: seeded, resumable, and the same in every process.

The trials stand in a file (`JournalStorage`). Trial n is drawn by a sampler (TPE, Bergstra et al.
2011) with the seed `seed + n`, from the finished trials alone, and one that was stopped is taken up
again; so a search that was stopped finds what it would have found.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from lightning.fabric import Fabric

if TYPE_CHECKING:
    import optuna

__all__ = ["Search", "Space", "check_space", "suggested"]

Space = Mapping[str, Any]
"""Dotted setting -> list of choices, or {low, high} of a number, perhaps with `log` or `step`."""
_RANGE = {"low", "high", "log", "step"}


def check_space(space: Space) -> None:
    """Refuse what is no space.

    Raises:
        ValueError: names the setting.
    """
    if not space:
        raise ValueError("space is empty; name at least one setting and its choices")
    for path, allowed in space.items():
        is_range = isinstance(allowed, Mapping) and {"low", "high"} <= set(allowed) <= _RANGE
        if not is_range and not (isinstance(allowed, Sequence) and len(allowed)):
            raise ValueError(
                f"space.{path} is {allowed!r}; give a list of choices, or low and high of a number"
            )


def suggested(trial: optuna.trial.BaseTrial, space: Space) -> dict[str, Any]:
    """A value for every setting of the space; how many repeats are replaced is asked for only where
    some are.
    """
    chosen: dict[str, Any] = {}
    for path, allowed in space.items():
        if path.startswith("arm.repeats.") and chosen.get("arm.rows") == "once":
            continue
        if not isinstance(allowed, Mapping):
            chosen[path] = trial.suggest_categorical(path, list(allowed))
        elif all(isinstance(allowed[end], int) for end in ("low", "high")):
            chosen[path] = trial.suggest_int(path, **allowed)
        else:
            chosen[path] = trial.suggest_float(path, **allowed)
    return chosen


class Search:
    """The trials, one after the other; the first process draws them.

    Args:
        file: of the trials; an earlier session's are continued.
        space: what is searched.
        start: the first trial's values.
        seed: of the draws.
        fabric: a launched Fabric, whose processes all do the same.

    Raises:
        ValueError: Optuna is not installed.
    """

    def __init__(
        self, file: Path, space: Space, start: Mapping[str, Any], *, seed: int, fabric: Fabric
    ) -> None:
        self.space, self.seed, self.fabric = space, seed, fabric
        self._trial: Any = None
        self.optuna = _optuna()
        if fabric.is_global_zero:
            backend = self.optuna.storages.journal.JournalFileBackend(str(file))
            self.study = self.optuna.create_study(
                storage=self.optuna.storages.JournalStorage(backend),
                study_name="tune",
                direction="maximize",
                pruner=self.optuna.pruners.MedianPruner(n_startup_trials=5),
                load_if_exists=True,
            )
            self._take_up(start)

    def _take_up(self, start: Mapping[str, Any]) -> None:
        """Put what comes first into the queue: the start, or the trial that was stopped."""
        states = self.optuna.trial.TrialState
        if not self.study.trials:
            self.study.enqueue_trial(dict(start))
        for trial in self.study.get_trials(states=[states.RUNNING]):
            self.study.tell(trial.number, state=states.FAIL)
            self.study.enqueue_trial(trial.params)

    def _finished(self) -> list[Any]:
        states = self.optuna.trial.TrialState
        done: list[Any] = self.study.get_trials(states=[states.COMPLETE, states.PRUNED])
        return done

    def next(self, trials: int) -> dict[str, Any] | None:
        """The values of the next trial; None when there are so many."""
        chosen = None
        if self.fabric.is_global_zero and (n := len(self._finished())) < trials:
            self.study.sampler = self.optuna.samplers.TPESampler(seed=self.seed + n)
            self._trial = self.study.ask()
            chosen = suggested(self._trial, self.space)
        found: dict[str, Any] | None = self.fabric.broadcast(chosen)
        return found

    def hopeless(self, step: int, value: float) -> bool:
        """Tell the value of the trial so far; whether it may be given up, which it then is."""
        stop = False
        if self.fabric.is_global_zero:
            self._trial.report(value, step)
            stop = self._trial.should_prune()
        if stop := bool(self.fabric.broadcast(stop)):
            self.give_up()
        return stop

    def give_up(self) -> None:
        """Tell that the trial has no value."""
        if self.fabric.is_global_zero:
            self.study.tell(self._trial, state=self.optuna.trial.TrialState.PRUNED)

    def finish(self, value: float) -> None:
        """Tell the value of the trial."""
        if self.fabric.is_global_zero:
            self.study.tell(self._trial, value)

    def table(self) -> pd.DataFrame:
        """The finished trials: `trial, state, value` and their settings; on the first process."""
        rows = [
            {"trial": i, "state": t.state.name.lower(), "value": t.value, **t.params}
            for i, t in enumerate(self._finished())
        ]
        return pd.DataFrame(rows).reindex(columns=["trial", "state", "value", *self.space])

    def best(self) -> dict[str, Any]:
        """The settings of the best trial that was not given up; on the first process."""
        return dict(self.study.best_trial.params)


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ValueError(
            "optuna is not installed, which chooses the trials; pip install "
            "'minority-augment[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
