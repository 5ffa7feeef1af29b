"""The study: synthetic sets, arms, fits, and what they show.

Each stage picks up what it finds under `out`, so the same command continues a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from classify import label_tensor, run_study
from classify.power import in_words, sees_nothing, visible
from recipes.chain.command.loggers import logger_of
from recipes.chain.images.admission import Judge
from recipes.chain.images.synthesis import Synthesised, synthesise
from recipes.chain.inputs import Inputs, manifold_encoder
from recipes.chain.labels.labelers import softened
from recipes.chain.preview import preview
from recipes.chain.results.comparison import train_shares
from recipes.chain.results.tell import tell
from recipes.chain.settings.arms import Material, make_arm

__all__ = ["judge_of", "material_of", "study"]


def study(inputs: Inputs, title: str, *, reference: bool = False) -> pd.DataFrame | None:
    """Run everything, or only the preview if that was asked for.

    Args:
        inputs: of `prepare`.
        title: the report's heading.
        reference: show the paper's figures for CelebA beside.

    Returns:
        The summary, also printed and written: columns `arm, metric, mean, low, high, n_seeds`; None
        for a preview.
    """
    run = inputs.run
    if run.fabric.is_global_zero:
        _foretell(inputs)
    if run.config.preview:
        preview(inputs)
        return None
    if run.config.tuned:
        run.note(run.config.tuned)
    with run.stage("Generating, labelling and judging"):
        sets = synthesise(inputs, judge_of(inputs))
    chosen = run.config.chosen_arms
    there = [name for name, arm in chosen.items() if set(arm.sets) <= sets.keys()]
    if len(there) < len(chosen):
        run.config = replace(run.config, arms=there)
    with run.doing("merging"):
        material = material_of(inputs, sets)
        arms = {name: make_arm(one, material) for name, one in run.config.chosen_arms.items()}
    with run.stage("Training the classifiers"):
        scores = run_study(
            arms,
            inputs.attributes,
            inputs.fit,
            seeds=run.config.study.seeds,
            out=run.out,
            fabric=run.fabric,
            cache=run.cache,
            skip_bad=run.config.skip_bad,
            logger=logger_of(run.config.logger),
            doing=run.doing,
        )
    with run.doing("writing the report"):
        return tell(inputs, title, sets, arms, scores, reference=reference)


def _foretell(inputs: Inputs) -> None:
    """Tell what differences the study can see; where it sees none, the verdict begins with that."""
    run = inputs.run
    names, seeds = list(inputs.attributes), run.config.study.seeds
    test = inputs.table[inputs.table["split"] == "test"]
    labels = label_tensor(test, names).numpy()
    found = visible(labels, names, seeds, train_shares(inputs.table, names))
    told = in_words(found, seeds, len(test))
    if sees_nothing(found):
        run.reserve(f"This study can see next to nothing. {told}")
    else:
        run.note(told)


def judge_of(inputs: Inputs) -> Judge:
    """The judge of synthetic images, by the manifold of the real ones too if that was asked for."""
    run = inputs.run
    k = run.config.admission.manifold
    encoder = None if k is None else manifold_encoder(run, inputs.denoiser).to(run.fabric.device)
    return Judge(inputs.table, inputs.images, encoder=encoder, k=k or 5, doing=run.doing)


def material_of(inputs: Inputs, sets: Mapping[str, Synthesised]) -> Material:
    """What the arms of a run are made of, its sets being there."""
    run = inputs.run

    def label(table: pd.DataFrame) -> pd.DataFrame:
        labelled = inputs.label(table)
        return softened(labelled, inputs.attributes) if run.config.labels.soft else labelled

    rows = {name: made.train_rows(inputs) for name, made in sets.items()}
    focus = run.config.focus_arm
    compared = run.config.chosen_arms[focus].sets if focus else ()
    return Material(
        real=inputs.table,
        sets=rows,
        attributes=list(inputs.attributes),
        label=label,
        policy=inputs.policy,
        fit=inputs.fit,
        count=sum(len(rows.get(name, ())) for name in compared),
    )
