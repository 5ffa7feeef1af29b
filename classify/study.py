"""A study: arms (named training tables) x seeds -> scores.

All arms are judged on the same real rows, take the same number of optimiser steps and, for one
seed, start from the same weights, so that differences between arms can be paired by seed. One fit
is one unit of work: each of several processes takes the next that no other is at, and with a folder
a finished unit is read back, an interrupted one continues, and one whose files are damaged is
fitted again.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import pandas as pd
import torch

from classify.arms import Arm
from classify.config import FitConfig
from classify.datasets.images import Images, decode_tables
from classify.files import claim, held, is_sealed, seal, share_out, write_text
from classify.labels import check_learnable, label_tensor
from classify.metrics import attribute_scores, best_thresholds, fitted_scores
from classify.predictions import PREDICTIONS, Judged, unit_folder, write_predictions
from classify.progress import Doing, silently
from classify.train import fit, predict
from classify.trainer import MakeLogger, forget_state

COLUMNS = ("arm", "seed", "split", "attribute", "metric", "value")
_SCORES = "scores.csv"
_RESULTS = (_SCORES, *PREDICTIONS.values())
"""Files of a finished unit."""
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
    logger: MakeLogger | None = None,
    doing: Doing = silently,
) -> pd.DataFrame:
    """Fit every arm with every seed and score it on val and, once, on test.

    Args:
        arms: Name -> table with train, val and test rows; val and test real and the same in all. Or
            an `Arm`, whose fits differ in more than the table.
        attributes: Names to learn, each with a label somewhere (`labelled_attributes`).
        config: Settings of a fit.
        seeds: Fits per arm; their seeds are 0 to `seeds` - 1.
        out: Folder for `fits/<arm>-<seed>/`, where each fit leaves its scores and its val
            and test predictions (`read_predictions`); needed for several processes.
        fabric: A launched Fabric whose processes share the fits; its device is used.
        steps: Optimiser steps of every fit; by default the config's epochs over the real train rows
            of the first arm.
        cache: Folder for decoded images (see `classify.decode`).
        skip_bad: Leave out images that do not decode.
        logger: Makes a further logger of each fit, from its folder in `out`.
        doing: Put around each part of the work.

    Returns:
        Tidy scores, columns `arm, seed, split, attribute, metric, value`; the same in every
        process. Rows are those of `attribute_scores` at 0.5; for test also `f1_fitted`, F1 at each
        attribute's threshold of the best F1 on val.

    Raises:
        ValueError: Arms that cannot be compared, nothing to learn, or `out` holds other fits.
    """
    config, fabric = config or FitConfig(), fabric or L.Fabric(accelerator="auto", devices=1)
    named = {name: Arm.of(arm) for name, arm in arms.items()}
    tables = {name: arm.table for name, arm in named.items()}
    _check(tables, attributes, seeds, out, fabric)
    with doing("decoding the images of all arms"):
        images = decode_tables(tables.values(), config.image_size, skip_bad=skip_bad, cache=cache)
    tables = {name: images.usable(table) for name, table in tables.items()}
    first = next(iter(tables.values()))
    n_real = int(((first["split"] == "train") & (first["source"] == "real")).sum())
    units = [
        _Unit(
            arm=name,
            seed=seed,
            table=tables[name],
            attributes=attributes,
            config=named[name].config(config),
            steps=steps or config.steps(n_real),
            doing=doing,
        )
        for seed in range(seeds)
        for name in named
    ]
    if out is None:
        return pd.concat([unit.fit(images, fabric.device) for unit in units], ignore_index=True)
    with doing("looking at the images of all arms"):
        hashes = {name: _fingerprint(table, attributes, images) for name, table in tables.items()}
    rank, world = fabric.global_rank, fabric.world_size
    own = units[rank::world]
    others = [unit for i, unit in enumerate(units) if i % world != rank]
    share_out(
        [*own, *reversed(others)],  # each is at its own last ones last
        lambda unit: unit.attempt(out, hashes[unit.arm], images, fabric.device, logger),
    )
    return pd.concat([unit.scores(out) for unit in units], ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """One fit of a study: an arm with a seed."""

    arm: str
    seed: int
    table: pd.DataFrame
    attributes: Sequence[str]
    config: FitConfig
    steps: int
    doing: Doing

    def attempt(
        self,
        out: Path,
        table: str,
        images: Images,
        device: torch.device,
        logger: MakeLogger | None,
    ) -> bool:
        """Leave scores and predictions in the unit's folder, by whatever work is left to do, unless
        another process is at it; whether they are there.

        Args:
            table: the hash of its images and labels.
        """
        folder = unit_folder(out, self.arm, self.seed)
        record = {
            "config": self.config.record(),
            "attributes": list(self.attributes),
            "steps": self.steps,
            "seed": self.seed,
            "table": table,
        }
        claim(folder / "unit.json", record)
        with held(folder / ".lock") as is_ours:
            if is_ours:
                self._complete(folder, images, device, logger)
        return is_ours

    def _complete(
        self, folder: Path, images: Images, device: torch.device, logger: MakeLogger | None
    ) -> None:
        if not is_sealed(folder, _RESULTS):
            if (folder / _SCORES).exists():
                _log.warning("%s is not as the fit left it: it is made again", folder)
            scores = self.fit(images, device, folder, logger)
            write_text(folder / _SCORES, scores.to_csv(index=False))
            seal(folder, _RESULTS)
        forget_state(folder)

    def scores(self, out: Path) -> pd.DataFrame:
        """Read them back to the last bit: Python parses the values, not pandas' quicker but inexact
        parser.
        """
        scores = pd.read_csv(
            unit_folder(out, self.arm, self.seed) / _SCORES,
            dtype={"arm": "str", "attribute": "str", "value": "str"},
            keep_default_na=False,
            na_values={"value": [""]},
        )
        return scores.astype({"value": "float64"})

    def fit(
        self,
        images: Images,
        device: torch.device,
        folder: Path | None = None,
        logger: MakeLogger | None = None,
    ) -> pd.DataFrame:
        """Fit and evaluate; scores, and in the folder the predictions."""
        train, val, test = (
            self.table[self.table["split"] == split] for split in ("train", *PREDICTIONS)
        )
        label = f"{self.arm}, seed {self.seed}"
        with self.doing(f"training {label}"):
            result = fit(
                train,
                val,
                self.attributes,
                self.config,
                steps=self.steps,
                seed=self.seed,
                folder=folder,
                images=images,
                device=device,
                label=label,
                logger=logger,
            )
        _log.info("%s, seed %d: macro F1 %.3f on val", self.arm, self.seed, result.val_f1)
        rows: dict[Judged, pd.DataFrame] = {"val": val, "test": test}
        probabilities = {}
        with self.doing(f"scoring {label}"):
            for split in PREDICTIONS:
                probabilities[split] = predict(result.module, images.of(rows[split]), device=device)
                if folder:
                    p = probabilities[split].numpy()
                    write_predictions(folder, rows[split], self.attributes, p, split)
            return self._score(rows, probabilities)

    def _score(
        self, rows: Mapping[Judged, pd.DataFrame], probabilities: Mapping[Judged, torch.Tensor]
    ) -> pd.DataFrame:
        """Tidy scores of val and test; thresholds are fitted on val."""
        labels = {split: label_tensor(table, self.attributes) for split, table in rows.items()}
        fitted = best_thresholds(probabilities["val"].numpy(), labels["val"].numpy())
        parts = [
            attribute_scores(probabilities[split], labels[split], self.attributes, split=split)
            for split in rows
        ]
        test = probabilities["test"], labels["test"]
        parts.append(fitted_scores(*test, self.attributes, fitted, split="test"))
        return pd.concat(parts).assign(arm=self.arm, seed=self.seed)[list(COLUMNS)]


def _fingerprint(table: pd.DataFrame, attributes: Sequence[str], images: Images) -> str:
    """Hash of splits, sources, labels and pixels: a moved folder is the same table, a changed
    image is not.
    """
    digest = hashlib.sha256("".join([*table["split"], *table["source"]]).encode())
    digest.update(label_tensor(table, attributes).numpy().tobytes())
    for rows in torch.split(images.rows(table), 256):
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
        raise ValueError("no arm is given; give at least one named table")
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give at least 1, better 3 or 5")
    if out is None and fabric.world_size > 1:
        raise ValueError(
            f"out is left out with {fabric.world_size} processes; give a folder, in which they meet"
        )
    for name, table in arms.items():
        if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", name):
            raise ValueError(f"arm {name!r} cannot name a folder; use letters, digits and . _ + -")
        if missing := sorted({"train", *PREDICTIONS} - set(table["split"])):
            raise ValueError(
                f"arm {name} has no {' and no '.join(missing)} rows; a study needs train, val and "
                "test; change the column split"
            )
        if ((table["split"] != "train") & (table["source"] != "real")).any():
            raise ValueError(
                f"arm {name} has synthetic rows in val or test; evaluate on real images only"
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
                f"arms {first} and {other} differ in val or test; give all arms the same real rows "
                "there"
            )
