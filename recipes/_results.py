"""What a run tells: the printed table, the CSV files and the report."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from augment import keep_rates
from augment.admission import ADMISSION, KEPT, UNREADABLE
from classify import Predictions, compare, count_scored, read_predictions, summarise
from classify.report import PAPER_REFERENCE, Report, verdicts, write_report
from recipes._audit import audit_arms, audit_groups, compose, export
from recipes._controls import MEANINGS
from recipes._files import write_csv
from recipes._fill import Filled
from recipes._prepare import ARMS, Chain
from recipes._quality import label_quality, label_rarity, useless_labels

__all__ = ["format_summary", "tell"]

_PACKAGES = ("torch", "torchvision", "lightning", "diffusers", "torchmetrics", "lpips")
_SHOWN = 64
"""Samples of each arm in the report."""


def tell(
    chain: Chain,
    title: str,
    filled: Mapping[str, Filled],
    scores: pd.DataFrame,
    *,
    reference: bool = False,
) -> pd.DataFrame:
    """Write the CSV files, what other auditing tools take, and `report.html`; print the table.

    Args:
        chain: the run.
        title: the report's heading.
        filled: synthetic arm -> what was generated, and what was taken of it.
        scores: tidy scores of the study.
        reference: show the paper's figures beside.

    Returns:
        The summary: `arm, metric, mean, low, high, n_seeds`.
    """
    summary = summarise(scores)
    predictions = read_predictions(
        chain.config.out, list(summary["arm"].unique()), chain.config.study.seeds
    )
    tables = {
        "scores": scores,
        "summary": summary,
        "comparison": _comparisons(chain, predictions),
        "admission": keep_rates({arm: found.table for arm, found in filled.items()}),
        "label_quality": label_quality(chain),
    }
    groups = audit_groups(chain.table, predictions.files)
    if groups is not None:
        tables["audit"] = audit_arms(predictions, groups)
    if useless := useless_labels(tables["label_quality"]):
        chain.caution(
            f"The labeler cannot tell {', '.join(useless)} on the real validation images (hardly "
            "better than chance): what is trained on its labels of these says nothing."
        )
    report = _report(chain, title, filled, tables, reference=reference)
    if chain.fabric.is_global_zero:
        for name, table in tables.items():
            write_csv(chain.config.out / f"{name}.csv", table)
        if groups is not None:
            export(chain.config.out / "audit", predictions, groups)
        write_report(chain.config.out / "report.html", report)
    chain.say(format_summary(summary, report.n_scored, report.n_attributes))
    for verdict in verdicts(tables["comparison"], "minority"):
        interval = f"[{verdict.low:+.3f}, {verdict.high:+.3f}]"
        if np.isnan(verdict.low):
            interval = "(one seed, so no interval)"
        difference = f"F1 {verdict.difference:+.3f} {interval}"
        chain.say(f"minority - {verdict.baseline}: {difference}, {verdict.word}")
    chain.say(f"Report: {chain.config.out / 'report.html'}")
    return summary


def _report(
    chain: Chain,
    title: str,
    filled: Mapping[str, Filled],
    tables: Mapping[str, pd.DataFrame],
    *,
    reference: bool,
) -> Report:
    synthetic = {arm: found.selection.table for arm, found in filled.items()}
    return Report(
        title=title,
        summary=tables["summary"],
        scores=tables["scores"],
        n_scored=count_scored(tables["scores"]),
        n_attributes=len(chain.attributes),
        cautions=chain.cautions,
        controls={name: MEANINGS[name] for name in chain.config.controls},
        comparisons=tables["comparison"],
        reference=PAPER_REFERENCE if reference else None,
        samples={arm: list(table["path"].head(_SHOWN)) for arm, table in synthetic.items()},
        rarest={arm: _rarest(chain, table) for arm, table in synthetic.items()},
        prevalence=_prevalence(chain, synthetic),
        rarity=_rarity(chain, synthetic),
        label_quality=tables["label_quality"],
        policy=None if chain.policy is None else chain.policy.summary(),
        audit=tables.get("audit"),
        composition=compose(chain.table, synthetic) if "audit" in tables else None,
        admission=tables["admission"],
        rejected=_rejected(filled),
        quotas=pd.concat([found.selection.report.assign(arm=arm) for arm, found in filled.items()]),
        settings=chain.config.record(),
        cards={
            "generator": chain.denoiser.card,
            "labeler": {**asdict(chain.labeler.card), "sha256": chain.labeler.sha256},
        },
        versions={"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        notes=chain.notes,
    )


def format_summary(summary: pd.DataFrame, scored: int, attributes: int) -> str:
    """The paper's table as text: macro F1, precision and recall by arm, with 95 % intervals."""
    seeds = int(summary["n_seeds"].max())
    width = max(10, *(len(str(arm)) + 2 for arm in summary["arm"]))
    lines = [
        f"Mean over {scored} of {attributes} attributes, real test images, {seeds} seeds "
        "(95 % interval over seeds)",
        f"{'':<{width}}" + "".join(f"{name:<24}" for name in ("F1", "precision", "recall")),
    ]
    for arm, rows in summary.groupby("arm", sort=False):
        by_metric = {str(row["metric"]): row for row in rows.to_dict("records")}
        cells = [_cell(by_metric[metric]) for metric in ("f1", "precision", "recall")]
        lines.append(f"{arm:<{width}}" + "".join(f"{cell:<24}" for cell in cells))
    return "\n".join(lines)


def _cell(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["low"]):
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _comparisons(chain: Chain, predictions: Predictions) -> pd.DataFrame:
    """Every arm against real, plain and each control, paired by seed and test image."""
    train = chain.table[chain.table["split"] == "train"]
    shares = train[list(chain.attributes)].mean().fillna(0.0)
    return pd.concat(
        compare(
            predictions.labels,
            predictions.probabilities,
            predictions.attributes,
            baseline,
            shares={str(name): float(share) for name, share in shares.items()},
        )
        for baseline in ("real", "plain", *chain.config.controls)
    )


def _rejected(filled: Mapping[str, Filled]) -> list[tuple[str, str]]:
    """Image file and reason of rejected images, the first of every arm."""
    tables = [found.table[found.table[ADMISSION] != KEPT] for found in filled.values()]
    return [
        (str(path), str(reason))
        for table in tables
        for path, reason in table[["path", ADMISSION]].head(_SHOWN // 4).to_numpy()
        if reason != UNREADABLE
    ]


def _rarest(chain: Chain, table: pd.DataFrame) -> list[str]:
    """Files of the images whose labels are the least likely, by the real train images' shares."""
    shares = chain.table.loc[chain.table["split"] == "train", list(chain.attributes)].mean()
    rarity = label_rarity(table, shares.dropna())
    count = min(_SHOWN // 2, len(table) // 4)  # of a few, most would be called the rarest
    return list(table.loc[rarity.nlargest(count).index, "path"])


def _prevalence(chain: Chain, synthetic: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of positives by attribute: real train labels, and each arm's pseudo-labels."""
    names = list(chain.attributes)
    real = chain.table.loc[chain.table["split"] == "train", names].mean()
    shares = {"real": real, **{arm: synthetic[arm][names].mean() for arm in ARMS}}
    return pd.DataFrame(shares).rename_axis("attribute")


def _rarity(chain: Chain, synthetic: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Mean log-probability of each set's attributes under the known distribution.

    None where it is not known, or where an attribute is without label in one of the sets.
    """
    if chain.log_probability is None:
        return None
    test = chain.table[chain.table["split"] == "test"]
    sets = {"real test, true labels": test, "real test, the labeler's labels": chain.label(test)}
    sets |= {f"{arm}, the labeler's labels": synthetic[arm] for arm in ARMS}
    if any(table[list(chain.attributes)].isna().any(axis=None) for table in sets.values()):
        return None
    rows = {name: (float(chain.log_probability(t).mean()), len(t)) for name, t in sets.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean_log_probability", "n"])
