"""What a run tells: the printed table, the CSV files, the report and the cards of the sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from augment import keep_rates
from classify import (
    Arm,
    Predictions,
    compare_pairs,
    count_scored,
    read_predictions,
    summarise,
    with_rare,
)
from classify import report as page
from classify.files import write_text
from classify.verdict import Verdict, headline, verdicts
from recipes.chain.audit import audit_arms, audit_groups, compose, export
from recipes.chain.dataset_card import dataset_card, write_card
from recipes.chain.quality import (
    label_quality,
    label_rarity,
    labeler_scores,
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
    name: dict(zip(("f1_samples", "precision_samples", "recall_samples"), scores, strict=True))
    for name, scores in {
        "paper: real images alone": (0.746, 0.815, 0.710),
        "paper: with ordinary samples": (0.742, 0.808, 0.711),
        "paper: with minority samples": (0.757, 0.822, 0.724),
    }.items()
}
"""The self-guidance paper's scores: CelebA at 64 px, 50,000 synthetic images, one run. It does not
say over what they are means. An F1 below the harmonic mean of precision and recall, and accuracies
near .9 that the same group reports for this table, fit a mean over images, not one over attributes.
"""

_REAL = "real"
"""The arm of real images alone, which all are compared with."""
_RIVALS = (_REAL, "oversample", "plain")
"""The arms that one with synthetic images has to beat, as far as they were run: no more images, the
same ones again, and images of an unguided sampler."""
_PACKAGES = ("torch", "torchvision", "lightning", "diffusers", "torchmetrics", "lpips")
_SHOWN = 64
"""Samples of each set in the report."""

_PRINTED = (
    {"f1": "F1", "precision": "precision", "recall": "recall"},
    {"f1_rare": "F1, rare", "average_precision": "average precision", "f1_fitted": "F1, fitted"},
)
"""Tables that are printed: metric of the summary -> heading."""
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
    labelled = {split: inputs.label(_rows(inputs, split)) for split in ("val", "test")}
    shares = _shares(inputs)
    summary = summarise(with_rare(scores, shares))
    if run.fabric.is_global_zero:
        found = {"scores": scores, "summary": summary}
        told = {**found, **_tables(run, inputs, synthesised, arms, labelled, shares)}
        for name, table in told.items():
            write_text(run.out / f"{name}.csv", table.to_csv(index=False))
        judged = verdicts(told["comparison"], _judged(arms, run.config.focus_arm))
        beside = _of_labeler(run, inputs, told["labeler_scores"], shares)
        sections = _sections(
            run, inputs, synthesised, arms, told, labelled, judged, beside, reference=reference
        )
        page.write_page(run.out / "report.html", title, sections)
        for name, made in synthesised.items():
            write_card(run.out / "synthetic" / name, dataset_card(run.config, inputs, made))
        shown = pd.concat([summary, beside])
        run.say(format_summary(shown, count_scored(scores), len(inputs.attributes)))
        run.say(f"Verdict: {headline(judged)}")
        for one in judged:
            run.say(f"{one.arm} - {one.baseline}: {one.reasons()}.")
        run.say(f"Report: {run.out / 'report.html'}")
    return summary


def _rows(inputs: Inputs, split: str) -> pd.DataFrame:
    return inputs.table[inputs.table["split"] == split].reset_index(drop=True)


def _shares(inputs: Inputs) -> dict[str, float]:
    """Attribute -> share of positives among the real train rows."""
    means = _rows(inputs, "train")[list(inputs.attributes)].mean().fillna(0.0)
    return {str(name): float(share) for name, share in means.items()}


def _tables(
    run: Run,
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    labelled: Tables,
    shares: Mapping[str, float],
) -> Tables:
    """Compute what the run tells besides the scores: name of the file -> table."""
    seeds, focus = run.config.study.seeds, run.config.focus_arm
    predictions = read_predictions(run.out, list(arms), seeds)
    known = [name for name in inputs.attributes if name in inputs.labeler.attributes]
    real = {split: _rows(inputs, split) for split in labelled}
    tables = {
        "comparison": _comparison(run, predictions, _pairs(arms, focus), shares),
        "admission": keep_rates({name: made.table for name, made in synthesised.items()}),
        "label_quality": label_quality(real["val"], labelled["val"][known]),
        "labeler_scores": labeler_scores(real, labelled, known),
    }
    groups = audit_groups(inputs.table, predictions.files)
    if groups is not None and focus is not None:
        tables["audit"] = audit_arms(predictions, groups, [_REAL, focus])
        export(run.out / "audit", predictions, groups, [_REAL, focus])
    if useless := useless_labels(tables["label_quality"]):
        run.caution(
            f"The labeler cannot tell {', '.join(useless)} on the real validation images (hardly "
            "better than chance): what is trained on its labels of these says nothing."
        )
    return tables


def _judged(arms: Mapping[str, Arm], focus: str | None) -> list[tuple[str, str]]:
    """The pairs that the verdict is about: every arm with a set against the rivals that were run,
    and the focus against the others with a set.
    """
    helped = [name for name, arm in arms.items() if arm.sets]
    rivals = [name for name in _RIVALS if name in arms]
    return [
        (arm, baseline)
        for arm in helped
        for baseline in dict.fromkeys([*rivals, *(helped if arm == focus else [])])
        if baseline != arm
    ]


def _pairs(arms: Mapping[str, Arm], focus: str | None) -> list[tuple[str, str]]:
    """Every arm against those before it, and what else the verdict is about, the focus' first."""
    names, judged = list(arms), _judged(arms, focus)
    pairs = []
    for place, baseline in enumerate(names):
        before = [a for a in names[:place] if a == focus or (a, baseline) in judged]
        pairs += [(arm, baseline) for arm in (*before, *names[place + 1 :])]
    return pairs


def _comparison(
    run: Run,
    predictions: Predictions,
    pairs: Sequence[tuple[str, str]],
    shares: Mapping[str, float],
) -> pd.DataFrame:
    """The pairs compared, by seed and test image; thresholds are those fitted on val."""
    if not pairs:
        return pd.DataFrame(columns=_COMPARISON)
    arms = list(predictions.probabilities)
    val = read_predictions(run.out, arms, run.config.study.seeds, "val")
    return compare_pairs(
        predictions.labels,
        predictions.probabilities,
        predictions.attributes,
        pairs,
        fitted=val.best_thresholds(),
        shares=shares,
    )


def _of_labeler(
    run: Run, inputs: Inputs, scores: pd.DataFrame, shares: Mapping[str, float]
) -> pd.DataFrame:
    """The labeler's row beside the arms', as in the summary."""
    name = f"labeler: {', '.join(run.config.labelers)}"
    return summarise(with_rare(scores, shares).assign(arm=name))


def _sections(
    run: Run,
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    tables: Tables,
    labelled: Tables,
    judged: Sequence[Verdict],
    beside: pd.DataFrame,
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
        page.verdict_section(judged, run.cautions),
        page.arms_section(
            pd.concat([tables["summary"], beside]),
            comparison,
            count_scored(tables["scores"]),
            len(names),
            colours,
            {
                **{name: arms[name].meaning for name in helped},
                **{str(name): _labeler_meaning(inputs) for name in beside["arm"].unique()},
            },
            baseline=_REAL,
            published=PAPER if reference else None,
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


def _labeler_meaning(inputs: Inputs) -> str:
    known = sum(name in inputs.labeler.attributes for name in inputs.attributes)
    every = len(inputs.attributes)
    of_some = f"; it knows {known} of {every} attributes" if known < every else ""
    return f"not an arm: F1 of its labels, at its own thresholds{of_some}"


def format_summary(summary: pd.DataFrame, scored: int, attributes: int) -> str:
    """Means by arm with 95 % intervals as text: the paper's F1, precision and recall, and then what
    tells whether a gain is more than a shift of the prior.
    """
    seeds = int(summary["n_seeds"].max())
    width = max(10, *(len(str(arm)) + 2 for arm in summary["arm"]))
    lines = [
        f"Mean over {scored} of {attributes} attributes, real test images, {seeds} seeds "
        "(95 % interval over seeds)"
    ]
    for titles in _PRINTED:
        lines.append(f"{'':<{width}}" + "".join(f"{title:<24}" for title in titles.values()))
        for arm, rows in summary.groupby("arm", sort=False):
            found = rows.set_index("metric")[["mean", "low", "high"]].reindex(list(titles))
            cells = "".join(f"{_cell(*row):<24}" for row in found.to_numpy())
            lines.append(f"{arm:<{width}}{cells}".rstrip())
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
