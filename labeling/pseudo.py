"""Labels for a table of images: decode, predict, threshold.

Several processes share the work by whole batches: each takes a contiguous run of them, so every
batch holds the same images whatever the number of processes, and the result is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning.fabric import Fabric
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

from labeling.card import LabelerCard, head
from labeling.combination import Combination
from labeling.labeler import Predictor
from labeling.policy import LabelPolicy

__all__ = ["label_probabilities", "pseudo_label"]

_DECODERS = 4  # PIL releases the interpreter lock while it decodes


def pseudo_label(
    table: pd.DataFrame,
    labeler: Predictor,
    attributes: Sequence[str],
    *,
    policy: LabelPolicy | None = None,
    soft: bool = False,
    batch_size: int = 256,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Label every image of a table.

    Args:
        table: one row an image, with its absolute file name in `path`; left as it is.
        labeler: gives the probabilities, and the thresholds of attributes without a rule.
        attributes: the study's attributes. Those the labeler does not know stay empty.
        policy: fitted on real validation rows: calibrates, decides, and leaves cells empty.
        soft: put the probability itself in place of 1.0 and 0.0.
        batch_size: images at a time.
        fabric: processes and device to use, already launched; every process calls this and gets the
            whole result. Without it, this process alone, on the labeler's device.

    Returns:
        A copy of the table with, for each attribute, the label 1.0, 0.0 or NaN = empty in
        `<attribute>` (replacing what stood there) and the float32 probability in `p_<attribute>`,
        calibrated if the policy says so. Without a policy a label is 1.0 where p >= the labeler's
        threshold.

    Raises:
        ValueError: no attribute is known to the labeler, the policy is another labeler's, the table
            is empty or has no `path`, or an image does not decode.
        FileNotFoundError: an image is missing.
    """
    known = [name for name in attributes if name in labeler.attributes]
    if not known:
        raise ValueError(
            f"the labeler knows none of the study's attributes: the study has {head(attributes)}; "
            f"the labeler has {head(labeler.attributes)}; rename the table's columns or use "
            "another labeler"
        )
    rules = dict(LabelPolicy.from_thresholds(labeler.thresholds).rules)
    if policy is not None:
        policy.check_labeler(labeler.sha256)
        rules |= policy.rules
    policy = LabelPolicy(rules=rules)
    probabilities = label_probabilities(table, labeler, batch_size=batch_size, fabric=fabric)
    p = pd.DataFrame(probabilities, index=table.index, columns=pd.Index(labeler.attributes))
    p = p.reindex(columns=pd.Index(list(attributes)))
    # float64 on both sides: a threshold rounded to float32 could fall onto the probability it
    # separates.
    p64 = policy.calibrate(p, attributes)
    labels = pd.DataFrame(
        policy.decide(p64, attributes, soft=soft), index=table.index, columns=p.columns
    )
    p = pd.DataFrame(p64.astype(np.float32), index=table.index, columns=p.columns).add_prefix("p_")
    kept = table.drop(columns=[*labels.columns, *p.columns], errors="ignore")
    return pd.concat([kept, labels, p], axis=1)


def label_probabilities(
    table: pd.DataFrame, labeler: Predictor, *, batch_size: int = 256, fabric: Fabric | None = None
) -> npt.NDArray[np.float32]:
    """The labeler's probabilities for every image of a table; arguments and errors as in
    `pseudo_label`.

    Returns:
        float32 (N, A) in [0, 1], rows as in the table, columns as in `labeler.attributes`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1; give a larger one")
    if "path" not in table.columns or table.empty:
        got = "has no rows" if table.empty else "has no column path"
        raise ValueError(
            f"the table to label {got}; expected one row an image, its file in path; load it again"
        )
    if isinstance(labeler, Combination):  # each part by the files as it wants them
        parts = [
            torch.from_numpy(label_probabilities(table, p, batch_size=batch_size, fabric=fabric))
            for p in labeler.parts
        ]
        return cast("npt.NDArray[np.float32]", labeler.join(parts).numpy())
    if fabric is not None:
        labeler.to(fabric.device)
    return _predict([str(path) for path in table["path"]], labeler, batch_size, fabric)


def _predict(
    paths: Sequence[str], labeler: Predictor, batch_size: int, fabric: Fabric | None
) -> npt.NDArray[np.float32]:
    n_batches = -(-len(paths) // batch_size)
    rank, world_size = (fabric.global_rank, fabric.world_size) if fabric is not None else (0, 1)
    share = -(-n_batches // world_size) * batch_size  # rows of a process: whole batches
    first, mine = rank * share, paths[rank * share : (rank + 1) * share]
    result = torch.zeros(len(paths), len(labeler.attributes))
    with tqdm(
        total=len(mine), desc="label", unit="image", delay=2, leave=False, disable=rank > 0
    ) as bar:
        for start, images in _batches(mine, labeler.card, batch_size):
            result[first + start : first + start + len(images)] = labeler(images).cpu()
            bar.update(len(images))
    if fabric is not None and world_size > 1:
        # Zero outside a process's own rows, so the sum gathers them, exactly.
        result = cast(Tensor, fabric.all_reduce(fabric.to_device(result), reduce_op="sum")).cpu()
    array: npt.NDArray[np.float32] = result.numpy()
    return array


def _batches(
    paths: Sequence[str], card: LabelerCard, batch_size: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the first image's position and uint8 (B, 3, S, S) of the card's size; decode one batch
    ahead.
    """
    starts = range(0, len(paths), batch_size)
    with ThreadPoolExecutor(_DECODERS) as pool:

        def submit(start: int) -> Iterator[npt.NDArray[np.uint8]]:
            return pool.map(lambda path: _decode(path, card), paths[start : start + batch_size])

        ahead = submit(0) if paths else iter(())
        for start in starts:
            images = list(ahead)
            ahead = submit(start + batch_size)
            yield start, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _decode(path: str, card: LabelerCard) -> npt.NDArray[np.uint8]:
    """uint8 (S, S, 3) of the largest centred square, S = `card.image_size`."""
    size = (card.image_size, card.image_size)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"image {path} is missing; restore it or remove its row from the table"
        )
    try:
        with Image.open(path) as image:
            method = Image.Resampling[card.interpolation.upper()]
            square = ImageOps.fit(image.convert("RGB"), size, method)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image {path} does not decode ({error}); replace it or remove its row"
        ) from error
    return np.asarray(square)
