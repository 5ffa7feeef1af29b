"""A synthetic set, from its settings to the rows that train: make or link, label, judge, choose.

Under `<out>/synthetic/<name>/` lie the images, `metadata.csv` with labels and verdicts, rejected
images included, and a dataset card. Made images come in rounds of seeds that follow one another,
until the quota is met or the limit is reached; every round is a whole call of `generate` on the
same folder, so what earlier rounds left is kept, and a stopped run goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from augment import (
    AttributeGuidance,
    AttributeGuidanceConfig,
    Edit,
    Joint,
    Quota,
    Selection,
    Sum,
    generate,
    select,
)
from augment.generated_folder import read_table
from augment.guidance import Ascent, Guidance
from augment.images import ImageFiles
from augment.metrics.realism import Realism
from augment.selection import ADMISSION, LEAKS
from augment.start import Start
from classify.datasets import load_images, read_image
from classify.files import claim, write_text
from labeling import Labeler, LabelPolicy
from recipes.chain.admission import Judge
from recipes.chain.distances import named_distance
from recipes.chain.files import link
from recipes.chain.inputs import Inputs
from recipes.chain.labels import softened, unmet
from recipes.chain.noised import bits_of, classifier_terms
from recipes.chain.realism import RealismCheck
from recipes.chain.run import Run
from recipes.chain.sets import SyntheticSet
from recipes.chain.targets import (
    Plan,
    inherited,
    plan_targets,
    rare_rows,
    stated,
    target_columns,
)
from recipes.chain.trust import counts_by_split, impossible, reserved
from recipes.chain.untrained_terms import untrained_terms, untrained_terms_record
from recipes.chain.values import plain

__all__ = [
    "Synthesised",
    "fill",
    "guidance_of",
    "is_independent",
    "make_images",
    "start_of",
    "synthesise",
]


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
    """Of a steered set, the table as the run's judge labels it, if there is one."""
    realism: Realism | None = None
    """How its admitted images compare with the real ones."""
    doubted: Mapping[str, str] = field(default_factory=dict)
    """Attributes that have no label here since the run's sets speak against them -> why."""

    def train_rows(self, inputs: Inputs) -> pd.DataFrame:
        """The rows as classifiers train on them, with soft labels where those were asked for."""
        rows = self.selection.table
        soft = inputs.run.config.labels.soft
        return softened(rows, inputs.attributes) if soft else rows


def synthesise(run: Run, inputs: Inputs, judge: Judge) -> dict[str, Synthesised]:
    """Every set of the run of which something is taken, by name; of the others there is a caution.

    Raises:
        ValueError: copies of val or test images, or images that are unlike the real ones, unless
            they are allowed; nothing is taken of any set.
    """
    made: dict[str, Synthesised] = {}
    check = None
    for name, settings in run.config.synthetic_sets.items():
        with run.doing(f"making the set {name}"):
            made[name] = one = _synthesise(run, inputs, judge, name, settings)
        if one.selection.table.empty:
            continue
        with run.doing(f"comparing the set {name} with the real images"):
            check = check or RealismCheck.of(run, inputs)
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
    doubted = impossible(counts, sets, run.config.labels.trust)
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


def _synthesise(
    run: Run, inputs: Inputs, judge: Judge, name: str, settings: SyntheticSet
) -> Synthesised:
    config, folder = run.config, _folder(run, name)
    n_real = int((inputs.table["split"] == "train").sum())
    if settings.folder is None:
        size = settings.count or config.num_synthetic
        table, selection = fill(
            lambda seeds: judge(_labelled(run, inputs, settings, seeds, folder)),
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
        size: images a round; a multiple of the sampler's batch size wastes nothing.

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
    run: Run, inputs: Inputs, settings: SyntheticSet, seeds: Sequence[int], folder: Path
) -> pd.DataFrame:
    """Images of some seeds with labels, and with what each was asked to be."""
    table = inputs.label(make_images(run, inputs, settings, seeds, folder))
    if settings.start is not None and settings.start.rows is not None:
        table = inherited(table, rare_rows(inputs.table, inputs.attributes), inputs.attributes)
    if inputs.asks(settings):
        asked = target_columns(plan_of(inputs, settings), list(table["seed"]), inputs.attributes)
        table = table.assign(**{str(name): asked[name].to_numpy() for name in asked})  # by row
    by_prompt = run.config.labels.by_prompt and not settings.asks  # guidance gets not all it asks
    return stated(table, inputs.attributes) if by_prompt else table


def is_independent(settings: SyntheticSet) -> bool:
    """Whether a set's images are made here, and are the same for all labelers and real rows."""
    guidance, start = settings.guidance, settings.start
    return (
        settings.folder is None
        and not settings.has_trained_terms
        and not settings.needs_gradients
        and (guidance is None or guidance.distance != "features")
        and (start is None or start.rows is None)
    )


def make_images(
    run: Run, inputs: Inputs, settings: SyntheticSet, seeds: Sequence[int], folder: Path
) -> pd.DataFrame:
    """The images of some seeds of a set that is made here, without labels; see `generate`."""
    guidance = guidance_of(inputs, settings)
    return generate(
        inputs.denoiser,
        seeds,
        folder,
        sampler=settings.sampler,
        guidance=guidance,
        start=start_of(inputs, settings),
        settings=_record(inputs, settings, guidance),
        fabric=run.fabric,
    )


def _record(
    inputs: Inputs, settings: SyntheticSet, guidance: Guidance | None
) -> dict[str, Any] | None:
    """What of a folder's images is the guidance's; None for ordinary samples."""
    record = {} if settings.guidance is None else plain(asdict(settings.guidance))
    if settings.has_trained_terms:
        record["terms"] = repr(guidance)  # tells the classifiers' weights
    if settings.guidance is not None and settings.guidance.distance == "features":
        record["network"] = inputs.labeler.sha256
    if settings.steering is not None:
        record["steering"] = plain(asdict(settings.steering))
        record["steering"] |= {
            "targets": settings.wishes or inputs.run.config.quota.wanted or "auto",
            "plan": plan_of(inputs, settings).identity,
            "labeler": inputs.labeler.sha256,
        }
    record |= untrained_terms_record(inputs, settings)
    return record or None


def guidance_of(inputs: Inputs, settings: SyntheticSet) -> Guidance | None:
    """The guidance of a set: up the minority measure, to what is asked for, and by whatever else
    its settings name; None for ordinary samples.
    """
    parts: list[Ascent] = []
    if settings.guidance is not None:
        distance = named_distance(settings.guidance.distance, inputs.denoiser, inputs.labeler)
        parts.append(settings.guidance.with_distance(distance))
    if settings.steering is not None:
        assert isinstance(inputs.labeler, Labeler)  # checked before any work
        strength = {
            f.name: getattr(settings.steering, f.name) for f in fields(AttributeGuidanceConfig)
        }
        plan = plan_of(inputs, settings)
        parts.append(AttributeGuidance(**strength, labeler=inputs.labeler, wish=plan))
    joint = settings.steering is not None and settings.steering.joint and len(parts) > 1
    terms: list[Guidance] = [
        *([Joint(*parts)] if joint else parts),
        *classifier_terms(inputs, settings),
        *untrained_terms(settings, inputs.denoiser, inputs.labeler),
    ]
    return Sum.of(terms)


def plan_of(inputs: Inputs, settings: SyntheticSet) -> Plan:
    """What each image of a set is asked to be: by its prompt, where no guidance asks; `auto` takes
    the quota's wishes, if it has any.
    """
    if inputs.prompts is not None and not settings.asks:
        return inputs.prompts.plan(settings.sampler.label)
    if settings.attribute_bits is not None:
        return bits_of(inputs, settings.attribute_bits)
    wishes = settings.wishes or inputs.run.config.quota.wanted
    known = [name for name in inputs.attributes if name in inputs.labeler.attributes]
    return plan_targets(inputs.train, known, wishes)


def start_of(inputs: Inputs, settings: SyntheticSet) -> Start | None:
    """What the images of a set start from; None for ordinary noise."""
    if settings.start is None:
        return None
    if settings.start.boost is not None:
        return settings.start.boost
    image, source = inputs.denoiser.image, settings.start.images
    if source is None:
        paths = list(rare_rows(inputs.table, inputs.attributes)["path"])
    elif source.is_file():
        paths = [str(source)]
    else:
        paths = list(_train_rows(load_images(source))["path"])
    references = ImageFiles(paths, read_image, size=image.size, channels=image.channels).stack()
    return Edit(references=references, strength=settings.start.strength)


def _train_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Those of a table that has splits: no image may start from one that judges it."""
    return table[table["split"] == "train"] if "split" in table else table


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
    counts = made.table["admission"].value_counts()
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    short = "".join(f"; {wish}" for wish in unmet(made.selection, made.table, policy))
    return f"none of the {len(made.table)} {made.name} images was taken ({verdicts}){short}"
