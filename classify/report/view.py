"""`Report` -> the values the template prints: numbers as text, tables as rows, figures as SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from classify.comparison import RARE
from classify.report.difference_view import apart_view, forest_views
from classify.report.fairness_view import audit_view, composition_view
from classify.report.figures import N_COLOURS, dot_plot
from classify.report.order import ordered
from classify.report.quality_view import policy_view, quality_view
from classify.report.report import Report
from classify.report.sheet import contact_sheet
from classify.report.text import METRICS, NOTHING, interval, number, percent
from classify.report.verdict import MACRO, Verdict, verdicts

__all__ = ["view"]

_PHRASES = {
    "gain": "a gain over {}",
    "loss": "a loss against {}",
    "no evidence of gain": "no evidence of gain over {}",
}
_JOINTS = {"gain": " and ", "loss": " and ", "no evidence of gain": " or "}
_KNOWN = "known distribution"


def view(report: Report) -> dict[str, Any]:
    """The template's variables; a part that the report does not have is None."""
    arms = list(dict.fromkeys(report.summary["arm"]))
    shares = _shares(report.prevalence)
    colours = {arm: i % N_COLOURS for i, arm in enumerate(arms)}
    by_attribute = _by_attribute(report.scores, arms, shares)
    pairs = [] if report.comparisons is None else verdicts(report.comparisons, report.arm)
    main = [pair for pair in pairs if pair.baseline not in report.controls]
    return {
        "report": report,
        "n_colours": N_COLOURS,
        "arms": arms,
        "colours": colours,
        "metrics": METRICS,
        "verdicts": [_verdict(pair) for pair in main],
        "headline": _headline(report.arm, main),
        "table": _summary(report.summary, arms),
        "reference": _reference(report.reference),
        "seeds": int(report.summary["n_seeds"].max()),
        "sheets": {
            name: contact_sheet(paths) for name, paths in (report.samples or {}).items() if paths
        },
        "rarest": {
            name: contact_sheet(paths) for name, paths in (report.rarest or {}).items() if paths
        },
        "controls": _controls(report, pairs),
        "attributes": _attribute_section(by_attribute, report.controls, colours, shares),
        "apart": apart_view(report),
        "forests": forest_views(report, colours, shares),
        "share_of": _KNOWN if _is_known(report.prevalence) else "real train split",
        "rare": None if report.prevalence is None else _rare(report.prevalence, colours),
        "rarity": None if report.rarity is None else _rarity(report.rarity),
        "quality": quality_view(report.label_quality, shares),
        "policy": policy_view(report.policy),
        "audit": None if report.audit is None else audit_view(report.audit, report.arm),
        "composition": None if report.composition is None else composition_view(report.composition),
        "admission": [] if report.admission is None else _admission(report.admission),
        "rejected": _rejected(report.rejected),
        "quotas": [] if report.quotas is None else _quotas(report.quotas),
        "settings": _flat(report.settings),
        "cards": {name: _flat(card) for name, card in (report.cards or {}).items()},
        "versions": _flat(report.versions),
    }


def _headline(arm: str, pairs: Sequence[Verdict]) -> str:
    if not pairs:
        return "No paired comparison was made, so there is no verdict."
    baselines: dict[str, list[str]] = {}
    for pair in pairs:
        baselines.setdefault(pair.word, []).append(pair.baseline)
    parts = [_PHRASES[word].format(_JOINTS[word].join(names)) for word, names in baselines.items()]
    return f"{arm} shows {', '.join(parts)}."


def _verdict(pair: Verdict) -> dict[str, str]:
    seeds = "1 seed" if pair.n_seeds == 1 else f"{pair.n_seeds} paired seeds"
    bounds = interval(pair.low, pair.high, signed=True)
    difference = number(pair.difference, signed=True)
    figures = f"difference in macro F1 {difference}, 95 % interval {bounds}, {seeds}"
    return {"word": pair.word, "pair": f"{pair.arm} against {pair.baseline}", "figures": figures}


def _summary(summary: pd.DataFrame, arms: Sequence[str]) -> list[dict[str, Any]]:
    rows = {(row["arm"], row["metric"]): row for row in summary.to_dict("records")}
    return [
        {
            "arm": arm,
            "cells": [
                (number(row["mean"]), interval(row["low"], row["high"])) if row else (NOTHING, "")
                for row in (rows.get((arm, metric)) for metric in METRICS)
            ],
            "n_seeds": max(int(row["n_seeds"]) for (a, _), row in rows.items() if a == arm),
        }
        for arm in arms
    ]


def _reference(reference: Mapping[str, Mapping[str, float]] | None) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "cells": [number(scores.get(metric, math.nan)) for metric in METRICS]}
        for arm, scores in (reference or {}).items()
    ]


def _shares(prevalence: pd.DataFrame | None) -> pd.Series[float] | None:
    """Share of positives by attribute, rarest first: the page's order. The known one where there "
    "is one.
    """
    if prevalence is None:
        return None
    column = "true" if _is_known(prevalence) else "real"
    return prevalence[column].sort_values(kind="stable", na_position="last")


def _is_known(prevalence: pd.DataFrame | None) -> bool:
    return prevalence is not None and "true" in prevalence.columns


def _by_attribute(
    scores: pd.DataFrame, arms: Sequence[str], shares: pd.Series[float] | None
) -> pd.DataFrame:
    """Mean F1 over seeds on test: index attribute, columns arms."""
    rows = scores[
        (scores["split"] == "test") & (scores["metric"] == "f1") & (scores["attribute"] != MACRO)
    ]
    names = list(dict.fromkeys(rows["attribute"]))
    table = rows.pivot_table(index="attribute", columns="arm", values="value", dropna=False)
    return ordered(table.reindex(index=names, columns=list(arms)), shares)


def _controls(report: Report, pairs: Sequence[Verdict]) -> list[tuple[str, str, str, str, str]]:
    """Arm, what it is, and the difference to it, its interval and the word."""
    return [
        (
            pair.baseline,
            report.controls[pair.baseline],
            number(pair.difference, signed=True),
            interval(pair.low, pair.high, signed=True),
            pair.word,
        )
        for pair in pairs
        if pair.baseline in report.controls
    ]


def _attribute_section(
    table: pd.DataFrame,
    controls: Collection[str],
    colours: Mapping[str, int],
    shares: pd.Series[float] | None,
) -> dict[str, Any] | None:
    scored = table.dropna(how="all")
    if scored.empty:
        return None
    drawn = scored.drop(columns=list(controls), errors="ignore")
    return {
        "arms": list(drawn),
        "figure": dot_plot(drawn, colours, label="F1 on the real test split", shares=shares),
        "missing": [name for name in table.index if name not in scored.index],
        "rows": [
            [
                name,
                *([] if shares is None else [percent(shares.get(name, np.nan))]),
                *map(number, row),
            ]
            for name, row in zip(table.index, table.to_numpy(float), strict=True)
        ],
        "has_shares": shares is not None,
    }


def _rare(prevalence: pd.DataFrame, colours: Mapping[str, int]) -> dict[str, Any] | None:
    shares = _shares(prevalence)
    assert shares is not None
    table = ordered(prevalence[prevalence["real"] < RARE], shares)
    table = table.rename(columns={"true": _KNOWN})
    if table.empty:
        return None
    return {
        "figure": dot_plot(table, colours, label="share of positives", percent=True),
        "columns": list(table.columns),
        "rows": [
            (str(name), [percent(value) for value in row])
            for name, row in zip(table.index, table.to_numpy(float), strict=True)
        ],
    }


def _rarity(rarity: pd.DataFrame) -> list[tuple[str, str, str]]:
    return [
        (str(name), number(row["mean_log_probability"], 2), f"{int(row['n']):,}")
        for name, row in zip(rarity.index, rarity.to_dict("records"), strict=True)
    ]


def _admission(rates: pd.DataFrame) -> list[list[str]]:
    columns = rates[["arm", "admission", "images", "share"]].itertuples(index=False, name=None)
    return [[arm, why, f"{count:,}", percent(share)] for arm, why, count, share in columns]


def _rejected(images: Sequence[tuple[Any, str]]) -> dict[str, Any]:
    reasons = dict.fromkeys(reason for _, reason in images)
    return {why: contact_sheet([path for path, r in images if r == why]) for why in reasons}


def _quotas(quotas: pd.DataFrame) -> list[list[str]]:
    """The wishes' rows; a quota without wish needs no table."""
    wishes = quotas[quotas["wish"] != "all"]
    columns = ["arm", "wish", "wanted", "available", "got"]
    return [[str(cell) for cell in row] for row in wishes[columns].to_numpy()]


def _flat(nested: Mapping[str, Any] | None, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as rows `a.b.c, value`; lists stay in one row."""
    return list(_walk(nested or {}, prefix))


def _walk(nested: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from _walk(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)
        else:
            yield f"{prefix}{key}", NOTHING if value is None else str(value)
