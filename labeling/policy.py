"""When a probability is a label: temperature, threshold, and a range where the cell stays empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from labeling.card import DEFAULT_THRESHOLD, head
from labeling.files import one_line, read_json, write_text
from labeling.labeler import Predictor
from labeling.thresholds import (
    Curve,
    Floats,
    as_columns,
    calibrated,
    calibration_error,
    fit_temperature,
    fit_threshold,
)

__all__ = ["LabelPolicy", "PolicyConfig", "Rule"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """What is wanted of labels."""

    precision: float | None = None
    """Share of present labels that shall be right: the lowest threshold that keeps it; where none
    does, or left out, the F1-optimal one, or 0.5 where such ones harm rows left out of the fit."""
    band: float = 0.0
    """Cells whose calibrated probability is nearer to the threshold than this stay empty."""
    both_precision: float | None = None
    """Share of present and of absent labels that shall be right; cells that would break it stay
    empty. Takes the place of `precision` and `band`."""
    min_count: int = 10
    """Validation rows that a wanted precision has to be seen on."""
    calibrate: bool = True
    """Fit a temperature, kept where it helps on rows left out; otherwise it is 1."""

    def __post_init__(self) -> None:
        for name in ("precision", "both_precision"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"wanted.{name} is {value}; give a share in (0, 1], such as 0.95")
        if not 0 <= self.band < 1:
            raise ValueError(
                f"wanted.band is {self.band}; give a number in [0, 1), 0 to fill every cell"
            )
        if self.min_count < 1:
            raise ValueError(
                f"wanted.min_count is {self.min_count}; give a number of rows, at least 1"
            )
        if self.both_precision is not None and (self.precision is not None or self.band):
            raise ValueError(
                f"wanted.both_precision is {self.both_precision}; it takes the place of "
                "wanted.precision and wanted.band; leave these out"
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
    doubt: str = ""
    """Why every cell stays empty, whatever the probability; empty where none does for that."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature is {self.temperature}; give a number above 0")
        if self._lowest_present < self._highest_absent:
            raise ValueError(
                f"absent is {self.absent} and present {self.present}; give an absent that is no "
                "higher"
            )

    @property
    def _lowest_present(self) -> float:
        return math.inf if self.present is None else self.present

    @property
    def _highest_absent(self) -> float:
        return -math.inf if self.absent is None else self.absent

    def decide(self, p: Floats) -> Floats:
        """1, 0 or NaN = empty, float64 (N,), of calibrated probabilities (N,)."""
        labels = np.full(len(p), np.nan)
        if self.doubt:
            return labels
        labels[p >= self._lowest_present] = 1.0
        labels[p < self._highest_absent] = 0.0
        return labels


@dataclass(frozen=True, kw_only=True)
class LabelPolicy:
    """One `Rule` an attribute, and what they were fitted for."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    """Attribute name -> its rule."""
    config: PolicyConfig = field(default_factory=PolicyConfig)
    """What was asked of the fit."""
    labeler: str = ""
    """sha256 of the labeler it belongs to; empty for any."""

    @classmethod
    def of_card(cls, labeler: Predictor) -> LabelPolicy:
        """The thresholds of a labeler's card: present where p >= threshold, else absent; nothing is
        empty and nothing calibrated.
        """
        rules = {name: Rule(present=t, absent=t) for name, t in labeler.thresholds.items()}
        return cls(rules=rules, labeler=labeler.sha256)

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
        rules = {name: _fit_rule(p[:, i], y[:, i], config) for i, name in enumerate(attributes)}
        return cls(rules=rules, config=config, labeler=labeler)

    def completed(self, labeler: Predictor) -> LabelPolicy:
        """Add the thresholds of the labeler's card for attributes without a rule.

        Raises:
            ValueError: it was fitted for another labeler.
        """
        self.check_labeler(labeler.sha256)
        return replace(self, rules={**self.of_card(labeler).rules, **self.rules})

    def doubting(self, doubts: Mapping[str, str]) -> LabelPolicy:
        """The policy that leaves all cells of some attributes empty, attribute -> why, and of no
        others for that reason.
        """
        rules = {name: replace(r, doubt=doubts.get(name, "")) for name, r in self.rules.items()}
        return replace(self, rules=rules)

    @property
    def doubts(self) -> dict[str, str]:
        """Attribute -> why its cells stay empty, of those that do for a reason."""
        return {name: rule.doubt for name, rule in self.rules.items() if rule.doubt}

    def check_labeler(self, sha256: str) -> None:
        """Refuse a labeler it was not fitted for, with a ValueError."""
        if self.labeler and sha256 and self.labeler != sha256:
            raise ValueError(
                f"the policy was fitted for the labeler {self.labeler[:12]}, not for "
                f"{sha256[:12]}; fit one for this labeler"
            )

    def apply(
        self, probabilities: npt.ArrayLike, attributes: Sequence[str], *, soft: bool = False
    ) -> tuple[Floats, Floats]:
        """Labels and calibrated probabilities.

        Args:
            probabilities: float (N, A) in [0, 1]; NaN = no prediction.
            attributes: the A names; one without a rule stays empty.
            soft: give the calibrated probability in place of 1 and 0.

        Returns:
            float64 (N, A) of 1, 0 (or the probability) and NaN = empty; and float64 (N, A) in
            [0, 1], NaN where there is no prediction.
        """
        p = np.array(probabilities, dtype=np.float64)
        labels = np.full_like(p, np.nan)
        for i, name in enumerate(attributes):
            if (rule := self.rules.get(name)) is not None:
                p[:, i] = calibrated(p[:, i], rule.temperature)
                labels[:, i] = rule.decide(p[:, i])
        return np.where(np.isnan(labels), np.nan, p) if soft else labels, p

    def summary(self) -> pd.DataFrame:
        """The rules as a table of numbers: one row per attribute (index `attribute`), one column
        per field of `Rule`, NaN where it is None.
        """
        names = [f.name for f in fields(Rule) if f.name != "doubt"]
        index = pd.Index(list(self.rules), name="attribute")
        table = pd.DataFrame(
            [asdict(rule) for rule in self.rules.values()], index=index, columns=names
        )
        return table.astype({name: float for name in names if table[name].dtype == object})

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
                f"policy {path} is missing; write it with: python recipes/label.py fit TABLE "
                f"--labeler SRC --out {path}"
            )
        content = read_json(path)
        try:
            return cls(
                rules={name: Rule(**rule) for name, rule in content["rules"].items()},
                config=PolicyConfig(**content["config"]),
                labeler=content["labeler"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a label policy ({one_line(error)}); fit it again"
            ) from error


def _refuse_other_rows(table: pd.DataFrame) -> None:
    if "split" not in table.columns or table.empty:
        got = "has no rows" if table.empty else "has no column split"
        raise ValueError(
            f"the table to fit on {got}; a policy is fitted on real val rows; give them"
        )
    for column, value in {"split": "val", "source": "real"}.items():
        if column not in table.columns:
            continue
        strays = np.flatnonzero(table[column] != value)
        if strays.size:
            got = table[column].iloc[strays[0]]
            raise ValueError(
                f"row {strays[0]} has {column} {got!r} (and {strays.size - 1:,} more); a policy is "
                "fitted on real rows of split val only; leave the others out"
            )


def _fit_rule(p: Floats, y: Floats, config: PolicyConfig) -> Rule:
    """The rule of one attribute, from float64 (N,) probabilities and labels 1, 0 or NaN = left out.

    Where the rows do not hold both values nothing can be fitted: 0.5 divides present from absent,
    or everything stays empty if `both_precision` is wanted.
    """
    known = ~np.isnan(y)
    p, y = p[known], y[known]
    n, n_positive = len(y), int(y.sum())
    if not 0 < n_positive < n:
        cut = None if config.both_precision is not None else DEFAULT_THRESHOLD
        return Rule(present=cut, absent=cut, n=n, n_positive=n_positive)
    temperature = fit_temperature(p, y) if config.calibrate else 1.0
    scaled = calibrated(p, temperature)
    present, absent = _cuts(scaled, y, config)
    rule = Rule(present=present, absent=absent, temperature=temperature, n=n, n_positive=n_positive)
    decided = rule.decide(scaled)
    return replace(
        rule,
        kept=float(np.mean(~np.isnan(decided))),
        precision_present=_share_right(decided, y, 1),
        precision_absent=_share_right(decided, y, 0),
        ece_before=calibration_error(p, y),
        ece_after=calibration_error(scaled, y),
    )


def _share_right(decided: Floats, y: Floats, value: int) -> float | None:
    """Share of the rows decided to have a value that have it."""
    called = decided == value
    return float(np.mean(y[called] == value)) if called.any() else None


def _cuts(p: Floats, y: Floats, config: PolicyConfig) -> tuple[float | None, float | None]:
    """`present` and `absent` of the rule."""
    curve = Curve.of(p, y)
    if config.both_precision is not None:
        return _precise_cuts(curve, config.both_precision, config.min_count)
    threshold = fit_threshold(p, y)
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
