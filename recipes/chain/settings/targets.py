"""What each synthetic image is asked to be: a wish by seed, from the rows of the real train split.

`auto` asks for what is rare, in combinations that occur: a rare attribute is drawn, the rarer the
likelier (by its repeat factor, Gupta et al. 2019), then a real train image that has it; the wish is
all that is rare in that image. Or wishes are given as a quota's are, {"Bald=1": 200}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from augment.selection import parse_wish
from classify import RARE
from classify.names import one_of

__all__ = [
    "Plan",
    "agreement",
    "inherited",
    "plan_bits",
    "plan_targets",
    "rare_rows",
    "stated",
    "target_columns",
]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Seed -> attribute -> 1 or 0: what the image of that seed is asked to be."""

    wish: Callable[[int], Mapping[str, int]]
    identity: str
    """Tells plans apart in a record: a hash of what the plan follows from."""

    def __call__(self, seed: int) -> Mapping[str, int]:
        return self.wish(seed)


_AUTO, _WISHES, _BITS = 5, 6, 7
"""Purposes of the random numbers, so that a seed's wish and its images share none."""


def plan_targets(
    train: pd.DataFrame, attributes: Sequence[str], wishes: Mapping[str, int] | None = None
) -> Plan:
    """The plan of a set.

    Args:
        train: real train rows with their labels.
        attributes: those that the labeler knows, and who steers.
        wishes: how many images of each wish, of all that are made in proportion; left out, `auto`.

    Raises:
        ValueError: a wish of another attribute, or no attribute.
    """
    if not attributes:
        raise ValueError(
            "no attribute is known both to the labeler and to the head that steers; give "
            "steering.by labeler, or arms without a steered set"
        )
    return _of_wishes(wishes, attributes) if wishes else _of_rows(train, attributes)


def plan_bits(attributes: Sequence[str]) -> Plan:
    """A value of each attribute for every image, 1 or 0 with equal chance, by its seed alone; so
    combinations are asked for that hardly occur (ADM-ML of Um & Ye 2024).
    """
    names = list(attributes)

    def wish(seed: int) -> Mapping[str, int]:
        bits = np.random.default_rng((_BITS, seed)).integers(2, size=len(names))
        return dict(zip(names, bits.tolist(), strict=True))

    return Plan(wish=wish, identity=_hash(f"bits {names}"))


def _of_wishes(wishes: Mapping[str, int], attributes: Sequence[str]) -> Plan:
    wishes = dict(sorted(wishes.items()))  # the order they are written in says nothing
    parsed = [parse_wish(wish) for wish in wishes]
    for wish in parsed:
        if unknown := [name for name in wish if name not in attributes]:
            raise ValueError(
                f"targets ask for {unknown[0]}, which the labeler or the head that steers does not "
                f"know; {one_of(unknown[0], attributes)}"
            )
    deck = np.repeat(np.arange(len(parsed)), list(wishes.values()))
    order = np.random.default_rng((_WISHES, 0)).permutation(deck)
    return Plan(wish=lambda seed: parsed[order[seed % len(order)]], identity=_hash(str(wishes)))


def _of_rows(train: pd.DataFrame, attributes: Sequence[str]) -> Plan:
    factors = _repeat_factors(train, attributes)
    rare = list(factors)
    chances = np.array(list(factors.values())) / sum(factors.values())
    among_rare = (train[rare] == 1).to_numpy(dtype=bool, na_value=False)
    having = {name: np.flatnonzero(among_rare[:, i]) for i, name in enumerate(rare)}

    def wish(seed: int) -> Mapping[str, int]:
        rng = np.random.default_rng((_AUTO, seed))
        lead = rare[rng.choice(len(rare), p=chances)]
        template = among_rare[rng.choice(having[lead])]
        return {name: 1 for name, has in zip(rare, template, strict=True) if has}

    return Plan(wish=wish, identity=_hash(train[list(attributes)].to_csv(index=False)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _repeat_factors(train: pd.DataFrame, attributes: Sequence[str]) -> dict[str, float]:
    """Rare attribute -> sqrt(RARE / share); where none is rare, the least frequent one -> 1."""
    labels = train[list(attributes)]
    shares = {str(name): float(share) for name, share in labels.mean().items() if share > 0}
    rare = {name: share for name, share in shares.items() if share < RARE}
    if not rare:
        return {min(shares, key=lambda name: shares[name]): 1.0}
    return {name: float(np.sqrt(RARE / share)) for name, share in rare.items()}


def rare_rows(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Real train rows that have something rare, as often as their repeat factor, rounded up."""
    train = table[table["split"] == "train"]
    factors = _repeat_factors(train, attributes)
    has = (train[list(factors)] == 1).to_numpy(dtype=bool, na_value=False)
    times = np.where(has, np.array(list(factors.values())), 0.0).max(axis=1)
    order = np.repeat(np.arange(len(train)), np.ceil(times).astype(int))
    order = np.random.default_rng(_AUTO).permutation(order)
    return train.iloc[order].reset_index(drop=True)


def inherited(
    table: pd.DataFrame, sources: pd.DataFrame, attributes: Sequence[str]
) -> pd.DataFrame:
    """Edited images with the labels of what they were made from.

    Args:
        table: labelled by the labeler, with the column `seed`.
        sources: real rows; the image of seed s was made from number s modulo their count.
        attributes: the columns.

    Returns:
        The table, each cell the source's where the labeler agrees with it, and empty elsewhere.
    """
    names = list(attributes)
    source = sources.iloc[table["seed"].to_numpy() % len(sources)][names].to_numpy(
        dtype=float, na_value=np.nan
    )
    own = table[names].to_numpy(float)
    return table.assign(**dict(zip(names, np.where(own == source, source, np.nan).T, strict=True)))


def stated(table: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Images with the labels that they were asked to have, and the labeler's where none was.

    Args:
        table: labelled by the labeler, with columns `target_<attribute>`.
        attributes: the columns.

    Returns:
        The table; the probability `p_<attribute>` of what was asked for is 1 or 0 as well.
    """
    asked = [name for name in attributes if f"target_{name}" in table]
    columns = {one: name for name in asked for one in (name, f"p_{name}") if one in table}
    return table.assign(**{c: table[f"target_{n}"].fillna(table[c]) for c, n in columns.items()})


def target_columns(plan: Plan, seeds: Sequence[int], attributes: Sequence[str]) -> pd.DataFrame:
    """Columns `target_<attribute>` of 1, 0 or empty, one row per seed; those that are asked for."""
    wishes = [plan(int(seed)) for seed in seeds]
    asked = [name for name in attributes if any(name in wish for wish in wishes)]
    return pd.DataFrame(
        {f"target_{name}": [wish.get(name, np.nan) for wish in wishes] for name in asked},
        dtype=float,
    )


def agreement(table: pd.DataFrame, labels: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """How often a labeler finds what was asked for, and how often in what was not asked for it.

    Args:
        table: rows with columns `target_<attribute>`.
        labels: a labeler's labels of the same rows, in their order: 1, 0 or NaN.
        attributes: those looked at, of which some were asked for.

    Returns:
        One row per attribute and value asked for, `attribute, value, asked, hit` (share of the rows
        asked, of those with a label) and `unasked` (the same of the other rows).
    """
    rows = []
    for name in attributes:
        if (column := f"target_{name}") not in table or name not in labels:
            continue
        target, label = table[column].to_numpy(float), labels[name].to_numpy(float)
        for value in sorted(set(target[~np.isnan(target)])):
            asked, known = target == value, ~np.isnan(label)
            shares = [
                float(np.mean(label[rows_] == value)) if rows_.any() else np.nan
                for rows_ in (asked & known, ~asked & known)
            ]
            rows.append((name, int(value), int(asked.sum()), *shares))
    return pd.DataFrame(rows, columns=["attribute", "value", "asked", "hit", "unasked"])
