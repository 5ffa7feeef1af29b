"""Which attributes' labels the synthetic images of a run carry, and how many labels judge them.

Whatever is decided here follows from the run's own images and settings alone, and holds for all
sets alike; a run that goes on decides the same again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from numpy.typing import ArrayLike

from classify.verdict import listed
from labeling import LabelPolicy, doubts, share_doubt
from recipes.chain.run import Run

__all__ = [
    "counts_by_split",
    "impossible",
    "reserved",
    "tell_counts",
    "trusted",
]

_ALL = "all"
_SPLITS = ("train", "val", "test")
_FEW = 10
"""Images of an attribute's rarer value in a split that are named before any work is done."""


def counts_by_split(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Real images by split: index attribute, columns `train, val, test` of those that have it and
    `not_train, not_val, not_test` of those that lack it.
    """
    labels = table[list(attributes)]
    values = {"": labels == 1, "not_": labels == 0}
    return pd.DataFrame(
        {
            f"{of}{split}": value[table["split"] == split].sum()
            for of, value in values.items()
            for split in _SPLITS
        }
    ).rename_axis("attribute")


def tell_counts(run: Run, counts: pd.DataFrame) -> None:
    """Say which attributes a split hardly shows, and let the verdict begin with those that no score
    on the test images counts.

    Args:
        run: the run.
        counts: of `counts_by_split`.
    """
    told = [
        f"{name}{' (absent)' if of else ''}: {' / '.join(map(str, row))}"
        for of in ("", "not_")
        for name, row in counts[[f"{of}{split}" for split in _SPLITS]].iterrows()
        if row.min() < _FEW
    ]
    if told:
        run.note(f"Few labelled images in train / val / test: {', '.join(told)}.")
    out = list(counts.index[counts[["test", "not_test"]].min(axis=1) == 0])
    if out:
        run.reserve(
            f"Macro F1 is over {len(counts) - len(out)} of {len(counts)} attributes; the test "
            f"images show one value only of {listed(out)}."
        )


def trusted(
    run: Run,
    policy: LabelPolicy,
    val: pd.DataFrame,
    probabilities: ArrayLike,
    attributes: Sequence[str],
) -> LabelPolicy:
    """The policy that leaves empty what real validation images speak against; it is told.

    Args:
        run: the run, whose settings may insist on some labels.
        policy: with a rule for each attribute.
        val: N real validation rows.
        probabilities: float (N, A) in [0, 1], the labeler's, of the same rows.
        attributes: the A names that the labeler knows.

    Raises:
        ValueError: no label is left, or the settings insist on an attribute that there is not.
    """
    insisted = run.config.labels.trust
    if unknown := [name for name in insisted if name not in (_ALL, *attributes)]:
        raise ValueError(
            f"labels.trust names {unknown[0]}; the labeler gives {', '.join(attributes)}; name "
            "some of these, or all"
        )
    found = doubts(val, probabilities, attributes, policy)
    if kept := {name: why for name, why in found.items() if {name, _ALL} & set(insisted)}:
        run.caution(f"Labels of {_reasons(kept)} are kept by labels.trust.")
    doubted = {name: why for name, why in found.items() if name not in kept}
    if len(doubted) == len(attributes):
        raise ValueError(
            f"no attribute's labels can be trusted ({attributes[0]}: {doubted[attributes[0]]}); "
            "label more validation images, give another --labeler, or keep the labels by "
            "--labels.trust"
        )
    reserved(run, doubted)
    return policy.doubting(doubted)


def reserved(run: Run, doubted: Mapping[str, str]) -> None:
    """Let the verdict begin with what has no label in the synthetic images, if anything."""
    if doubted:
        run.reserve(
            f"No synthetic image has a label of {_reasons(doubted)}: such labels cannot be "
            "trusted. F1 on the real test images counts these attributes as all others."
        )


def impossible(
    counts: pd.DataFrame, sets: Mapping[str, pd.DataFrame], insisted: Sequence[str]
) -> dict[str, str]:
    """Attribute -> why its labels cannot be trusted, by their number in any of some sets.

    Args:
        counts: of `counts_by_split`; what it names is judged.
        sets: labelled images by set, which nothing but their targets keeps from being as the real
            ones are; see `SyntheticSet.draws_freely`.
        insisted: attributes whose labels are kept all the same, or `all`.
    """
    if _ALL in insisted:
        return {}
    found: dict[str, str] = {}
    for name, table in sets.items():
        for attribute, of in counts.iterrows():
            labels = table[attribute].dropna()
            asked = table.get(f"target_{attribute}", pd.Series(dtype=float))
            why = share_doubt(
                (int((labels == 1).sum()), len(labels)),
                (int(of["train"]), int(of["train"] + of["not_train"])),
                ((asked == 1).sum() / len(table), (asked == 0).sum() / len(table)),
            )
            if why and attribute not in insisted:
                found.setdefault(str(attribute), f"{why}, in the set {name}")
    return found


def _reasons(doubted: Mapping[str, str]) -> str:
    """`a and b (why), c (why else)`."""
    alike: dict[str, list[str]] = {}
    for name, why in doubted.items():
        alike.setdefault(why, []).append(name)
    return ", ".join(f"{listed(names)} ({why})" for why, names in alike.items())
