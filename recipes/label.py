"""Label the images of a table, fit when to trust a label, and judge the labels.

    python recipes/label.py fit TABLE --labeler SRC --out policy.json
    python recipes/label.py label TABLE --labeler SRC --policy policy.json --out DIR
    python recipes/label.py evaluate TABLE --labeler SRC --policy policy.json --out quality.csv
    python recipes/label.py export --labeler SRC --out NAME.onnx
    python recipes/label.py label TABLE --labeler RUN/labeler --generator SRC --out DIR

TABLE is a folder with `metadata.csv`, or CelebA's; for `label` any folder of images. SRC is what
`labeling.load_labeler` takes; of several, each attribute is the first's that knows it. `fit` and
`evaluate` compare with true labels, of real rows; `label` writes a folder with `metadata.csv`, the
images beside it. The last line labels by the generator of a run, whose head stands in the run's
folder. The embedded labeler takes about 1,000 images per second and core.
"""

from __future__ import annotations

import filecmp
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from lightning.fabric import Fabric

from augment import load_denoiser
from classify.datasets import load_images, load_table, read_image
from classify.names import one_of
from labeling import (
    Combination,
    LabelPolicy,
    PolicyConfig,
    Predictor,
    export_onnx,
    label_probabilities,
    load_labeler,
    pseudo_label,
    quality_by_group,
)
from labeling.card import head
from labeling.files import refuse_existing, write_text
from labeling.probe import HEAD
from labeling.quality import ALL
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import Devices
from recipes.chain.command.files import link
from recipes.chain.command.sources import GENERATORS, LABELERS
from recipes.chain.labels.probe import load_generator_labeler

__all__ = ["Evaluate", "Export", "Fit", "Label", "main"]

FILE = "metadata.csv"


@dataclass(frozen=True, kw_only=True)
class _WithLabeler:
    labeler: list[str] = field(default_factory=list, metadata=LABELERS)
    """Name, folder, .onnx file, .yaml file of CLIP prompts or hub id; several: the first that knows
    an attribute gives it."""
    generator: str | None = field(default=None, metadata=GENERATORS)
    """The generator of a run whose labeler folder, RUN/labeler, is a head on its features."""

    def __post_init__(self) -> None:
        if not self.labeler:
            raise ValueError(
                "labeler is empty; give --labeler a name, a folder, a file or a hub id"
            )


@dataclass(frozen=True, kw_only=True)
class _WithImages(Devices, _WithLabeler):
    table: Path
    """Folder of images with metadata.csv, or CelebA's; to label, any folder of images."""
    attributes: list[str] = field(default_factory=list)
    """Names of attributes; left out, all that the labeler knows, of those with true labels where
    these are needed."""
    batch_size: int = 256
    """Images at a time."""


@dataclass(frozen=True, kw_only=True)
class _WithPolicy(_WithImages):
    policy: Path | None = None
    """File that `fit` wrote; left out, the labeler's own thresholds."""


@dataclass(frozen=True, kw_only=True)
class Label(_WithPolicy):
    """Label every image of a table: labels and probabilities into a new folder."""

    soft: bool = False
    """Write the probability in place of 1 and 0; for synthetic rows only."""
    out: Path = Path("runs/labelled")
    """Folder of the labelled table and its images, new."""


@dataclass(frozen=True, kw_only=True)
class Fit(_WithImages):
    """Fit thresholds and temperatures on the real rows of split val, into a policy file."""

    wanted: PolicyConfig = field(default_factory=PolicyConfig)
    """What is wanted of the labels: precision, empty cells, calibration."""
    out: Path = Path("runs/policy.json")
    """The policy file (.json), new."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(_WithPolicy):
    """Compare a labeler's labels with the true ones of real rows, into a CSV file."""

    groups: list[str] = field(default_factory=list)
    """Columns whose intersections are judged apart, such as Male Young."""
    split: Literal["train", "val", "test"] = "val"
    """The rows."""
    min_count: int = 10
    """Rows of either true value below which a score stays empty."""
    out: Path = Path("runs/label_quality.csv")
    """The CSV file, new."""


@dataclass(frozen=True, kw_only=True)
class Export(_WithLabeler):
    """Write a labeler that has a torch network as ONNX, with its card beside it."""

    out: Path = Path("runs/labeler.onnx")
    """The .onnx file, new."""


def label(settings: Label) -> pd.DataFrame:
    """Label a table and write it; returns what was written, with `path`."""
    refuse_existing(settings.out / FILE)
    table = load_images(settings.table)
    if settings.soft and ("source" not in table or (table["source"] != "synthetic").any()):
        raise ValueError(
            f"{settings.table} has rows whose source is not synthetic; soft labels are for "
            "synthetic rows; leave --soft out"
        )
    labeler, fabric = _loaded(settings), settings.launched()
    names = settings.attributes or list(labeler.attributes)
    labelled = _labelled(table, labeler, names, settings, fabric, soft=settings.soft)
    if fabric.is_global_zero:
        _write_folder(labelled, settings.out)
        shares = {"kept": labelled[names].notna().mean(), "mean": labelled[names].mean()}
        print(pd.DataFrame(shares).rename_axis("attribute").to_string(float_format="%.3f"))
        print(f"{len(labelled):,} images labelled: {settings.out / FILE}")
    return labelled


def fit(settings: Fit) -> LabelPolicy:
    """Fit a policy, write it and return it."""
    refuse_existing(settings.out)
    labeler, fabric = _loaded(settings), settings.launched()
    rows, names = _real_rows(settings, labeler, "val")
    columns = [labeler.attributes.index(name) for name in names]
    probabilities = label_probabilities(
        rows, labeler, read=read_image, batch_size=settings.batch_size, fabric=fabric
    )[:, columns]
    policy = LabelPolicy.fit(
        rows, probabilities, names, config=settings.wanted, labeler=labeler.sha256
    )
    if fabric.is_global_zero:
        policy.write(settings.out)
        print(policy.summary().to_string(float_format="%.3f"))
        print(f"fitted on {len(rows):,} real val images: {settings.out}")
    return policy


def evaluate(settings: Evaluate) -> pd.DataFrame:
    """Judge a labeler, write its scores and return them."""
    refuse_existing(settings.out)
    labeler, fabric = _loaded(settings), settings.launched()
    rows, names = _real_rows(settings, labeler, settings.split, settings.groups)
    decided = _labelled(rows, labeler, names, settings, fabric)[names]
    quality = quality_by_group(rows, decided, settings.groups, min_count=settings.min_count)
    if fabric.is_global_zero:
        write_text(settings.out, quality.to_csv(index=False))
        shown = quality[quality["group"] == ALL].drop(columns="group")
        print(shown.to_string(index=False, float_format="%.3f"))
        print(f"judged on {len(rows):,} real {settings.split} images: {settings.out}")
    return quality


def export(settings: Export) -> Path:
    """Write a labeler as ONNX; returns the file."""
    path = export_onnx(_loaded(settings), settings.out)
    print(path)
    return path


_COMMANDS: dict[str, tuple[type[Any], Callable[[Any], object]]] = {
    "label": (Label, label),
    "fit": (Fit, fit),
    "evaluate": (Evaluate, evaluate),
    "export": (Export, export),
}


def main(arguments: Sequence[str] | None = None) -> object:
    """The command that the first word names, with the settings after it; returns what it made."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else ""
    if name in ("-h", "--help"):
        print(f"{__doc__}\n`--help` after one of these words shows its settings.")
        raise SystemExit(0)
    if name not in _COMMANDS:
        raise ValueError(f"the command is {name!r}; {one_of(name, _COMMANDS)} as the first word")
    kind, command = _COMMANDS[name]
    return command(parse(kind, words[1:]))


def _loaded(settings: _WithLabeler) -> Predictor:
    """The labelers as one; with a generator, the folders of heads are heads on its features."""
    if settings.generator is None:
        return load_labeler(settings.labeler)
    denoiser = load_denoiser(settings.generator)
    parts = [
        load_generator_labeler(Path(source), denoiser)
        if (Path(source) / HEAD).is_file()
        else load_labeler(source)
        for source in settings.labeler
    ]
    return parts[0] if len(parts) == 1 else Combination(parts)


def _labelled(
    table: pd.DataFrame,
    labeler: Predictor,
    names: Sequence[str],
    settings: _WithPolicy,
    fabric: Fabric,
    *,
    soft: bool = False,
) -> pd.DataFrame:
    """`pseudo_label` by the settings' policy."""
    return pseudo_label(
        table,
        labeler,
        names,
        policy=None if settings.policy is None else LabelPolicy.read(settings.policy),
        read=read_image,
        soft=soft,
        batch_size=settings.batch_size,
        fabric=fabric,
    )


def _real_rows(
    settings: _WithImages, labeler: Predictor, split: str, groups: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """The real rows of a split, and the attributes to judge; those asked for have to be there."""
    asked = settings.attributes or None
    table = load_table(settings.table, asked)
    if asked and (absent := [name for name in groups if name not in table]):
        table = load_table(settings.table, [*asked, *absent])  # of CelebA only what is asked for
    names = asked or [name for name in labeler.attributes if name in table]
    unknown = [name for name in names if name not in labeler.attributes]
    if unknown or not names:
        raise ValueError(
            f"attributes are {head(unknown) or 'none'}; the labeler has "
            f"{head(labeler.attributes)} and the table {head(list(table.columns))}; name some "
            "that both have"
        )
    rows = table[(table["split"] == split) & (table["source"] == "real")]
    if rows.empty:
        raise ValueError(
            f"{settings.table} has no real rows of split {split}; labels are judged on such rows; "
            "add some"
        )
    return rows.reset_index(drop=True), names


def _write_folder(table: pd.DataFrame, folder: Path) -> None:
    """Write `folder/metadata.csv`, and the images beside it under their names.

    The table comes last: where it stands everything stands.
    """
    for name, path in zip(table["file_name"], table["path"], strict=True):
        target = folder / name
        if target.exists() and not filecmp.cmp(path, target, shallow=False):
            raise ValueError(
                f"{target} is another image; nothing is overwritten; give another --out"
            )
        link(Path(path), target)
    write_text(folder / FILE, table.drop(columns="path").to_csv(index=False))


if __name__ == "__main__":
    run(main)
