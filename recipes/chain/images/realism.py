"""Whether a synthetic set is like the real images, asked before anything is trained on it.

What answers has no part in the run: views of the images that nothing here was fitted to, beside the
generator's own activations and, if `admission.encoder` names one, a pretrained network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from threadpoolctl import threadpool_limits
from torch import Tensor

from augment import Denoiser, DenoiserFeatures, admitted
from augment.metrics import Encoder, Preprocessing
from augment.metrics.realism import MOST, UNLIKE, Realism, RealismGate
from augment.metrics.views import View, batch_of, look, plain_views
from classify.datasets import decode, read_image
from recipes.chain.encoders import load_encoder
from recipes.chain.inputs import Inputs
from recipes.chain.run import Run

__all__ = [
    "REALISM",
    "RealismCheck",
    "generator_view",
    "realism_table",
    "seen",
    "side_of",
]

REALISM = "realism"
"""Column of a set's table: `Realism.scores` of the admitted images."""
_DECODED = 1024


@dataclass(frozen=True, kw_only=True)
class RealismCheck:
    """Judges the sets of a run; what it has seen of the real images is kept."""

    run: Run
    views: Mapping[str, View]
    size: int
    gate: RealismGate

    @classmethod
    def of(cls, inputs: Inputs) -> RealismCheck:
        """By the run's real train images, at most 2,000 of them."""
        run = inputs.run
        views: dict[str, View] = {
            **plain_views(),
            "generator": generator_view(inputs.denoiser, run.fabric),
        }
        if (wanted := run.config.admission.encoder) is not None:
            views[wanted] = load_encoder(wanted).to(run.fabric.device)
        paths = list(inputs.train["path"].sample(min(len(inputs.train), MOST), random_state=0))
        size = inputs.images.pixels.shape[-1]
        return cls(
            run=run, views=views, size=size, gate=RealismGate(seen(paths, views, size, run.fabric))
        )

    def __call__(self, name: str, table: pd.DataFrame) -> tuple[pd.DataFrame, Realism]:
        """Judge the admitted images of a set.

        Args:
            name: of the set.
            table: judged by admission, with `path`, at least one row of it admitted.

        Returns:
            The table with the column `realism`, and what was found.
        """
        rows = admitted(table)
        features = seen(list(rows["path"]), self.views, self.size, self.run.fabric)
        # Every process judges; were each to use all cores, they would wait for one another.
        with threadpool_limits(1 if self.run.fabric.world_size > 1 else None):
            found = self.gate(features)
        scores = pd.Series(found.scores, index=rows.index)
        if found.verdict != UNLIKE:
            self.run.note(f"The images of {name} are {found.sentence()}.")
        return table.assign(**{REALISM: scores.round(4)}), found

    def refuse(self, name: str, found: Realism, folder: Path) -> None:
        """Stop at a set that is unlike the real images, or let the verdict begin with it.

        Raises:
            ValueError: it is unlike, and that is not allowed.
        """
        if found.verdict != UNLIKE:
            return
        if not self.run.config.allow_unlike:
            raise ValueError(
                f"the set {name} is {found.sentence()}; a classifier would learn from pictures of "
                f"something else; look at {folder} (column {REALISM} of its metadata.csv, the "
                "lowest first), give a generator of such images, trained for longer, or less "
                "guidance, or go on by --allow_unlike"
            )
        self.run.reserve(f"Images of {name} are {found.sentence()}.")


def generator_view(denoiser: Denoiser, fabric: Fabric | None = None) -> Encoder:
    """A generator's own activations, means over the image."""
    preprocessing = Preprocessing(size=denoiser.image.size, mean=[0.5] * 3, std=[0.5] * 3)
    view = Encoder.of(DenoiserFeatures(denoiser, grid=1), preprocessing, name="generator")
    return view if fabric is None else view.to(fabric.device)


def seen(
    paths: Sequence[str], views: Mapping[str, View], size: int, fabric: Fabric | None = None
) -> dict[str, Tensor]:
    """What the views see of image files, cropped to the middle square of `size` pixels.

    Args:
        paths: of N >= 1 images that decode.
        views: name -> view, on the fabric's device.
        size: in pixels.
        fabric: whose processes share the work; each gets the whole.

    Returns:
        name -> float32 (N, D), on the CPU.
    """
    rank, world, device = 0, 1, torch.device("cpu")
    if fabric is not None:
        rank, world, device = fabric.global_rank, fabric.world_size, fabric.device
        for view in views.values():
            if isinstance(view, torch.nn.Module):
                view.to(device)
    batch = batch_of(size)
    share = -(-len(paths) // (batch * world)) * batch  # whole batches, whoever looks at them
    # A process without a share of its own looks at one image, for the widths.
    mine = paths[rank * share : (rank + 1) * share]
    parts = []
    block = _DECODED // batch * batch
    for first in range(0, max(len(mine), 1), block):
        pixels, _ = decode(mine[first : first + block] or paths[:1], size)
        parts.append(look(pixels.to(device), views))
    features = {name: torch.cat([part[name] for part in parts])[: len(mine)] for name in views}
    if fabric is None or world == 1:
        return features
    for name, own in features.items():
        whole = torch.zeros(len(paths), own.shape[1])
        whole[rank * share : rank * share + len(own)] = own
        # Zero outside a process's own rows, so the sum gathers them, exactly.
        summed = fabric.all_reduce(fabric.to_device(whole), reduce_op="sum")
        features[name] = cast(Tensor, summed).cpu()
    return features


def realism_table(found: Mapping[str, Realism | None]) -> pd.DataFrame:
    """One row per set and view: columns `arm, verdict, real, images, outside, view, accuracy,
    frechet, precision`; of a set that could not be judged one row without figures.
    """
    columns = ["arm", "verdict", "real", "images", "outside"]
    columns += ["view", "accuracy", "frechet", "precision"]
    rows: list[tuple[object, ...]] = []
    for name, one in found.items():
        if one is None:
            continue
        head = (name, one.verdict, *one.images, one.outside)
        views = list(one.views.itertuples(name=None))
        rows += [(*head, *view) for view in views or [("", np.nan, np.nan, np.nan)]]
    return pd.DataFrame(rows, columns=columns)


def side_of(paths: Sequence[str | Path]) -> int:
    """The size in pixels at which images are compared: the shortest side of any, at most 256."""
    return min(256, *(min(read_image(path).size) for path in paths))
