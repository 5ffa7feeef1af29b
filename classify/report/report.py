"""What a report shows: the results as they come out of the study. What is None is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["PAPER_REFERENCE", "Report"]

PAPER_REFERENCE: Mapping[str, Mapping[str, float]] = {
    "real": {"f1": 0.746, "precision": 0.815, "recall": 0.710},
    "plain": {"f1": 0.742, "precision": 0.808, "recall": 0.711},
    "minority": {"f1": 0.757, "precision": 0.822, "recall": 0.724},
}
"""The self-guidance paper's scores by arm: CelebA at 64 px, 50,000 synthetic images, one run."""

_COLUMNS = {
    "summary": ("arm", "metric", "mean", "low", "high", "n_seeds"),
    "scores": ("arm", "seed", "split", "attribute", "metric", "value"),
    "comparisons": (
        "arm",
        "baseline",
        "attribute",
        "metric",
        "difference",
        "low",
        "high",
        "n_seeds",
    ),
    "prevalence": ("real",),
    "rarity": ("mean_log_probability", "n"),
    "label_quality": ("group", "attribute", "f1", "precision", "recall", "error", "kept"),
    "audit": ("arm", "baseline", "attribute", "grouping", "group", "metric", "value", "p_holm"),
    "composition": ("set", "grouping", "group", "n", "share"),
    "admission": ("arm", "admission", "images", "share"),
    "quotas": ("arm", "wish", "wanted", "available", "got"),
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a report shows."""

    title: str
    """Heading of the page."""
    summary: pd.DataFrame
    """Macro scores on test: `arm, metric (f1, precision, recall), mean, low, high, n_seeds`."""
    scores: pd.DataFrame
    """Tidy scores: `arm, seed, split, attribute, metric, value`; attribute `macro` for means."""
    n_scored: int
    """Number of attributes the macro scores are a mean over."""
    n_attributes: int
    """Number of attributes of the study."""
    arm: str = "minority"
    """The arm the verdict is about."""
    cautions: Sequence[str] = ()
    """Why the verdict should not be trusted; a sentence each, shown beside it."""
    controls: Mapping[str, str] = field(default_factory=dict)
    """Arms that only tell why another gains -> what they are, in words; left out of the figures."""
    comparisons: pd.DataFrame | None = None
    """Paired differences: `arm, baseline, attribute, metric, difference, low, high, n_seeds`."""
    reference: Mapping[str, Mapping[str, float]] | None = None
    """Published scores, arm -> metric -> value, shown beside the study's own; see
    `PAPER_REFERENCE`."""
    samples: Mapping[str, Sequence[str | Path]] | None = None
    """Arm -> image files for the grid of that arm; the first 64 are shown."""
    rarest: Mapping[str, Sequence[str | Path]] | None = None
    """Arm -> image files of its rarest images, rarest first."""
    prevalence: pd.DataFrame | None = None
    """Share of positives in [0, 1]: index attribute, one column a set, `real` (the real train
    split) among them; a column `true` holds the known distribution's. Attributes are ordered by
    `true`, else by `real`, rarest first."""
    rarity: pd.DataFrame | None = None
    """Mean log-probability (nats) under the known distribution: index set, columns
    `mean_log_probability, n`."""
    label_quality: pd.DataFrame | None = None
    """The labeler's own scores on real validation rows: `group` (`all` first, then such as
    `Male=0, Young=1`), `attribute, f1, precision, recall`, `error` (share of wrong labels), `kept`
    (share of cells that got a label)."""
    policy: pd.DataFrame | None = None
    """What made the labeler's probabilities labels: index attribute, among the columns `present,
    absent, temperature, kept, ece_before, ece_after`; None for the labeler's own thresholds."""
    audit: pd.DataFrame | None = None
    """Figures by group and their change from the baseline; see `classify.fairness.audit`."""
    composition: pd.DataFrame | None = None
    """Images of each group in each set: `set, grouping, group, n, share`."""
    admission: pd.DataFrame | None = None
    """How many generated images were kept, and why the others were not: `arm, admission, images,
    share`."""
    rejected: Sequence[tuple[str | Path, str]] = ()
    """Image file and reason of rejected images; shown as a grid a reason."""
    quotas: pd.DataFrame | None = None
    """What was wanted and got: `arm, wish, wanted, available, got`."""
    settings: Mapping[str, Any] | None = None
    """The resolved configuration, nested."""
    cards: Mapping[str, Mapping[str, Any]] | None = None
    """Name of the weights -> their card."""
    versions: Mapping[str, str] | None = None
    """Name of the package -> version."""
    notes: Sequence[str] = field(default_factory=tuple)
    """Warnings, skipped images, diagnostics, time taken; a sentence each."""

    def __post_init__(self) -> None:
        for name, needed in _COLUMNS.items():
            frame = getattr(self, name)
            missing = [c for c in needed if frame is not None and c not in frame.columns]
            if missing:
                raise ValueError(
                    f"{name} of the report has no column {', '.join(missing)}; expected "
                    f"{', '.join(needed)}; pass the table as the study returns it"
                )
        if not 0 <= self.n_scored <= self.n_attributes:
            raise ValueError(
                f"n_scored of the report is {self.n_scored}; expected 0 to n_attributes = "
                f"{self.n_attributes}; count the attributes behind the macro scores"
            )
