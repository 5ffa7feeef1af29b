"""The rule of one attribute: fitted, and applied."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labeling.calibration import calibrated, calibration_error, fit_temperature
from labeling.card import DEFAULT_THRESHOLD
from labeling.curve import Curve
from labeling.thresholds import best_threshold

__all__ = ["PolicyConfig", "Rule", "fit_rule"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What is wanted of labels."""

    precision: float | None = None
    """Share of present labels that shall be right: the lowest threshold that keeps it, the
    F1-optimal one where none does; left out, the F1-optimal one."""
    band: float = 0.0
    """Cells whose calibrated probability is nearer to the threshold than this stay empty."""
    both_precision: float | None = None
    """Share of present and of absent labels that shall be right; cells that would break it stay
    empty. Takes the place of `precision` and `band`."""
    min_count: int = 10
    """Validation rows that a wanted precision has to be seen on."""
    calibrate: bool = True
    """Fit a temperature; otherwise it is 1."""

    def __post_init__(self) -> None:
        for name in ("precision", "both_precision"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; expected a share in (0, 1]; correct it")
        if not 0 <= self.band < 1:
            raise ValueError(f"band is {self.band}; expected a number in [0, 1); correct it")
        if self.min_count < 1:
            raise ValueError(f"min_count is {self.min_count}; expected at least 1; correct it")
        if self.both_precision is not None and (self.precision is not None or self.band):
            raise ValueError(
                "both_precision is given with precision or band; it takes their place; leave one "
                "of them out"
            )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Present where p >= `present`, absent where p < `absent`, else empty; p is calibrated."""

    present: float | None
    """None: never present."""
    absent: float | None
    """At most `present`. None: never absent."""
    temperature: float = 1.0
    """By which the log-odds are divided first."""
    n: int | None = None
    """Labelled validation rows it was fitted on; None if it was not fitted."""
    n_positive: int | None = None
    """Present ones of them."""
    kept: float | None = None
    """Share of them that gets a label."""
    precision_present: float | None = None
    """Share of the present labels that are right, on them; None without any."""
    precision_absent: float | None = None
    """Likewise of the absent labels."""
    ece_before: float | None = None
    """Expected calibration error on them, of 15 bins, at temperature 1."""
    ece_after: float | None = None
    """The same at `temperature`; on the rows that this was fitted on, so a little too good."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature is {self.temperature}; expected a number above 0")
        if self._lowest_present < self._highest_absent:
            raise ValueError(
                f"present is {self.present} and absent {self.absent}; absent may be no higher"
            )

    @classmethod
    def at(cls, threshold: float) -> Rule:
        """A plain threshold."""
        return cls(present=threshold, absent=threshold)

    @property
    def _lowest_present(self) -> float:
        return math.inf if self.present is None else self.present

    @property
    def _highest_absent(self) -> float:
        return -math.inf if self.absent is None else self.absent

    def decide(self, p: Floats) -> Floats:
        """1, 0 or NaN = empty, float64 (N,), of calibrated probabilities (N,)."""
        labels = np.full(len(p), np.nan)
        labels[p >= self._lowest_present] = 1.0
        labels[p < self._highest_absent] = 0.0
        return labels


def fit_rule(p: Floats, y: Floats, config: PolicyConfig) -> Rule:
    """Fit the rule of one attribute.

    Args:
        p: float64 (N,) probabilities.
        y: float64 (N,) labels 1, 0 or NaN = left out.
        config: what is wanted.

    Returns:
        The rule. Where the rows do not hold both values nothing can be fitted: 0.5 divides present
        from absent, or everything stays empty if `both_precision` is wanted.
    """
    known = ~np.isnan(y)
    p, y = p[known], y[known]
    n, n_positive = len(y), int(y.sum())
    if not 0 < n_positive < n:
        cut = None if config.both_precision is not None else DEFAULT_THRESHOLD
        return Rule(present=cut, absent=cut, n=n, n_positive=n_positive)
    temperature = fit_temperature(p, y) if config.calibrate else 1.0
    scaled = calibrated(p, temperature)
    present, absent = _cuts(Curve.of(scaled, y), config)
    decided = Rule(present=present, absent=absent).decide(scaled)
    return Rule(
        present=present,
        absent=absent,
        temperature=temperature,
        n=n,
        n_positive=n_positive,
        kept=float(np.mean(~np.isnan(decided))),
        precision_present=_share_right(decided, y, 1),
        precision_absent=_share_right(decided, y, 0),
        ece_before=calibration_error(p, y),
        ece_after=calibration_error(scaled, y),
    )


def _share_right(decided: Floats, y: Floats, value: int) -> float | None:
    """Of the rows decided to have a value, how many have it."""
    called = decided == value
    return float(np.mean(y[called] == value)) if called.any() else None


def _cuts(curve: Curve, config: PolicyConfig) -> tuple[float | None, float | None]:
    """`present` and `absent` of the rule."""
    if config.both_precision is not None:
        return _precise_cuts(curve, config.both_precision, config.min_count)
    threshold = best_threshold(curve)
    if config.precision is not None:
        enough = curve.precise_present(config.precision, config.min_count)
        threshold = float(curve.cuts[enough][-1]) if enough.any() else threshold
    return threshold + config.band, threshold - config.band


def _precise_cuts(curve: Curve, wanted: float, min_count: int) -> tuple[float | None, float | None]:
    """One cut of the best F1 if both sides are precise there, else the widest pair of cuts."""
    present = curve.precise_present(wanted, min_count)
    absent = curve.precise_absent(wanted, min_count)
    if (both := present & absent).any():
        cut = float(curve.cuts[both][np.argmax(curve.f1[both])])
        return cut, cut
    lowest = int(np.flatnonzero(present)[-1]) if present.any() else None
    absent[: lowest or 0] = False  # cuts above `present`
    return (
        None if lowest is None else float(curve.cuts[lowest]),
        float(curve.cuts[absent][0]) if absent.any() else None,
    )
