"""Numbers as text."""

from __future__ import annotations

import math

__all__ = ["METRICS", "NOTHING", "interval", "number", "percent"]

METRICS = {"f1": "F1", "precision": "Precision", "recall": "Recall"}
"""What the page calls the scores."""

NOTHING = "–"
"""What stands where there is no value; never a 0."""


def number(value: float, digits: int = 3, signed: bool = False) -> str:
    """A number with a true minus sign; a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    value = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:{'+' if signed and value else ''}.{digits}f}".replace("-", "−")


def percent(value: float) -> str:
    """A share in [0, 1] as a percentage; a dash for NaN."""
    return NOTHING if math.isnan(value) else f"{value:.1%}".replace("%", " %")


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval, or that it cannot be estimated."""
    if math.isnan(low) or math.isnan(high):
        return "not estimable"
    return f"{number(low, signed=signed)} to {number(high, signed=signed)}"
