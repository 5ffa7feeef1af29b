"""What the recipes that compare sets share: their costs, and their place among the real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from augment import L2, DenoiserFeatures
from augment.jepa_score import Spectrum, jepa_scores
from augment.metrics import Hardness, Orders, frechet_distance
from augment.metrics.pictures import ImageSet
from augment.metrics.report import Results, check_sizes, likeness
from augment.minority_score import score_files
from classify.datasets import load_images, read_image
from recipes.chain.command.files import write_csv
from recipes.chain.command.values import Values
from recipes.chain.encoders import Encoders
from recipes.chain.inputs import Inputs
from recipes.chain.measures.cost import Cost, cost_of
from recipes.chain.measures.tails import DEFAULT_TAILS, Scores, Tail, read_tails
from recipes.chain.settings.sets import SyntheticSet
from recipes.chain.settings.study import RunConfig

__all__ = ["Measuring", "MeasuringConfig", "SetMeasures", "costs_of", "with_costs"]

_ORIGINAL = Spectrum(rank=9)
"""How much of a Jacobian the JEPA score's authors look at."""


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig(RunConfig):
    """A run whose sets are measured against the real train images."""

    tails: Mapping[str, Values] = field(default_factory=lambda: dict(DEFAULT_TAILS))
    """The rare ends of the real train images, name -> by, count, lowest, file."""
    encoder: str = "avatars"
    """Network whose features are measured, as for `recipes/measure.py`; inception adds FID and
    sFID."""
    weights: Path | None = None
    """A local file of a published encoder's weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 1 + max(Orders().precision, Orders().density)
        for name, tail in self.tails_read.items():
            if tail.count is not None and tail.count < least:
                raise ValueError(
                    f"tails.{name}: count is {tail.count}; give at least {least} images, more than "
                    "the neighbours that are looked at"
                )

    @property
    def source(self) -> str:
        """What the real images are, in words."""
        return "the embedded avatars" if self.data is None else self.data.resolve().name

    @property
    def tails_read(self) -> dict[str, Tail]:
        """The tails as values."""
        return read_tails(self.tails)


def costs_of(inputs: Inputs, sets: Mapping[str, SyntheticSet], file: Path) -> dict[str, Cost]:
    """The cost of an image of each set; those that the file tells already are not counted again,
    and it is told the others.
    """
    fabric, known = inputs.run.fabric, dict[str, Cost]()
    if fabric.is_global_zero and file.is_file():
        known = {
            str(row["set"]): Cost(row["forwards"], row["seconds"])
            for row in pd.read_csv(file).to_dict("records")
        }
    known = fabric.broadcast(known)  # or one process might find what another has just written
    for name, settings in sets.items():
        if name in known:
            continue
        known[name] = cost_of(inputs, settings)
        if fabric.is_global_zero:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_csv(file, pd.DataFrame([{"set": n, **asdict(c)} for n, c in known.items()]))
    return {name: known[name] for name in sets}


def with_costs(table: pd.DataFrame, costs: Mapping[str, Cost]) -> pd.DataFrame:
    """One row per set of `Results.table`, with the columns forwards and seconds after the name; NaN
    where there is no cost, as of the real images.
    """
    table = table.copy()
    for place, column in enumerate(("forwards", "seconds"), start=1):
        values = [getattr(costs.get(name, Cost()), column) for name in table["set"]]
        table.insert(place, column, values)
    return table


@dataclass(frozen=True)
class SetMeasures:
    """What was measured of sets."""

    results: Results
    """Against all real train images."""
    tails: pd.DataFrame
    """One row per tail and set: columns tail, set, real, and those of `likeness`."""


class Measuring:
    """Measures sets that a run has made; loads the encoders, which may be missing, at once.

    Args:
        config: says how.
    """

    def __init__(self, config: MeasuringConfig) -> None:
        self._encoders = Encoders(config.encoder, weights=config.weights)
        self._tails = config.tails_read

    def __call__(self, inputs: Inputs, names: Sequence[str], kept: Path) -> SetMeasures:
        """Measure the run's sets of these names.

        Args:
            inputs: of the run; all real train images are the reference.
            names: of sets that lie under `<out>/synthetic/`.
            kept: a folder, where the scores of the real images are kept.
        """
        run = inputs.run
        real = inputs.train.reset_index(drop=True)
        folders = {name: run.out / "synthetic" / name for name in names}
        tables = {"real": real, **{name: load_images(one) for name, one in folders.items()}}
        sets = [ImageSet.of(name, table) for name, table in tables.items()]
        check_sizes(sets[0], sets[1:], tail_count=None, orders=Orders())
        seen = self._encoders.features(sets, fabric=run.fabric, cache=run.out / "features")
        results, features = seen.measured(), seen.own
        known = _scores(inputs, real, features[0], results, kept)
        rows = []
        for tail, one in self._tails.items():
            chosen = torch.from_numpy(one.rows(real["file_name"], known))
            for i, name in enumerate(names, start=1):
                row = likeness(features[i], features[0][chosen])
                row |= {c: frechet_distance(f[0][chosen], f[i]) for c, f in seen.beside.items()}
                rows.append({"tail": tail, "set": name, "real": len(chosen), **row})
        return SetMeasures(results, pd.DataFrame(rows))


def _scores(
    inputs: Inputs,
    real: pd.DataFrame,
    features: Tensor,
    results: Results,
    kept: Path,
) -> Scores:
    """What the real train images can be ranked by."""
    run = inputs.run

    def minority_scores() -> NDArray[np.floating]:
        paths, denoiser = list(real["path"]), inputs.denoiser
        return score_files(denoiser, paths, L2(), read=read_image, fabric=run.fabric)

    def jepa() -> NDArray[np.floating]:
        denoiser = inputs.denoiser.to(run.fabric.device)
        own = DenoiserFeatures(denoiser)
        return jepa_scores(own, inputs.images.of(real), _ORIGINAL, device=denoiser.device).numpy()

    def once(score: str, count: Callable[[], NDArray[np.floating]]) -> NDArray[np.floating]:
        """Scores that take long, from the file where an earlier session left them."""
        file = kept / f"{score}.csv"
        if not run.fabric.broadcast(file.is_file()):
            values = count()
            told = pd.DataFrame({"file_name": real["file_name"], score: values})
            if run.fabric.is_global_zero:
                kept.mkdir(parents=True, exist_ok=True)
                write_csv(file, told)
            run.fabric.barrier()
        found: NDArray[np.floating] = pd.read_csv(file)[score].to_numpy(float)
        return found

    return {
        "avg_knn": lambda: results.images["real"]["avg_knn"].to_numpy(),
        "minority_score": lambda: once("minority_score", minority_scores),
        "jepa_score": lambda: once("jepa_score", jepa),
        "hardness": lambda: Hardness.fitted(features)(features).numpy(),
    }
