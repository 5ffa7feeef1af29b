"""A synthetic set, from its settings to the rows that train: make or link, label, judge, choose.

Under `<out>/synthetic/<name>/` lie the images, `metadata.csv` with labels and verdicts, rejected
images included, and a dataset card. Made images come in rounds of seeds that follow one another,
until the quota is met or the limit is reached; every round is a whole call of `generate` on the
same folder, so what earlier rounds left is kept, and a stopped run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from augment import Quota, Selection, select
from augment.generated_folder import read_table
from augment.metrics.realism import Realism
from augment.selection import ADMISSION, LEAKS
from classify.datasets import load_images
from classify.files import claim, write_text
from labeling import LabelPolicy
from recipes.chain.command.files import link
from recipes.chain.images.admission import Judge
from recipes.chain.images.making import make_images, plan_of
from recipes.chain.images.realism import RealismCheck
from recipes.chain.inputs import Inputs
from recipes.chain.labels.labelers import softened, unmet
from recipes.chain.labels.trust import counts_by_split, impossible, reserved
from recipes.chain.run import Run
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.targets import inherited, rare_rows, stated, target_columns

__all__ = ["Synthesised", "fill", "synthesise"]


@dataclass(frozen=True, kw_only=True)
class Synthesised:
    """A set as it was made or found, labelled and judged."""

    name: str
    settings: SyntheticSet
    table: pd.DataFrame
    """Every image, with labels and the verdict of admission."""
    selection: Selection
    """The rows that the quota takes, and wish by wish what was got."""
    judged: pd.DataFrame | None = None
    """The table of a steered set as the run's judge labels it, if there is one."""
    realism: Realism | None = None
    """How its admitted images compare with the real ones."""
    doubted: Mapping[str, str] = field(default_factory=dict)
    """Attributes that have no label here since the run's sets speak against them -> why."""

    def train_rows(self, inputs: Inputs) -> pd.DataFrame:
        """The rows as classifiers train on them, with soft labels where those were asked for."""
        rows = self.selection.table
        soft = inputs.run.config.labels.soft
        return softened(rows, inputs.attributes) if soft else rows


def synthesise(inputs: Inputs, judge: Judge) -> dict[str, Synthesised]:
    """Every set of the run of which something is taken, by name; of the others there is a caution.

    Raises:
        ValueError: copies of val or test images, or images that are unlike the real ones, unless
            they are allowed; nothing is taken of any set.
    """
    run = inputs.run
    made: dict[str, Synthesised] = {}
    check = None
    for name, settings in run.config.synthetic_sets.items():
        with run.doing(f"making the set {name}"):
            made[name] = one = _synthesise(inputs, judge, name, settings)
        if one.selection.table.empty:
            continue
        with run.doing(f"comparing the set {name} with the real images"):
            check = check or RealismCheck.of(inputs)
            made[name] = _compared(run, check, one)
    empty = {
        name: _why_empty(one, inputs.policy)
        for name, one in made.items()
        if one.selection.table.empty
    }
    if empty and len(empty) == len(made):
        raise ValueError(
            f"{'; '.join(empty.values())}; see the column admission of their metadata.csv, then "
            "give other images or a larger --limit, ask for less by --quota, or steer to it by "
            "--targets"
        )
    for why in empty.values():
        run.caution(f"The set is left out, and the arms that it is in: {why}.")
    sets = {name: one for name, one in made.items() if name not in empty}
    counts = counts_by_split(inputs.table, inputs.attributes)
    free = {name: one.table for name, one in sets.items() if one.settings.draws_freely}
    doubted = impossible(counts, free, run.config.labels.trust)
    reserved(run, doubted)
    return {name: _without(run, one, doubted) for name, one in sets.items()} if doubted else sets


def _without(run: Run, made: Synthesised, doubted: Mapping[str, str]) -> Synthesised:
    """The set with these attributes' cells empty, in its file too."""
    empty = dict.fromkeys(doubted, np.nan)
    table, rows = made.table.assign(**empty), made.selection.table.assign(**empty)
    _keep(run, _folder(run, made.name), table)
    selection = made.selection._replace(table=rows)
    return replace(made, table=table, selection=selection, doubted=doubted)


def _compared(run: Run, check: RealismCheck, made: Synthesised) -> Synthesised:
    """The set with its realism, which its table is given too."""
    folder = _folder(run, made.name)
    table, found = check(made.name, made.table)
    _keep(run, folder, table)
    check.refuse(made.name, found, folder)
    return replace(made, table=table, realism=found)


def _synthesise(inputs: Inputs, judge: Judge, name: str, settings: SyntheticSet) -> Synthesised:
    run = inputs.run
    config, folder = run.config, _folder(run, name)
    n_real = int((inputs.table["split"] == "train").sum())
    if settings.folder is None:
        size = settings.count or config.num_synthetic
        table, selection = fill(
            lambda seeds: judge(_labelled(inputs, settings, seeds, folder)),
            config.quota,
            n_real=n_real,
            limit=max(config.limit or size, size),
            size=size,
        )
    else:
        table = judge(inputs.label(_linked(run, settings, folder)))
        selection = select(table, config.quota, n_real=n_real)
    _keep(run, folder, table)
    if not config.allow_leak:
        try:
            judge.refuse_leaks(table)
        except ValueError as error:
            raise ValueError(f"the set {name}: {error}") from error
    if near := int(table[ADMISSION].isin(LEAKS).sum()):
        run.note(f"{name}: {near} images come near a real val or test image and are left out.")
    short = unmet(selection, table, inputs.policy)
    if short and len(selection.table):
        run.note(
            f"The quota of {name} is not met by {len(table):,} images: {'; '.join(short)}. "
            "A larger --limit, with another --out, makes more."
        )
    judged = inputs.judged(table) if inputs.asks(settings) else None
    return Synthesised(
        name=name, settings=settings, table=table, selection=selection, judged=judged
    )


def fill(
    make: Callable[[Sequence[int]], pd.DataFrame],
    quota: Quota,
    *,
    n_real: int,
    limit: int,
    size: int,
) -> tuple[pd.DataFrame, Selection]:
    """Make and select images, round by round.

    It stops after the first round with which the quota is met, or at the limit. A quota without
    wish, ratio or cap is never met before.

    Args:
        make: the images of some seeds, labelled and judged.
        quota: what is wanted.
        n_real: real train images, for the quota's ratio.
        limit: images made at most.
        size: images per round; a multiple of the sampler's batch size wastes nothing.

    Returns:
        Every image made, and what the quota takes of them.
    """
    asks = bool(quota.wanted) or quota.limit(n_real) is not None
    tables: list[pd.DataFrame] = []
    for first in range(0, limit, size):
        tables.append(make(range(first, min(first + size, limit))))
        table = pd.concat(tables, ignore_index=True)
        selection = select(table, quota, n_real=n_real)
        if asks and selection.is_met:
            break
    return table, selection


def _labelled(
    inputs: Inputs, settings: SyntheticSet, seeds: Sequence[int], folder: Path
) -> pd.DataFrame:
    """Images of some seeds with labels, and with what each was asked to be."""
    table = inputs.label(make_images(inputs, settings, seeds, folder))
    if settings.start is not None and settings.start.rows is not None:
        table = inherited(table, rare_rows(inputs.table, inputs.attributes), inputs.attributes)
    if inputs.asks(settings):
        asked = target_columns(plan_of(inputs, settings), list(table["seed"]), inputs.attributes)
        table = table.assign(**{str(name): asked[name].to_numpy() for name in asked})  # by row
    # A guidance does not get all that it asks for.
    by_prompt = inputs.run.config.labels.by_prompt and not settings.asks
    return stated(table, inputs.attributes) if by_prompt else table


def _linked(run: Run, settings: SyntheticSet, folder: Path) -> pd.DataFrame:
    """Rows of images made elsewhere, linked into the run's folder, so that the set is whole there.

    Their own labels, if they have any, are not taken: every set is labelled by the same labeler.
    """
    assert settings.folder is not None
    found = load_images(settings.folder)[: settings.count]
    table = pd.DataFrame(
        {
            "file_name": found["file_name"],
            "split": "train",
            "source": "synthetic",
            "sampler": "elsewhere",
        }
    )
    if run.fabric.is_global_zero:
        sizes = [os.stat(path).st_size for path in found["path"]]
        record = {
            "folder": str(settings.folder.resolve()),
            "files": dict(zip(table["file_name"], sizes, strict=True)),
        }
        claim(folder / "settings.json", record)
        for name, path in zip(table["file_name"], found["path"], strict=True):
            link(Path(path), folder / name)
        if not (folder / "metadata.csv").is_file():
            write_text(folder / "metadata.csv", table.to_csv(index=False))
    run.fabric.barrier()
    return table.assign(path=[str((folder / name).resolve()) for name in table["file_name"]])


def _folder(run: Run, name: str) -> Path:
    return run.out / "synthetic" / name


def _keep(run: Run, folder: Path, table: pd.DataFrame) -> None:
    """Have the first process write a set's table; the others go on when it stands."""
    if run.fabric.is_global_zero:
        _add_columns(folder / "metadata.csv", table.drop(columns="path"))
    run.fabric.barrier()


def _add_columns(path: Path, table: pd.DataFrame) -> None:
    """Write the labelled table over the standing one, whose other columns and rows stay."""
    found = read_table(path)
    others = found.columns.difference(table.columns, sort=False)
    table = table.merge(found[["file_name", *others]], on="file_name", how="left")
    strangers = found[~found["file_name"].isin(table["file_name"])]
    rows = pd.concat([table.astype(object), strangers]) if len(strangers) else table
    write_text(path, rows.to_csv(index=False))


def _why_empty(made: Synthesised, policy: LabelPolicy) -> str:
    """Why nothing is taken of a set: what admission and the policy did to its images."""
    counts = made.table[ADMISSION].value_counts()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    short = "".join(f"; {wish}" for wish in unmet(made.selection, made.table, policy))
    return f"none of the {len(made.table)} {made.name} images was taken ({verdicts}){short}"
