"""What a comparison of arms comes to, in words.

An arm *gains* over another if the whole 95 % interval of their difference in F1 at 0.5 lies above
0; it *loses* if it lies below; anything else, a single seed included, is *no evidence of gain*.

Training images with more of a rare attribute teach a classifier to call it present more often. That
alone, a shift of the prior, raises F1 at 0.5, though whoever fits a threshold has the same without
any synthetic image. It changes neither the order of the images nor F1 at thresholds of the arm's
own. So a gain *remains* where average precision, and F1 at thresholds fitted on val, gain by the
same rule; where neither does, it may be a shift of the prior and no more. Where F1 at 0.5 gains
certainly more than F1 at fitted thresholds (the interval of `prior_shift` lies above 0), part of
the gain is such a shift.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from classify.comparison import PRIOR_SHIFT
from classify.metrics import AVERAGE_PRECISION, FITTED_F1, MACRO, MACRO_RARE

__all__ = ["OUTCOMES", "Finding", "Verdict", "headline", "listed", "of_gains", "verdicts"]

GAIN, LOSS, NONE = "gain", "loss", "no evidence of gain"
_VERBS = {GAIN: ("gains over", "gain over"), LOSS: ("loses against", "lose against")}
_REMAINS_IN = {AVERAGE_PRECISION: "in average precision", FITTED_F1: "at fitted thresholds"}
_SCOPES = {MACRO: "macro F1", MACRO_RARE: "F1 over rare attributes"}
_OVER = {MACRO: "Over all attributes", MACRO_RARE: "Over rare ones"}
OUTCOMES = (
    "remain in average precision and at fitted thresholds",
    "remain there only in part",
    "may be no more than a prior shift",
)
"""What becomes of gains."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The difference of two arms in the mean F1 of some attributes."""

    verdict: str
    """gain, loss or no evidence of gain."""
    difference: float
    low: float
    high: float
    """95 % interval of the difference; NaN of one seed."""
    remains: tuple[str, ...]
    """Metrics besides F1 at 0.5 that gain too."""
    fades: tuple[str, ...]
    """Those that do not."""
    shift: float | None
    """How much of a gain is a shift of the prior; None where none can be told."""

    def figures(self) -> str:
        """As text, such as `+0.020 [+0.010, +0.030]`."""
        difference, low, high = (
            f"{round(value, 3) + 0.0:+.3f}" for value in (self.difference, self.low, self.high)
        )
        if math.isnan(self.low):
            return f"{difference}, one seed, so no interval"
        return f"{difference} [{low}, {high}]"

    def elsewhere(self) -> str:
        """Where else a gain is seen, in short; empty where there is none, or nothing is known."""
        if self.verdict != GAIN or not (self.remains or self.fades):
            return ""
        if not self.remains:
            return f"not {listed([_REMAINS_IN[name] for name in self.fades], 'nor')}"
        return f"also {listed([_REMAINS_IN[name] for name in self.remains])}"

    def of_gain(self) -> str:
        """What becomes of a gain elsewhere; empty where there is none, or nothing is known."""
        if self.verdict != GAIN or not (self.remains or self.fades):
            return ""
        there = listed([_REMAINS_IN[name] for name in self.remains])
        gone = listed([_REMAINS_IN[name] for name in self.fades], "or")
        if not self.remains:
            text = f"there is no evidence of it {gone}, so it may be no more than a prior shift"
        else:
            text = f"it remains {there}" + (f", without evidence of it {gone}" if gone else "")
        if self.shift is not None:
            text += f"; part of it ({self.shift:+.3f}) is a prior shift"
        return text


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of one arm against another."""

    arm: str
    baseline: str
    findings: dict[str, Finding]
    """Mean (`macro`, and `macro, rare` where there are rare attributes) -> what was found."""

    @property
    def outcome(self) -> str | None:
        """Which of `OUTCOMES` comes true of its gains, over all attributes and over rare ones;
        None without a gain.
        """
        gains = [one for one in self.findings.values() if one.of_gain()]
        if not gains:
            return None
        if not any(one.fades for one in gains):
            return OUTCOMES[0]
        return OUTCOMES[1] if any(one.remains for one in gains) else OUTCOMES[2]

    def remains(self) -> str:
        """What becomes of its gains, over all attributes and over rare ones; empty without any."""
        of_gain = {mean: text for mean, one in self.findings.items() if (text := one.of_gain())}
        if len(of_gain) == len(self.findings) and len(set(of_gain.values())) == 1:
            return next(iter(of_gain.values())).capitalize()
        return ". ".join(f"{_OVER[mean]} {text}" for mean, text in of_gain.items())

    def reasons(self) -> str:
        """The figures and what they come to, in a sentence or two."""
        alike: dict[str, list[str]] = {}
        for mean, found in self.findings.items():
            alike.setdefault(found.verdict, []).append(f"in {_SCOPES[mean]} ({found.figures()})")
        said = [f"{verdict} {listed(where)}" for verdict, where in alike.items()]
        return ". ".join([", ".join(said), *filter(None, [self.remains()])])


def verdicts(comparison: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """The verdicts on pairs of an arm and a baseline, of `classify.compare_pairs`; a pair that was
    not compared has none.
    """
    rows = comparison[comparison["attribute"].isin(_SCOPES)].dropna(subset="difference")
    told = dict(iter(rows.groupby(["arm", "baseline", "attribute"], sort=False)))
    found = []
    for arm, baseline in pairs:
        scopes = [mean for mean in _SCOPES if (arm, baseline, mean) in told]
        if MACRO in scopes:
            findings = {mean: _finding(told[arm, baseline, mean]) for mean in scopes}
            found.append(Verdict(arm=arm, baseline=baseline, findings=findings))
    return found


def _finding(rows: pd.DataFrame) -> Finding:
    found: dict[str, dict[Hashable, Any]] = {r["metric"]: r for r in rows.to_dict("records")}
    f1, known = found["f1"], [name for name in _REMAINS_IN if name in found]
    shift = found.get(PRIOR_SHIFT)
    shifted = f1["verdict"] == GAIN and shift is not None and shift["verdict"] == GAIN
    return Finding(
        verdict=f1["verdict"],
        difference=f1["difference"],
        low=f1["low"],
        high=f1["high"],
        remains=tuple(name for name in known if found[name]["verdict"] == GAIN),
        fades=tuple(name for name in known if found[name]["verdict"] != GAIN),
        shift=shift["difference"] if shift is not None and shifted else None,
    )


def headline(found: Sequence[Verdict], reservations: Sequence[str] = ()) -> str:
    """What limits the study, a sentence each, then who gains over whom in F1, in one or two."""
    if not found:
        nothing = "No arm with synthetic images was compared with another, so there is no verdict."
        return " ".join([*reservations, nothing])
    overall, rare = _shown(found, MACRO), _shown(found, MACRO_RARE)
    sentences = [*reservations, f"In macro F1, {overall}."]
    if rare:
        sentences.append(f"Over rare attributes, {'likewise' if rare == overall else rare}.")
    return " ".join(sentences)


def of_gains(found: Sequence[Verdict]) -> str:
    """What becomes of the gains elsewhere, in a sentence or two; empty where there are none, or
    nothing is known.
    """
    alike: dict[str, list[Verdict]] = {}
    for one in found:
        if (outcome := one.outcome) is not None:
            alike.setdefault(outcome, []).append(one)
    return " ".join(
        f"Gains that {outcome}: {'all' if len(alike) == 1 else _pairs(alike[outcome])}."
        for outcome in OUTCOMES
        if outcome in alike
    )


def _pairs(found: Sequence[Verdict]) -> str:
    return ", ".join(f"{listed(arms)} over {listed(of)}" for arms, of in _grouped(found))


def _shown(found: Sequence[Verdict], mean: str) -> str:
    """Who gains over whom, and who loses; empty if nothing is known."""
    told = [one for one in found if mean in one.findings]
    parts = []
    for verdict, (of_one, of_many) in _VERBS.items():
        alike = [one for one in told if one.findings[mean].verdict == verdict]
        parts += [
            f"{listed(arms)} {of_one if len(arms) == 1 else of_many} {listed(of)}"
            for arms, of in _grouped(alike)
        ]
    if unclear := [one for one in told if one.findings[mean].verdict == NONE]:
        pairs = _pairs(unclear) if len(unclear) < len(told) else "any arm"
        parts.append(f"there is no evidence of gain for {pairs}")
    return "; ".join(parts)


def _grouped(found: Sequence[Verdict]) -> list[tuple[list[str], tuple[str, ...]]]:
    """Arms, and the baselines that all of them are paired with."""
    of_arm: dict[str, list[str]] = {}
    for one in found:
        of_arm.setdefault(one.arm, []).append(one.baseline)
    together: dict[tuple[str, ...], list[str]] = {}
    for arm, baselines in of_arm.items():
        together.setdefault(tuple(baselines), []).append(arm)
    return [(arms, baselines) for baselines, arms in together.items()]


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])
