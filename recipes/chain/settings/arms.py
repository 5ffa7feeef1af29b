"""Arms as data: what each trains on, how its rows are drawn, and what its fits change.

To add an arm is to add an entry to `CONTROLS`, or to `define_arms` in a run's YAML; another way to
draw rows is one function, named in `ROWS` and among the values of `ArmSettings.rows`.
Ways to mix synthetic images with real ones:

    novel: {sets: [minority], rows: replaced, repeats: {replaced: 0.5}}
    again: {rows: replaced, repeats: {replaced: 0.5}}
    light: {sets: [minority], train: {mixing: {weight: 0.3}}}
    apart: {sets: [minority], train: {mixing: {own_norm: true}}}
    staged: {sets: [minority], train: {second_stage: {share: 0.3}}}
    sure: {sets: [minority], doubt: {band: 0.2, precision: 0.9}}

Each has a control that differs in that alone: `novel` has `again`, where other real images with the
attribute stand in for the same repeats, and `oversample`, which is either with `replaced: 0.0`; the
last four have `minority`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from augment import merge
from classify import Arm, FitConfig, LossConfig, duplicate, oversample, relabel, substitute
from classify.arms import check_changes
from labeling import LabelPolicy, Rule
from recipes.chain.command.values import merged, read_values, understood

__all__ = ["CONTROLS", "ArmSettings", "DoubtConfig", "Material", "RepeatsConfig", "make_arm"]


@dataclass(frozen=True, kw_only=True)
class RepeatsConfig:
    """How rows are repeated by what is rare in them."""

    threshold: float = 0.05
    """Share of the train rows under which an attribute is rare; its rows come up
    sqrt(threshold / share) times."""
    replaced: float = 0.5
    """With rows: replaced, the share of the repeats for which another image with the attribute
    stands in: a synthetic one, or a real one in an arm without sets."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"repeats.threshold is {self.threshold}; give a share in (0, 1]")
        if not 0 <= self.replaced <= 1:
            raise ValueError(f"repeats.replaced is {self.replaced}; give a share in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class DoubtConfig:
    """Which labels of synthetic images are too doubtful to train on; by default none."""

    band: float = 0.0
    """Those whose probability lies nearer to the labeler's threshold than this."""
    precision: float = 0.0
    """Those of a value that the labeler gives with a lower precision on the real val rows, or never
    gives there; a little too good where its thresholds were fitted on the same rows."""

    def __post_init__(self) -> None:
        for name in ("band", "precision"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"doubt.{name} is {getattr(self, name)}; give a number in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """One arm of a study; by default the real images as they are."""

    sets: tuple[str, ...] = ()
    """Names of the synthetic sets that join the real rows."""
    real: Literal["all", "none"] = "all"
    """Which real train rows take part; none trains on synthetic images alone."""
    rows: Literal["once", "duplicated", "relabelled", "oversampled", "replaced"] = "once"
    """How often a row comes up; replaced is oversampled, with other images for some repeats."""
    repeats: RepeatsConfig = field(default_factory=RepeatsConfig)
    """How rows are repeated that are oversampled or replaced."""
    doubt: DoubtConfig = field(default_factory=DoubtConfig)
    """Which labels of the sets stay empty."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Where the fits differ from the run's, such as the loss, {loss: {balance: 1.0}}."""
    meaning: str = ""
    """What the arm tells, for a reader."""

    @property
    def is_real_alone(self) -> bool:
        """Whether synthetic images, their number and the labeler have no part in it."""
        return not self.sets and self.rows not in ("duplicated", "relabelled")

    def __post_init__(self) -> None:
        check_changes(_changes(self.train, FitConfig()))
        if self.real == "none" and self.rows == "replaced":
            raise ValueError(
                "rows is replaced and real none; it is real rows that are repeated: give real all, "
                "or other rows"
            )
        if self.doubt != DoubtConfig() and not self.sets:
            raise ValueError(
                "doubt is given without sets; it is about the labels of synthetic images: name "
                "sets, or leave it out"
            )


def _changes(train: Mapping[str, Any], fit: FitConfig) -> dict[str, Any]:
    """The changes as fields of `FitConfig`; inside a group, what is left out stays."""
    if not train:
        return {}
    train = understood(FitConfig, train, "train")
    config = read_values(FitConfig, merged(asdict(fit), train), "train")
    return {name: getattr(config, name) for name in train}


def _loss(**changes: Any) -> dict[str, Any]:
    """The cross-entropy but for these changes, whatever the run's own loss is."""
    return {"loss": asdict(LossConfig(**changes))}


CONTROLS: Mapping[str, ArmSettings] = {
    "duplicate": ArmSettings(
        rows="duplicated", meaning="as many real images again: does more of anything help?"
    ),
    "relabel": ArmSettings(
        rows="relabelled",
        meaning="the same images again, with the labeler's labels: does its knowledge help?",
    ),
    "reweight": ArmSettings(train=_loss(balance=1.0), meaning="rare values count more in the loss"),
    "oversample": ArmSettings(
        rows="oversampled", meaning="images with rare attributes come up more often"
    ),
    "rand_augment": ArmSettings(
        train={"augmentation": {"operations": 2}}, meaning="stronger augmentation"
    ),
    "repeat_factor": ArmSettings(
        rows="oversampled",
        repeats=RepeatsConfig(threshold=0.15),
        meaning="oversample, with more attributes that count as rare",
    ),
    "unweighted": ArmSettings(train=_loss(), meaning="a loss that counts all labels alike"),
    "logit_adjust": ArmSettings(
        train=_loss(tau=1.0), meaning="logit adjustment: aims at the balanced error"
    ),
    "class_balanced": ArmSettings(
        train=_loss(beta=0.999), meaning="class-balanced weights of the loss"
    ),
    "asymmetric": ArmSettings(
        train=_loss(gamma_negative=4.0, gamma_positive=1.0, clip=0.05),
        meaning="asymmetric loss: easy negatives count less",
    ),
    "ldam_drw": ArmSettings(
        train=_loss(margin=0.5, beta=0.999, defer=0.8),
        meaning="LDAM-DRW: a wider margin for what is rare, class-balanced weights at the end",
    ),
    "distribution_balanced": ArmSettings(
        train=_loss(rebalance=True, tau=0.05, tolerance=2.0),
        meaning="distribution-balanced loss: rare attributes of an image count more",
    ),
    "retrain_head": ArmSettings(
        train={"second_stage": {"share": 0.2, "rows": "balanced", "head": True}},
        meaning="classifier re-training: at the end the last layer alone, on balanced draws",
    ),
}
"""Arms of real images alone: those that tell why an arm with synthetic images gains, then what the
literature does against rare labels without any."""


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
    policy: LabelPolicy
    """The rules by which it does."""
    fit: FitConfig
    """The fits' settings where an arm changes nothing."""
    count: int
    """Real rows that the arms add which compare with a synthetic set of that size."""


Rows = Callable[[ArmSettings, Material], pd.DataFrame]


def once(settings: ArmSettings, material: Material) -> pd.DataFrame:
    table = material.real
    if settings.sets:
        table = merge(table, _synthetic(settings, material))
    if settings.real == "none":
        table = table[(table["split"] != "train") | (table["source"] == "synthetic")]
    return table


def duplicated(settings: ArmSettings, material: Material) -> pd.DataFrame:
    return duplicate(once(settings, material), material.count)


def relabelled(settings: ArmSettings, material: Material) -> pd.DataFrame:
    labelled = material.label(_real(material, "train"))
    return relabel(once(settings, material), labelled, material.count)


def oversampled(settings: ArmSettings, material: Material) -> pd.DataFrame:
    share = settings.repeats.threshold
    return oversample(once(settings, material), material.attributes, share=share)


def replaced(settings: ArmSettings, material: Material) -> pd.DataFrame:
    return substitute(
        material.real,
        _synthetic(settings, material) if settings.sets else _real(material, "train"),
        material.attributes,
        replaced=settings.repeats.replaced,
        share=settings.repeats.threshold,
    )


ROWS: Mapping[str, Rows] = {
    f.__name__: f for f in (once, duplicated, relabelled, oversampled, replaced)
}


def make_arm(settings: ArmSettings, material: Material) -> Arm:
    """The arm's training table, and what its fits change."""
    return Arm(
        table=ROWS[settings.rows](settings, material),
        changes=_changes(settings.train, material.fit),
        meaning=settings.meaning,
        sets=settings.sets,
    )


def _real(material: Material, split: str) -> pd.DataFrame:
    return material.real[material.real["split"] == split]


def _synthetic(settings: ArmSettings, material: Material) -> pd.DataFrame:
    """The rows of the arm's sets, doubtful cells empty."""
    if lacking := [name for name in settings.sets if name not in material.sets]:
        raise ValueError(f"no image of the set {lacking[0]} was taken; leave out its arms")
    rows = pd.concat([material.sets[name] for name in settings.sets], ignore_index=True)
    doubt = settings.doubt
    if doubt == DoubtConfig():
        return rows
    real = _real(material, "val")
    judged = material.label(real) if doubt.precision else None
    for name in set(material.attributes) & set(material.policy.rules):
        rule = _narrowed(material.policy.rules[name], doubt.band)
        given = rule.decide(_probabilities(rows, name))
        if judged is not None:
            of_val = rule.decide(_probabilities(judged, name))
            for value in (0.0, 1.0):
                truth = real[name][of_val == value].dropna()
                if truth.empty or (truth == value).mean() < doubt.precision:
                    given[given == value] = np.nan
        rows[name] = rows[name].where(~np.isnan(given))
    return rows


def _narrowed(rule: Rule, band: float) -> Rule:
    """The rule that leaves cells nearer to its thresholds than the band empty too."""
    present = None if rule.present is None else rule.present + band
    absent = None if rule.absent is None else rule.absent - band
    return replace(rule, present=present, absent=absent)


def _probabilities(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return table[f"p_{name}"].to_numpy(np.float64)
