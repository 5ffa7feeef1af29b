"""When a probability is a label: temperature, threshold, and a range where the cell stays empty."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from labeling.calibration import calibrated
from labeling.card import head
from labeling.card_file import read_json
from labeling.files import write_text
from labeling.rule import PolicyConfig, Rule, fit_rule
from labeling.thresholds import as_columns

__all__ = ["LabelPolicy"]


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """One `Rule` an attribute, and what they were fitted for."""

    rules: Mapping[str, Rule]
    """Attribute name -> its rule."""
    config: PolicyConfig = field(default_factory=PolicyConfig)
    """What was asked of the fit."""
    labeler: str = ""
    """sha256 of the labeler it belongs to; empty for any."""

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        probabilities: npt.ArrayLike,
        attributes: Sequence[str],
        *,
        config: PolicyConfig | None = None,
        labeler: str = "",
    ) -> LabelPolicy:
        """Fit on real validation rows, and on no others.

        Args:
            table: N rows with `split` val throughout, `source` real (or no such column), and the
                attributes' true labels 1.0, 0.0 or NaN = unlabelled.
            probabilities: float (N, A) in [0, 1] of the same rows; NaN = no prediction.
            attributes: the A names.
            config: what is wanted.
            labeler: sha256 of the labeler that gave the probabilities.

        Raises:
            ValueError: a row is not val or not real, an attribute is missing, or shapes differ.
        """
        _refuse_other_rows(table)
        if missing := [name for name in attributes if name not in table.columns]:
            raise ValueError(
                f"the table has no column {head(missing)}; thresholds are fitted on true labels; "
                "add them or leave the attribute out"
            )
        config = config or PolicyConfig()
        truth = table[list(attributes)].to_numpy(dtype=np.float64)
        p, y = as_columns(probabilities, truth, len(attributes))
        rules = {name: fit_rule(p[:, i], y[:, i], config) for i, name in enumerate(attributes)}
        return cls(rules=rules, config=config, labeler=labeler)

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float]) -> LabelPolicy:
        """Present where p >= threshold, else absent; nothing empty and nothing calibrated."""
        return cls(rules={name: Rule.at(value) for name, value in thresholds.items()})

    def calibrate(
        self, probabilities: npt.ArrayLike, attributes: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Calibrated probabilities float64 (N, A) of float (N, A); NaN stays NaN."""
        p = np.array(probabilities, dtype=np.float64)
        for i, name in enumerate(attributes):
            if name in self.rules:
                p[:, i] = calibrated(p[:, i], self.rules[name].temperature)
        return p

    def decide(
        self, probabilities: npt.ArrayLike, attributes: Sequence[str], *, soft: bool = False
    ) -> npt.NDArray[np.float64]:
        """Labels of probabilities that `calibrate` gave.

        Args:
            probabilities: float (N, A) in [0, 1]; NaN = no prediction.
            attributes: the A names; one without a rule stays empty.
            soft: give the probability itself in place of 1 and 0.

        Returns:
            float64 (N, A) of 1, 0 (or the probability) and NaN = empty.
        """
        p = np.array(probabilities, dtype=np.float64)
        labels = np.full_like(p, np.nan)
        for i, name in enumerate(attributes):
            if name in self.rules:
                labels[:, i] = self.rules[name].decide(p[:, i])
        return np.where(np.isnan(labels), np.nan, p) if soft else labels

    def write(self, path: str | Path) -> None:
        """Write as JSON, atomically; ValueError if the file exists."""
        content = {
            "labeler": self.labeler,
            "config": asdict(self.config),
            "rules": {name: asdict(rule) for name, rule in self.rules.items()},
        }
        write_text(Path(path), json.dumps(content, indent=1, allow_nan=False))

    @classmethod
    def read(cls, path: str | Path) -> LabelPolicy:
        """Read what `write` wrote; FileNotFoundError or ValueError where there is no such file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"policy {path} is missing; write it with: python -m labeling fit TABLE --labeler "
                f"SRC --out {path}"
            )
        content = read_json(path)
        try:
            return cls(
                rules={name: Rule(**rule) for name, rule in content["rules"].items()},
                config=PolicyConfig(**content["config"]),
                labeler=content["labeler"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not a label policy ({reason}); fit it again") from error

    def check_labeler(self, sha256: str) -> None:
        """Refuse a labeler it was not fitted for, with a ValueError."""
        if self.labeler and sha256 and self.labeler != sha256:
            raise ValueError(
                f"the policy was fitted for the labeler {self.labeler[:12]}, not for "
                f"{sha256[:12]}; fit one for this labeler"
            )

    def summary(self) -> pd.DataFrame:
        """The rules as a table: one row an attribute (index `attribute`), a column a field."""
        names = [f.name for f in fields(Rule)]
        rows: list[dict[str, Any]] = [asdict(rule) for rule in self.rules.values()]
        index = pd.Index(list(self.rules), name="attribute")
        return pd.DataFrame(rows, index=index, columns=names)


def _refuse_other_rows(table: pd.DataFrame) -> None:
    wanted = {"split": "val", "source": "real"}
    if "split" not in table.columns or table.empty:
        got = "has no rows" if table.empty else "has no column split"
        raise ValueError(f"the table to fit on {got}; expected real rows of split val; give them")
    for column, value in wanted.items():
        if column not in table.columns:
            continue
        strays = np.flatnonzero(table[column] != value)
        if strays.size:
            got = table[column].iloc[strays[0]]
            raise ValueError(
                f"row {strays[0]} has {column} {got!r} (and {strays.size - 1:,} more); a policy is "
                "fitted on real rows of split val only; leave the others out"
            )
