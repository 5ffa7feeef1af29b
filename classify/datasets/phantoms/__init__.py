"""Chests in cross-section drawn by code: grey pictures with rare findings, of known density."""

from classify.datasets.drawn import Pool
from classify.datasets.phantoms.anatomy import FINDINGS
from classify.datasets.phantoms.distribution import log_density
from classify.datasets.phantoms.table import TRUTH, phantom_table

__all__ = ["FINDINGS", "TRUTH", "Pool", "log_density", "phantom_table"]
