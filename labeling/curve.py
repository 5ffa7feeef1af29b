"""Everything a threshold can do on labelled rows: one entry for each possible cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Curve"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Counts of "present where p >= cut", for descending cuts (K,)."""

    cuts: Floats
    """Half-way between two neighbouring probabilities, the last half-way from the smallest to 0."""
    called: Floats
    """Rows called present."""
    true: Floats
    """Those of them that are."""
    n: int
    """All rows."""
    n_positive: int
    """Rows that are present."""

    @classmethod
    def of(cls, p: Floats, y: Floats) -> Curve:
        """Of probabilities (N,) and labels 1, 0 or NaN = unlabelled, left out, (N,), N > 0."""
        known = ~np.isnan(y)
        p, y = p[known], y[known]
        values, row_of = np.unique(-p, return_inverse=True)  # descending probabilities
        values = -values
        return cls(
            cuts=(values + np.append(values[1:], 0.0)) / 2,
            called=np.cumsum(np.bincount(row_of)).astype(np.float64),
            true=np.cumsum(np.bincount(row_of, weights=y)),
            n=len(y),
            n_positive=int(y.sum()),
        )

    @property
    def holds_both(self) -> bool:
        """Whether the rows hold present and absent ones; nothing can be weighed otherwise."""
        return 0 < self.n_positive < self.n

    @property
    def f1(self) -> Floats:
        """F1 of the positive class, by cut."""
        return 2 * self.true / (self.called + self.n_positive)

    def precise_present(self, wanted: float, min_count: int) -> npt.NDArray[np.bool_]:
        """Cuts at which `present` is right as often as wanted, on `min_count` rows at least."""
        return (self.called >= min_count) & (self.true >= wanted * self.called)

    def precise_absent(self, wanted: float, min_count: int) -> npt.NDArray[np.bool_]:
        """Cuts at which `absent` is right as often as wanted, on `min_count` rows at least."""
        called = self.n - self.called
        true = called - (self.n_positive - self.true)
        return (called >= min_count) & (true >= wanted * called)
