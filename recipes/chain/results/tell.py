"""What a run tells: the printed table, the CSV files, the report and the cards of the sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from augment import keep_rates
from augment.selection import ADMISSION, KEPT, UNREADABLE
from classify import Arm, cautions, count_scored, read_predictions, summarise, with_rare
from classify import report as page
from classify.files import write_text
from classify.verdict import Verdict, headline, of_gains, verdicts
from recipes.chain.command.files import write_parquet
from recipes.chain.images.realism import REALISM, realism_table
from recipes.chain.labels.trust import counts_by_split
from recipes.chain.results.audit import audit_arms, audit_groups, compose, export
from recipes.chain.results.comparison import (
    REAL,
    best_on_val,
    compare_arms,
    compared_pairs,
    judged_pairs,
    train_shares,
)
from recipes.chain.results.dataset_card import dataset_card, write_card
from recipes.chain.results.quality import (
    label_quality,
    label_rarity,
    labeler_scores,
    log_probabilities,
    prevalence,
)
from recipes.chain.settings.targets import agreement

if TYPE_CHECKING:
    from recipes.chain.images.synthesis import Synthesised
    from recipes.chain.inputs import Inputs

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

_PACKAGES = ("torch", "torchvision", "lightning", "diffusers", "torchmetrics", "lpips")
_SHOWN = 64
"""Samples of each set in the report."""

_PRINTED = (
    {"f1": "F1", "precision": "precision", "recall": "recall"},
    {"f1_rare": "F1, rare", "average_precision": "average precision", "f1_fitted": "F1, fitted"},
)
"""Tables that are printed: metric of the summary -> heading."""
Tables = Mapping[str, pd.DataFrame]


def tell(
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
        inputs: of the run.
        title: the report's heading.
        synthesised: set -> what was made, and what was taken of it.
        arms: those of the study, `real` first.
        scores: tidy scores of the study.
        reference: show the paper's figures beside.

    Returns:
        The summary: `arm, metric, mean, low, high, n_seeds`.
    """
    run = inputs.run
    run.say("Comparing the arms, and writing the report ...")
    rows = {split: _rows(inputs, split) for split in ("val", "test")}
    labelled = {split: inputs.label(of, doubtful=True) for split, of in rows.items()}
    shares = train_shares(inputs.table, inputs.attributes)
    summary = summarise(with_rare(scores, shares))
    if run.fabric.is_global_zero:
        told = {"scores": scores, "summary": summary}
        alone = [name for name, arm in arms.items() if not arm.sets]
        best = best_on_val(scores, alone)
        if len(alone) > 1:
            run.note(
                f"Of the arms without synthetic images ({', '.join(alone)}) {best} is the best on "
                "the validation images, so the verdict compares with it too."
            )
        told |= _tables(inputs, synthesised, arms, labelled, scores, shares, best)
        for name, table in told.items():
            write_text(run.out / f"{name}.csv", table.to_csv(index=False))
        write_parquet(run.out / "scores.parquet", scores)
        labeler = f"labeler: {', '.join(run.config.labelers)}"
        of_labeler = summarise(with_rare(told["labeler_scores"], shares).assign(arm=labeler))
        told["summary"] = pd.concat([summary, of_labeler])
        judged = verdicts(told["comparison"], judged_pairs(arms, run.config.focus_arm, best))
        sections = _sections(inputs, synthesised, arms, told, labelled, judged, reference=reference)
        page.write_page(run.out / "report.html", title, sections)
        for name, made in synthesised.items():
            write_card(run.out / "synthetic" / name, dataset_card(run.config, inputs, made))
        scored = count_scored(scores), len(inputs.attributes)
        for line in _lines(told["summary"], *scored, judged, run.reservations):
            run.say(line)
        run.say(f"Report: {run.out / 'report.html'}")
    return summary


def _rows(inputs: Inputs, split: str) -> pd.DataFrame:
    return inputs.table[inputs.table["split"] == split].reset_index(drop=True)


def _tables(
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    labelled: Tables,
    scores: pd.DataFrame,
    shares: Mapping[str, float],
    best: str,
) -> Tables:
    """Compute what the run tells besides the scores: name of the file -> table."""
    run = inputs.run
    seeds, focus = run.config.study.seeds, run.config.focus_arm
    predictions = read_predictions(run.out, list(arms), seeds)
    val = read_predictions(run.out, list(arms), seeds, "val")
    known = [name for name in inputs.attributes if name in inputs.labeler.attributes]
    real = {split: _rows(inputs, split) for split in labelled}
    tables = {
        "comparison": compare_arms(predictions, val, compared_pairs(arms, focus, best), shares),
        "admission": keep_rates({name: made.table for name, made in synthesised.items()}),
        "realism": realism_table({name: made.realism for name, made in synthesised.items()}),
        "label_quality": label_quality(real["val"], labelled["val"][known]),
        "labeler_scores": labeler_scores(real, labelled, known),
        "label_trust": _trust(inputs, synthesised).reset_index(),
        "targets": _hits(inputs, synthesised),
    }
    groups = audit_groups(inputs.table, predictions.files)
    if groups is not None and focus is not None:
        tables["audit"] = audit_arms(predictions, groups, [REAL, focus])
        if left_out := export(run.out / "audit", predictions, groups, [REAL, focus]):
            run.note(
                f"audit/: {left_out:,} rows of each file are left out, as their images lack a "
                "value of the group."
            )
    for caution in cautions(scores, predictions):
        run.caution(caution)
    return tables


def _trust(inputs: Inputs, synthesised: Mapping[str, Synthesised]) -> pd.DataFrame:
    """`counts_by_split`, and in `doubt` why synthetic images have no label of the attribute."""
    doubted = inputs.policy.doubts
    for made in synthesised.values():
        doubted |= made.doubted
    counts = counts_by_split(inputs.table, inputs.attributes)
    return counts.assign(doubt=[doubted.get(str(name), "") for name in counts.index])


def _hits(inputs: Inputs, synthesised: Mapping[str, Synthesised]) -> pd.DataFrame:
    """Whether steered images have what they were asked for, by the labeler and by the judge."""
    run = inputs.run
    labeler = ", ".join(run.config.labelers)
    found = [
        agreement(made.table, labels, inputs.attributes).assign(arm=name, labeler=by)
        for name, made in synthesised.items()
        if inputs.asks(made.settings)
        for by, labels in ((labeler, made.table), (f"judge {run.config.judge}", made.judged))
        if labels is not None
    ]
    columns = ["arm", "labeler", "attribute", "value", "asked", "hit", "unasked"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def _sections(
    inputs: Inputs,
    synthesised: Mapping[str, Synthesised],
    arms: Mapping[str, Arm],
    tables: Tables,
    labelled: Tables,
    judged: Sequence[Verdict],
    *,
    reference: bool,
) -> list[page.Section | None]:
    """The parts of the page, in their order; a new one is one entry here."""
    run = inputs.run
    focus, names = run.config.focus_arm, list(inputs.attributes)
    sets = {name: made.selection.table for name, made in synthesised.items()}
    helped = [name for name, arm in arms.items() if arm.sets]
    controls = {n: arm.meaning for n, arm in arms.items() if not arm.sets and n != REAL}
    colours = page.colours_of([REAL, *helped, *sets, *controls])
    common = prevalence(inputs.table, sets, names)
    shares = common["real"].sort_values(kind="stable", na_position="last")
    comparison, quality = tables["comparison"], tables["label_quality"]
    audited = "audit" in tables and focus is not None
    return [
        page.verdict_section(judged, run.cautions, run.reservations),
        page.arms_section(
            tables["summary"],
            comparison,
            count_scored(tables["scores"]),
            len(names),
            colours,
            {
                **{name: arms[name].meaning for name in helped},
                str(tables["summary"]["arm"].iloc[-1]): _labeler_meaning(inputs),
            },
            baseline=REAL,
            published=PAPER if reference else None,
        ),
        page.controls_section(comparison, focus, controls, colours),
        page.attributes_section(tables["scores"], [REAL, *helped], colours, shares),
        page.differences_section(comparison, focus, colours, shares, quality),
        page.audit_section(tables["audit"], str(focus), compose(inputs.table, sets), colours)
        if audited
        else None,
        page.samples_section(
            {name: list(table["path"].head(_SHOWN)) for name, table in sets.items()},
            {name: _rarest(table, shares) for name, table in sets.items()},
            colours,
        ),
        page.realism_section(tables["realism"], _farthest(synthesised), colours),
        page.rarity_section(common, _rarity(inputs, sets, labelled), colours),
        page.targets_section(tables["targets"], colours),
        page.admission_section(
            tables["admission"], _rejected(synthesised), _quotas(synthesised), colours
        ),
        page.labels_section(quality, _policy(inputs), tables["label_trust"], shares),
        page.curves_section(page.read_curves(run.out, arms, run.config.study.seeds), colours),
        page.notes_section(run.notes),
        page.record_section(run.config.record(), _cards(inputs), _PACKAGES),
    ]


def _rarest(table: pd.DataFrame, shares: pd.Series[float]) -> list[str]:
    """Files of the images whose labels are the least likely, by the real train images' shares."""
    rarity = label_rarity(table, shares.dropna())
    count = min(_SHOWN // 2, len(table) // 4)  # of a few, most would be called the rarest
    return list(table.loc[rarity.nlargest(count).index, "path"])


def _farthest(synthesised: Mapping[str, Synthesised]) -> dict[str, list[str]]:
    """Files of the images that lie the farthest from anything real, of every set."""
    return {
        name: list(made.table.nsmallest(_SHOWN // 4, REALISM)["path"])
        for name, made in synthesised.items()
        if REALISM in made.table
    }


def _rarity(inputs: Inputs, sets: Tables, labelled: Tables) -> pd.DataFrame | None:
    """The log-probability of the sets, where the distribution of the attributes is known."""
    if inputs.log_probability is None:
        return None
    tables = {
        "real test, true labels": _rows(inputs, "test"),
        "real test, the labeler's labels": labelled["test"],
        **{f"{n}, the labeler's labels": _whole(inputs, table) for n, table in sets.items()},
    }
    return log_probabilities(inputs.log_probability, tables, inputs.attributes)


def _whole(inputs: Inputs, table: pd.DataFrame) -> pd.DataFrame:
    """Labelled rows with the labels, too, that cannot be trusted."""
    rules = inputs.policy.doubting({}).rules
    empty = [name for name in inputs.attributes if name in rules and table[name].isna().all()]
    given = {name: rules[name].decide(table[f"p_{name}"].to_numpy(np.float64)) for name in empty}
    return table.assign(**given)


def _rejected(synthesised: Mapping[str, Synthesised]) -> dict[str, list[str]]:
    """Reason -> files of rejected images that decode, the first of every set."""
    found: dict[str, list[str]] = {}
    for made in synthesised.values():
        table = made.table[~made.table[ADMISSION].isin((KEPT, UNREADABLE))]
        for path, reason in table[["path", ADMISSION]].head(_SHOWN // 4).to_numpy():
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


def _lines(
    summary: pd.DataFrame,
    scored: int,
    attributes: int,
    judged: Sequence[Verdict],
    reservations: Sequence[str],
) -> Iterator[str]:
    """The printed tables, the verdict, and one line per pair that it is about."""
    yield format_summary(summary, scored, attributes)
    yield f"Verdict: {headline(judged, reservations)} {of_gains(judged)}".rstrip()
    for one in judged:
        yield f"{one.arm} - {one.baseline}: {one.reasons()}."


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
        header = "".join(f"{title:<24}" for title in titles.values())
        lines.append(f"{'':<{width}}{header}".rstrip())
        for arm, rows in summary.groupby("arm", sort=False):
            found = rows.set_index("metric")[["mean", "low", "high"]].reindex(list(titles))
            cells = "".join(f"{_cell(*row):<24}" for row in found.to_numpy())
            lines.append(f"{arm:<{width}}{cells}".rstrip())
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
