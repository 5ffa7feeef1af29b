"""The rare end of the real images, by several definitions, as data.

Who is closest to the rare images depends on who is called rare: the paper takes those of the
highest AvgkNN, a later one those of the lowest JEPA score, and the two rank samplers otherwise. So
a tail is a value:

    avg_knn: {by: avg_knn}                               # of AvgkNN in the encoder's features
    jepa: {by: jepa_score, lowest: true}                 # of the generator's own activations
    restored: {by: minority_score, count: 200}           # hardly restored by the generator
    known: {by: score, file: scores.csv, lowest: true}   # a column of a table made elsewhere
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classify.names import one_of
from recipes.chain.command.values import Values, read_values

__all__ = ["DEFAULT_TAILS", "Tail", "read_tails"]

DEFAULT_TAILS: Mapping[str, Values] = {
    "highest AvgkNN": {"by": "avg_knn"},
    "lowest JEPA score": {"by": "jepa_score", "lowest": True},
}
_SHARE, _FEWEST = 0.1, 50
"""Share and least number of the real images, where no count is given."""

Scores = Mapping[str, Callable[[], NDArray[np.floating]]]
"""What real images can be scored by here: name -> the scores of all, in order."""


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Some of the real train images, by a score."""

    by: str
    """avg_knn, jepa_score, minority_score or hardness; of a file, the column."""
    count: int | None = None
    """How many images; left out, a tenth of all, at least 50 or half of them."""
    lowest: bool = False
    """The lowest scores, in place of the highest."""
    file: Path | None = None
    """A CSV table with `file_name` and the scores, made elsewhere."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 2:
            raise ValueError(f"count is {self.count}; give at least 2 images")
        if self.file is not None and not self.file.is_file():
            raise FileNotFoundError(f"file {self.file} is missing; give a table of scores")

    def rows(self, names: pd.Series, known: Scores) -> NDArray[np.intp]:
        """Positions of the tail's images, the farthest out first.

        Args:
            names: file names of the real images, as the file calls them.
            known: what they can be scored by without a file.

        Raises:
            ValueError: an unknown score, images without one, or more images than there are.
        """
        scores = self._of_file(names) if self.file is not None else self._of(known)
        count = self.count or min(max(_FEWEST, int(_SHARE * len(names))), len(names) // 2)
        if count > len(names):
            raise ValueError(
                f"count is {count}, and there are {len(names)} real train images; give at most that"
            )
        order: NDArray[np.intp] = np.argsort(scores if self.lowest else -scores, kind="stable")
        return order[:count]

    def _of(self, known: Scores) -> NDArray[np.floating]:
        if self.by not in known:
            raise ValueError(
                f"by is {self.by}; {one_of(self.by, known)}, or a column of a table by file"
            )
        return known[self.by]()

    def _of_file(self, names: pd.Series) -> NDArray[np.floating]:
        assert self.file is not None
        table = pd.read_csv(self.file)
        if missing := [name for name in ("file_name", self.by) if name not in table]:
            raise ValueError(f"{self.file} has no column {missing[0]}; add it")
        scores = table.drop_duplicates("file_name").set_index("file_name")[self.by].reindex(names)
        if scores.isna().any():
            raise ValueError(
                f"{self.file} has no {self.by} of {scores.index[scores.isna()][0]}; "
                "give a score of every real train image"
            )
        found: NDArray[np.floating] = scores.to_numpy(float)
        return found


def read_tails(values: Mapping[str, Values]) -> dict[str, Tail]:
    """Tails from their mappings.

    Raises:
        ValueError: an unknown field or a refused value; one line.
    """
    return {name: read_values(Tail, one, f"tails.{name}") for name, one in values.items()}
