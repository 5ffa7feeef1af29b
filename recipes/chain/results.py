"""What a run tells: the printed table, the CSV files, the report and the cards of the sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from augment import keep_rates
from classify import Arm, Predictions, compare, count_scored, read_predictions, summarise
from classify import report as page
from classify.files import write_text
from recipes.chain.audit import audit_arms, audit_groups, compose, export
from recipes.chain.dataset_card import dataset_card, write_card
from recipes.chain.quality import (
    label_quality,
    label_rarity,
    log_probabilities,
    prevalence,
    useless_labels,
)

if TYPE_CHECKING:
    from recipes.chain.inputs import Inputs
    from recipes.chain.run import Run
    from recipes.chain.synthesis import Synthesised

__all__ = ["format_summary", "tell"]

PAPER: Mapping[str, Mapping[str, float]] = {
    "paper: real images alone": {"f1": 0.746, "precision": 0.815, "recall": 0.710},
    "paper: with ordinary samples": {"f1": 0.742, "precision": 0.808, "recall": 0.711},
    "paper: with minority samples": {"f1": 0.757, "precision": 0.822, "recall": 0.724},
}
"""The self-guidance paper's scores: CelebA at 64 px, 50,000 synthetic images, one run."""

_REAL = "real"
"""The arm of real images alone, which all are compared with."""
_PACKAGES = ("torch", "torchvision", "lightning", "diffusers", "torchmetrics", "lpips")
_SHOWN = 64
"""Samples of each set in the report."""

_COMPARISON = (
    "arm", "baseline", "attribute", "metric", "difference", "low", "high", "p_value", "p_holm",
    "verdict", "n_seeds",
)  # fmt: skip
"""Columns of `comparison.csv`, which a study of one arm leaves empty."""

Tables = Mapping[str, pd.DataFrame]


def tell(
    run: Run,
    inputs: Inputs,
    title: str,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    scores: pd.DataFrame,
    *,
    reference: bool = False,
) -> pd.DataFrame:
    """Write CSV files, what other auditing tools take, `report.html` and cards; print the table.

    Every process calls this. All of them make the labels; the first alone does the rest, and the
    others do not wait for it.

    Args:
        run: the run.
        inputs: what it worked on.
        title: the report's heading.
        synthesised: set -> what was made, and what was taken of it.
        arms: those of the study, `real` first.
        scores: tidy scores of the study.
        reference: show the paper's figures beside.

    Returns:
        The summary: `arm, metric, mean, low, high, n_seeds`.
    """
    splits = ["val"] if inputs.log_probability is None else ["val", "test"]
    labelled = {split: inputs.label(_rows(inputs, split)) for split in splits}
    if run.fabric.is_global_zero:
        told = _tables(run, inputs, synthesised, arms, scores, labelled["val"])
        sections = _sections(run, inputs, synthesised, arms, told, labelled, reference=reference)
        page.write_page(run.out / "report.html", title, sections)
        for name, made in synthesised.items():
            write_card(run.out / "synthetic" / name, dataset_card(run.config, inputs, made))
        run.say(format_summary(told["summary"], count_scored(scores), len(inputs.attributes)))
        for line in _verdict_lines(told["comparison"], arms, run.config.focus_arm):
            run.say(line)
        run.say(f"Report: {run.out / 'report.html'}")
    return summarise(scores)


def _rows(inputs: Inputs, split: str) -> pd.DataFrame:
    return inputs.table[inputs.table["split"] == split].reset_index(drop=True)


def _tables(
    run: Run,
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    scores: pd.DataFrame,
    labelled: pd.DataFrame,
) -> Tables:
    """Compute what the run tells, and write it: name of the file -> table."""
    predictions = read_predictions(run.out, list(arms), run.config.study.seeds)
    known = [name for name in inputs.attributes if name in inputs.labeler.attributes]
    tables = {
        "scores": scores,
        "summary": summarise(scores),
        "comparison": _comparison(predictions, inputs, run.config.focus_arm),
        "admission": keep_rates({name: made.table for name, made in synthesised.items()}),
        "label_quality": label_quality(_rows(inputs, "val"), labelled[known]),
    }
    groups, focus = audit_groups(inputs.table, predictions.files), run.config.focus_arm
    if groups is not None and focus is not None:
        tables["audit"] = audit_arms(predictions, groups, [_REAL, focus])
        export(run.out / "audit", predictions, groups, [_REAL, focus])
    if useless := useless_labels(tables["label_quality"]):
        run.caution(
            f"The labeler cannot tell {', '.join(useless)} on the real validation images (hardly "
            "better than chance): what is trained on its labels of these says nothing."
        )
    for name, table in tables.items():
        write_text(run.out / f"{name}.csv", table.to_csv(index=False))
    return tables


def _comparison(predictions: Predictions, inputs: Inputs, focus: str | None) -> pd.DataFrame:
    """Every arm against those before it, and the focus against all; paired by seed and image."""
    means = _rows(inputs, "train")[list(inputs.attributes)].mean().fillna(0.0)
    shares = {str(name): float(share) for name, share in means.items()}
    arms, found = list(predictions.probabilities), []
    for place, baseline in enumerate(arms):
        others = [*([focus] if focus in arms[:place] else []), *arms[place + 1 :]]
        if others:
            pairs = {arm: predictions.probabilities[arm] for arm in [baseline, *others]}
            names = predictions.attributes
            found.append(compare(predictions.labels, pairs, names, baseline, shares=shares))
    return pd.concat(found) if found else pd.DataFrame(columns=_COMPARISON)


def _sections(
    run: Run,
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    tables: Tables,
    labelled: Tables,
    *,
    reference: bool,
) -> list[page.Section | None]:
    """The parts of the page, in their order; a new one is one entry here."""
    focus, names = run.config.focus_arm, list(inputs.attributes)
    sets = {name: made.selection.table for name, made in synthesised.items()}
    helped = [name for name, arm in arms.items() if arm.sets]
    controls = {n: arm.meaning for n, arm in arms.items() if not arm.sets and n != _REAL}
    colours = page.colours_of([_REAL, *helped, *sets, *controls])
    common = prevalence(inputs.table, sets, names)
    shares = common["real"].sort_values(kind="stable", na_position="last")
    comparison, quality = tables["comparison"], tables["label_quality"]
    audited = "audit" in tables and focus is not None
    return [
        page.verdict_section(comparison, helped, focus, run.cautions),
        page.arms_section(
            tables["summary"],
            count_scored(tables["scores"]),
            len(names),
            colours,
            {name: arms[name].meaning for name in helped},
            PAPER if reference else None,
        ),
        page.controls_section(comparison, focus, controls, colours),
        page.attributes_section(tables["scores"], [_REAL, *helped], colours, shares),
        page.differences_section(comparison, focus, colours, shares, quality),
        page.audit_section(tables["audit"], str(focus), compose(inputs.table, sets), colours)
        if audited
        else None,
        page.samples_section(
            {name: list(table["path"].head(_SHOWN)) for name, table in sets.items()},
            {name: _rarest(table, shares) for name, table in sets.items()},
            colours,
        ),
        page.rarity_section(common, _rarity(inputs, sets, labelled), colours),
        page.admission_section(
            tables["admission"], _rejected(synthesised), _quotas(synthesised), colours
        ),
        page.labels_section(quality, _policy(inputs), shares),
        page.notes_section(run.notes),
        page.record_section(run.config.record(), _cards(inputs), _PACKAGES),
    ]


def _rarest(table: pd.DataFrame, shares: pd.Series[float]) -> list[str]:
    """Files of the images whose labels are the least likely, by the real train images' shares."""
    rarity = label_rarity(table, shares.dropna())
    count = min(_SHOWN // 2, len(table) // 4)  # of a few, most would be called the rarest
    return list(table.loc[rarity.nlargest(count).index, "path"])


def _rarity(inputs: Inputs, sets: Tables, labelled: Tables) -> pd.DataFrame | None:
    """The log-probability of the sets, where the distribution of the attributes is known."""
    if inputs.log_probability is None:
        return None
    tables = {
        "real test, true labels": _rows(inputs, "test"),
        "real test, the labeler's labels": labelled["test"],
        **{f"{name}, the labeler's labels": table for name, table in sets.items()},
    }
    return log_probabilities(inputs.log_probability, tables, inputs.attributes)


def _rejected(synthesised: Mapping[str, Synthesised]) -> dict[str, list[str]]:
    """Reason -> files of rejected images that decode, the first of every set."""
    found: dict[str, list[str]] = {}
    for made in synthesised.values():
        table = made.table[~made.table["admission"].isin(("kept", "unreadable"))]
        for path, reason in table[["path", "admission"]].head(_SHOWN // 4).to_numpy():
            found.setdefault(str(reason), []).append(str(path))
    return found


def _quotas(synthesised: Mapping[str, Synthesised]) -> pd.DataFrame:
    """What the quota wanted of each set, and got."""
    if not synthesised:
        return pd.DataFrame(columns=["arm", "wish", "wanted", "available", "got"])
    return pd.concat(made.selection.report.assign(arm=n) for n, made in synthesised.items())


def _policy(inputs: Inputs) -> pd.DataFrame:
    """The rules of the run's attributes; those that the labeler does not know have none."""
    rules = inputs.policy.summary()
    return rules.loc[[name for name in inputs.attributes if name in rules.index]]


def _cards(inputs: Inputs) -> dict[str, Mapping[str, object]]:
    labeler = {**asdict(inputs.labeler.card), "sha256": inputs.labeler.sha256}
    return {"generator": inputs.denoiser.card, "labeler": labeler}


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
        found = rows.set_index("metric")[["mean", "low", "high"]]
        cells = [_cell(*found.loc[metric]) for metric in ("f1", "precision", "recall")]
        lines.append(f"{arm:<{width}}" + "".join(f"{cell:<24}" for cell in cells))
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _verdict_lines(
    comparison: pd.DataFrame, arms: Mapping[str, Arm], focus: str | None
) -> Iterator[str]:
    """A line for each arm with synthetic images against real ones alone, and for the focus against
    every other arm, as in the report.
    """
    helped = [name for name, arm in arms.items() if arm.sets]
    for row in page.verdicts(comparison).to_dict("records"):
        name, baseline = row["arm"], row["baseline"]
        if name != focus and (name not in helped or baseline != _REAL):
            continue
        bounds = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        if np.isnan(row["low"]):
            bounds = "(one seed, so no interval)"
        yield f"{name} - {baseline}: F1 {row['difference']:+.3f} {bounds}, {row['verdict']}"
