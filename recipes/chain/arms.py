"""Arms as data: what each trains on, how its rows are drawn, and what its fits change.

To add an arm is to add an entry to `CONTROLS`, or to `define_arms` in a run's YAML; another way to
draw rows is one function more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from augment import merge
from classify import Arm, FitConfig, duplicate, oversample, relabel

__all__ = ["CONTROLS", "ArmSettings", "Material", "make_arm"]


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """One arm of a study; by default the real images as they are."""

    sets: tuple[str, ...] = ()
    """Names of the synthetic sets that join the real rows."""
    real: Literal["all", "none"] = "all"
    """Which real train rows take part; none trains on synthetic images alone."""
    rows: Literal["once", "duplicated", "relabelled", "oversampled"] = "once"
    """How often a row comes up."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Where the fits differ from the run's, such as the loss, {balance: 1.0}."""
    meaning: str = ""
    """What the arm tells, for a reader."""


CONTROLS: Mapping[str, ArmSettings] = {
    "duplicate": ArmSettings(
        rows="duplicated", meaning="as many real images again: does more of anything help?"
    ),
    "relabel": ArmSettings(
        rows="relabelled",
        meaning="the same images again, with the labeler's labels: does its knowledge help?",
    ),
    "reweight": ArmSettings(train={"balance": 1.0}, meaning="rare values count more in the loss"),
    "oversample": ArmSettings(
        rows="oversampled", meaning="images with rare attributes come up more often"
    ),
    "rand_augment": ArmSettings(
        train={"augmentation": {"operations": 2}}, meaning="stronger augmentation"
    ),
}
"""Arms of real images alone, which tell why an arm with synthetic images gains."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What arms are made of."""

    real: pd.DataFrame
    """Real rows of all splits."""
    sets: Mapping[str, pd.DataFrame]
    """Name -> the synthetic rows that train."""
    attributes: list[str]
    label: Callable[[pd.DataFrame], pd.DataFrame]
    """Gives a table the labeler's labels, as synthetic rows carry them."""
    fit: FitConfig
    """The fits' settings where an arm changes nothing."""
    count: int
    """Real rows that the arms add which compare with a synthetic set of that size."""


Rows = Callable[[pd.DataFrame, Material], pd.DataFrame]


def once(table: pd.DataFrame, _: Material) -> pd.DataFrame:
    return table


def duplicated(table: pd.DataFrame, material: Material) -> pd.DataFrame:
    return duplicate(table, material.count)


def relabelled(table: pd.DataFrame, material: Material) -> pd.DataFrame:
    train = material.real[material.real["split"] == "train"]
    return relabel(table, material.label(train), material.count)


def oversampled(table: pd.DataFrame, material: Material) -> pd.DataFrame:
    return oversample(table, material.attributes)


ROWS: Mapping[str, Rows] = {f.__name__: f for f in (once, duplicated, relabelled, oversampled)}


def make_arm(settings: ArmSettings, material: Material) -> Arm:
    """The arm's training table, and what its fits change."""
    table = material.real
    if settings.sets:
        table = merge(table, pd.concat([material.sets[name] for name in settings.sets]))
    if settings.real == "none":
        table = table[(table["split"] != "train") | (table["source"] == "synthetic")]
    return Arm(
        table=ROWS[settings.rows](table, material),
        changes=_changes(settings.train, material.fit),
        meaning=settings.meaning,
        sets=settings.sets,
    )


def _changes(train: Mapping[str, Any], fit: FitConfig) -> dict[str, Any]:
    """The changes as fields of `FitConfig`; of the augmentation, what is left out stays."""
    changes = dict(train)
    if "augmentation" in changes:
        changes["augmentation"] = replace(fit.augmentation, **changes["augmentation"])
    return changes
