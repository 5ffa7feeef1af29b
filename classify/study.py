"""A study: arms (named training tables) x seeds -> scores.

All arms are judged on the same real rows, take the same number of optimiser steps and, for one
seed, start from the same weights, so that differences between arms can be paired by seed. One fit
is one unit of work: several processes take the units in turn, and with a folder a finished unit is
read back and an interrupted one continues.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning as L
import pandas as pd
import torch

from classify.arms import Arm
from classify.config import FitConfig
from classify.datasets.images import Images, decode_tables
from classify.files import claim, differing, write_text
from classify.labels import check_learnable, label_tensor
from classify.metrics import attribute_scores
from classify.predictions import PREDICTIONS, write_predictions
from classify.train import fit, predict
from classify.trainer import STATE

COLUMNS = ("arm", "seed", "split", "attribute", "metric", "value")
_EVALUATED = ("val", "test")
_log = logging.getLogger(__name__)


def run_study(
    arms: Mapping[str, pd.DataFrame | Arm],
    attributes: Sequence[str],
    config: FitConfig | None = None,
    *,
    seeds: int,
    out: Path | None = None,
    fabric: L.Fabric | None = None,
    steps: int | None = None,
    cache: Path | None = None,
    skip_bad: bool = False,
) -> pd.DataFrame:
    """Fit every arm with every seed and score it on val and, once, on test.

    Args:
        arms: Name -> table with train, val and test rows; val and test real and the same in all. Or
            an `Arm`, whose fits differ in more than the table.
        attributes: Names to learn, each with a label somewhere (`labelled_attributes`).
        config: Settings of a fit.
        seeds: Fits an arm; their seeds are 0 to `seeds` - 1.
        out: Folder for `fits/<arm>-<seed>/`, where each fit leaves its scores and its test
            predictions (`read_predictions`); needed for several processes.
        fabric: A launched Fabric whose processes share the fits; its device is used.
        steps: Optimiser steps of every fit; by default the config's epochs over the real train rows
            of the first arm.
        cache: Folder for decoded images (see `classify.decode`).
        skip_bad: Leave out images that do not decode.

    Returns:
        Tidy scores, columns `arm, seed, split, attribute, metric, value`; the same in every
        process.

    Raises:
        ValueError: Arms that cannot be compared, nothing to learn, or `out` holds other fits.
    """
    config, fabric = config or FitConfig(), fabric or L.Fabric(accelerator="auto", devices=1)
    configs = {name: Arm.of(arm).config(config) for name, arm in arms.items()}
    tables = {name: Arm.of(arm).table for name, arm in arms.items()}
    _check(tables, attributes, seeds, out, fabric)
    with fabric.rank_zero_first():  # the others find the cache filled
        images = decode_tables(tables.values(), config.image_size, skip_bad=skip_bad, cache=cache)
    tables = {name: images.usable(table) for name, table in tables.items()}
    first = next(iter(tables.values()))
    n_real = int(((first["split"] == "train") & (first["source"] == "real")).sum())
    study = _Study(
        attributes=attributes,
        configs=configs,
        steps=steps or config.steps(n_real),
        images=images,
        fabric=fabric,
    )
    units = [(name, seed) for seed in range(seeds) for name in tables]
    if out is None:
        done = [study.score(name, tables[name], seed, folder=None) for name, seed in units]
    else:
        folders = {(name, seed): out / "fits" / f"{name}-{seed}" for name, seed in units}
        hashes = {name: _fingerprint(table, attributes, images) for name, table in tables.items()}
        for name, seed in units[fabric.global_rank :: fabric.world_size]:
            study.complete(name, tables[name], seed, folders[name, seed], hashes[name])
        fabric.barrier()
        done = [_read(folders[name, seed]) for name, seed in units]
    return pd.concat(done, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class _Study:
    """What all units share."""

    attributes: Sequence[str]
    configs: Mapping[str, FitConfig]
    """Of each arm."""
    steps: int
    images: Images
    fabric: L.Fabric

    def complete(
        self, arm: str, table: pd.DataFrame, seed: int, folder: Path, table_hash: str
    ) -> None:
        """Leave the unit's scores and test predictions in the folder, by whatever work is left to
        do for it.
        """
        record = {
            "config": asdict(self.configs[arm]),
            "attributes": list(self.attributes),
            "steps": self.steps,
            "seed": seed,
            "table": table_hash,
        }
        _claim(folder, record)
        if not all((folder / name).exists() for name in ("scores.csv", PREDICTIONS)):
            scores = self.score(arm, table, seed, folder)
            write_text(folder / "scores.csv", scores.to_csv(index=False))
            (folder / STATE).unlink(missing_ok=True)  # nothing is left to continue

    def score(self, arm: str, table: pd.DataFrame, seed: int, folder: Path | None) -> pd.DataFrame:
        """Fit one arm with one seed, then evaluate."""
        splits = {split: table[table["split"] == split] for split in ("train", *_EVALUATED)}
        result = fit(
            splits["train"],
            splits["val"],
            self.attributes,
            self.configs[arm],
            steps=self.steps,
            seed=seed,
            folder=folder,
            images=self.images,
            device=self.fabric.device,
            label=f"{arm}, seed {seed}",
        )
        _log.info(
            "%s, seed %d: macro F1 %.3f on val after %d steps",
            arm,
            seed,
            result.val_f1,
            result.best_step,
        )
        parts = []
        for split in _EVALUATED:
            rows = splits[split]
            pixels = self.images.pixels[self.images.rows(rows)]
            probabilities = predict(result.module, pixels, device=self.fabric.device)
            labels = label_tensor(rows, self.attributes)
            if folder and split == "test":
                write_predictions(folder, rows, self.attributes, probabilities.numpy())
            parts.append(attribute_scores(probabilities, labels, self.attributes, split=split))
        return pd.concat(parts).assign(arm=arm, seed=seed)[list(COLUMNS)]


def _claim(folder: Path, record: Mapping[str, object]) -> None:
    """Write down what the folder is for, or check that it is for the same."""
    other = claim(folder / "unit.json", record)
    if "config" in other:
        other = {**differing(*other.pop("config")), **other}
    if other:
        details = ", ".join(
            "other training images or labels" if name == "table" else f"{name} {a} there, {b} now"
            for name, (a, b) in other.items()
        )
        raise ValueError(
            f"{folder} holds a fit of another study ({details}): choose another --out, or remove "
            "that folder"
        )


def _read(folder: Path) -> pd.DataFrame:
    """Scores to the last bit: Python parses the values, not pandas' quicker but inexact parser."""
    scores = pd.read_csv(
        folder / "scores.csv",
        dtype={"arm": "str", "attribute": "str", "value": "str"},
        keep_default_na=False,
        na_values={"value": [""]},
    )
    return scores.astype({"value": "float64"})


def _fingerprint(table: pd.DataFrame, attributes: Sequence[str], images: Images) -> str:
    """Hash of splits, labels and pixels: a moved folder is the same table, a changed image is
    not.
    """
    digest = hashlib.sha256("".join(table["split"]).encode())
    digest.update(label_tensor(table, attributes).numpy().tobytes())
    for rows in torch.split(images.rows(table), 4096):
        digest.update(images.pixels[rows].numpy().tobytes())
    return digest.hexdigest()


def _check(
    arms: Mapping[str, pd.DataFrame],
    attributes: Sequence[str],
    seeds: int,
    out: Path | None,
    fabric: L.Fabric,
) -> None:
    if not arms:
        raise ValueError("arms: got none, give at least one named table")
    if seeds < 1:
        raise ValueError(f"seeds: got {seeds}, at least 1 is needed")
    if out is None and fabric.world_size > 1:
        raise ValueError(
            f"out: got none with {fabric.world_size} processes, a folder is needed in which they "
            "meet"
        )
    for name, table in arms.items():
        if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", name):
            raise ValueError(f"arm {name!r}: it names a folder, use letters, digits and . _ + -")
        if missing := {"train", *_EVALUATED} - set(table["split"]):
            raise ValueError(
                f"arm {name} has no {' and no '.join(sorted(missing))} rows: a study needs train, "
                "val and test"
            )
        if ((table["split"] != "train") & (table["source"] != "real")).any():
            raise ValueError(
                f"arm {name} has synthetic rows in val or test: evaluate on real images only"
            )
        check_learnable(table, attributes)
    _check_same_evaluation(arms, attributes)


def _check_same_evaluation(arms: Mapping[str, pd.DataFrame], attributes: Sequence[str]) -> None:
    columns = ["path", "split", *attributes]
    evaluated = {
        name: table.loc[table["split"] != "train", columns].sort_values("path", ignore_index=True)
        for name, table in arms.items()
    }
    first, *others = evaluated
    for other in others:
        if not evaluated[first].equals(evaluated[other]):
            raise ValueError(
                f"arms {first} and {other} differ in val or test: all arms need the same real rows "
                "there"
            )
