"""Which images train a classifier: what is admitted, what the quota takes, and one joint table.

All of it works on a table with one row per image, wherever the images were made.
"""

from augment.selection.admission import (
    ADMISSION,
    BLANK,
    KEPT,
    LEAKS,
    MEMORISED,
    OFF_MANIFOLD,
    UNREADABLE,
    RealImages,
    Split,
    admit,
    admitted,
    in_manifold,
    keep_rates,
    refuse_leaks,
)
from augment.selection.near_copies import Calibration, Signatures, calibrate, nearest
from augment.selection.quota import Quota, Selection, merge, parse_wish, select

__all__ = [
    "ADMISSION",
    "BLANK",
    "KEPT",
    "LEAKS",
    "MEMORISED",
    "OFF_MANIFOLD",
    "UNREADABLE",
    "Calibration",
    "Quota",
    "RealImages",
    "Selection",
    "Signatures",
    "Split",
    "admit",
    "admitted",
    "calibrate",
    "in_manifold",
    "keep_rates",
    "merge",
    "nearest",
    "parse_wish",
    "refuse_leaks",
    "select",
]
