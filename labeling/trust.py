"""What speaks against an attribute's labels: on real validation rows, and in how many synthetic
images they are said to be present.

Labels that nothing speaks against may still be wrong; how often, `labeling.quality` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri
from scipy.stats import binomtest, mannwhitneyu

from labeling.policy import LabelPolicy, Rule
from labeling.thresholds import Floats, as_columns, calibrated, log_losses

__all__ = ["NEEDED", "doubts", "share_doubt"]

LEVEL = 0.05
_Z = float(ndtri(1 - LEVEL / 2))
NEEDED = math.floor(_Z**2) + 1
"""Validation rows of either value without which nothing can be judged: 4. Even a labeler that finds
all n of them has a recall of which no more is known than that it lies in [n / (n + z²), 1] (Wilson,
1927; 95 %, z = 1.96); below 4 that reaches down to one half, to one that misses as many as it
finds."""
_TELLING = 0.1
"""Least Youden's J, true less false positive rate: 0 by chance, 1 at best."""


def doubts(
    truth: pd.DataFrame,
    probabilities: npt.ArrayLike,
    attributes: Sequence[str],
    policy: LabelPolicy,
) -> dict[str, str]:
    """Attribute -> why its labels cannot be trusted, of those where something speaks against them.

    Args:
        truth: N real validation rows, with the attributes' true labels 1, 0 or NaN = unlabelled.
        probabilities: float (N, A) in [0, 1], the labeler's own, of the same rows.
        attributes: the A names, each with a rule.
        policy: makes the probabilities labels.
    """
    names = list(attributes)
    p, y = as_columns(probabilities, truth[names].to_numpy(np.float64), len(names))
    found = {name: _doubt(p[:, i], y[:, i], policy.rules[name]) for i, name in enumerate(names)}
    return {name: why for name, why in found.items() if why}


def _doubt(p: Floats, y: Floats, rule: Rule) -> str:
    """The first reason of one attribute, of float64 (N,) each; empty where there is none."""
    known = ~np.isnan(y)
    p, y = p[known], y[known]
    present, absent = p[y == 1], p[y == 0]
    for rows, what in ((present, "have it"), (absent, "lack it")):
        if len(rows) < NEEDED:
            return f"{len(rows)} of {len(y)} validation images {what}, {NEEDED} are needed"
    chance = 1.0 if np.ptp(p) == 0 else mannwhitneyu(present, absent, alternative="greater").pvalue
    if chance >= LEVEL:
        return f"its probabilities rank validation images no better than chance (p = {chance:.2f})"
    return _of_threshold(p, y, rule) or _of_temperature(p, y, rule.temperature)


def _of_threshold(p: Floats, y: Floats, rule: Rule) -> str:
    """Whether it calls present what by the labeler's own word is absent, or the reverse; or hardly
    tells images that have the attribute from those that lack it.
    """
    least = LEVEL / len(y)  # so likely, one in twenty such sets of images would hold a single one
    if rule.present is not None and rule.present < least:
        return f"its threshold is {rule.present:.1e}, below {least:.1e}"
    if rule.absent is not None and rule.absent > 1 - least:
        return f"its threshold is 1 - {1 - rule.absent:.1e}, above 1 - {least:.1e}"
    decided = rule.decide(calibrated(p, rule.temperature))
    given = [decided[(y == value) & ~np.isnan(decided)] for value in (1, 0)]
    if rule.present is None or rule.absent is None or not all(map(len, given)):
        return ""  # it gives one value alone, and that as seldom as was asked of it
    found, wrongly = (float(labels.mean()) for labels in given)
    if found - wrongly < _TELLING:
        return f"it sees it in {found:.0%} of the images that have it, {wrongly:.0%} of the others"
    return ""


def _of_temperature(p: Floats, y: Floats, temperature: float) -> str:
    """Whether it raises the log-loss by more than its standard error allows."""
    worse = log_losses(p, y, temperature) - log_losses(p, y, 1.0)
    if worse.mean() > _Z * worse.std(ddof=1) / math.sqrt(len(worse)):
        return f"the temperature {temperature:.2g} makes its probabilities worse"
    return ""


def share_doubt(
    found: tuple[int, int], real: tuple[int, int], asked: tuple[float, float] = (0.0, 0.0)
) -> str:
    """Why the labels of a synthetic set cannot be trusted, by their number alone; or empty.

    Where a share s of a set is labelled present and a share t is present, at least |s - t| of the
    labels are wrong. They are refused where that is more than half of them, whatever the 95 %
    intervals of both shares (Clopper & Pearson, 1934) allow. t is the real share, or lies between
    it and what the set was asked for.

    Args:
        found: synthetic images labelled present, and labelled at all.
        real: real training images that have it, and that are labelled.
        asked: shares in [0, 1] of the synthetic images that were asked to have it, and to lack it.
    """
    if not found[1] or not real[1]:
        return ""
    share, true = (binomtest(*counts).proportion_ci() for counts in (found, real))
    to_have, to_lack = asked
    low, high = (to_have + (1 - to_have - to_lack) * t for t in (true.low, true.high))
    wrong = max(share.low - max(high, true.high), min(low, true.low) - share.high)
    if wrong <= 0.5:
        return ""
    of_set, of_real = (counts[0] / counts[1] for counts in (found, real))
    return f"seen in {of_set:.0%} of the synthetic images and in {of_real:.0%} of the real ones"
