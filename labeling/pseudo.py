"""Labels for a table of images: decode, predict, decide.

Several processes share the work by whole batches: each takes a contiguous run of them, so every
batch holds the same images whatever the number of processes, and the result is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from labeling.labeler import Combination, Predictor
from labeling.policy import LabelPolicy

__all__ = ["Read", "label_probabilities", "pseudo_label", "read_plain"]

Read = Callable[[str], Image.Image]
"""The image in a file, upright, with 8 bits per channel, grey (mode `L`) or in colour (`RGB`)."""

_DECODERS = 4  # PIL releases the interpreter lock while they decode
_LARGE = 128
"""Side in pixels above which fewer images than `batch_size` are taken at a time, by their area."""


def pseudo_label(
    table: pd.DataFrame,
    labeler: Predictor,
    attributes: Sequence[str],
    *,
    policy: LabelPolicy | None = None,
    read: Read | None = None,
    soft: bool = False,
    batch_size: int = 256,
    fabric: Fabric | None = None,
) -> pd.DataFrame:
    """Label every image of a table.

    Args:
        table: one row per image, with its absolute file name in `path`; left as it is.
        labeler: gives the probabilities, and the thresholds of attributes without a rule.
        attributes: the study's attributes. Those the labeler does not know stay empty.
        policy: fitted on real validation rows: calibrates, decides, and leaves cells empty; left
            out, `LabelPolicy.of_card(labeler)`.
        read: decodes a file, as `classify.datasets.read_image` does; left out, `read_plain`.
        soft: put the probability itself in place of 1.0 and 0.0.
        batch_size: images at a time; fewer of more than 128 pixels.
        fabric: processes and device to use, already launched; every process calls this and gets the
            whole result. Without it, this process alone, on the device where the labeler is.

    Returns:
        A copy of the table with, for each attribute, the label 1.0, 0.0 or NaN = empty in
        `<attribute>` (replacing what stood there) and the float32 probability in `p_<attribute>`,
        calibrated if the policy says so.

    Raises:
        ValueError: no attribute is known to the labeler, the policy is another labeler's, the table
            is empty or has no `path`, or an image does not decode.
        FileNotFoundError: an image is missing.
    """
    names = list(attributes)
    if not set(names) & set(labeler.attributes):
        raise ValueError(
            f"the attributes are {head(names)}; the labeler knows none of them: it has "
            f"{head(labeler.attributes)}; rename the table's columns or use another labeler"
        )
    policy = (policy or LabelPolicy()).completed(labeler)
    given = label_probabilities(table, labeler, read=read, batch_size=batch_size, fabric=fabric)
    known = pd.DataFrame(given, index=table.index, columns=pd.Index(labeler.attributes))
    # float64 on both sides: a threshold rounded to float32 could fall onto the probability it
    # separates.
    decided, p = policy.apply(known.reindex(columns=pd.Index(names)), names, soft=soft)
    labels = pd.DataFrame(decided, index=table.index, columns=pd.Index(names))
    shown = pd.DataFrame(p.astype(np.float32), index=table.index, columns=labels.columns)
    shown = shown.add_prefix("p_")
    kept = table.drop(columns=[*labels.columns, *shown.columns], errors="ignore")
    return pd.concat([kept, labels, shown], axis=1)


def label_probabilities(
    table: pd.DataFrame,
    labeler: Predictor,
    *,
    read: Read | None = None,
    batch_size: int = 256,
    fabric: Fabric | None = None,
) -> npt.NDArray[np.float32]:
    """The labeler's probabilities for every image of a table; arguments and errors as in
    `pseudo_label`.

    Returns:
        float32 (N, A) in [0, 1], rows as in the table, columns as in `labeler.attributes`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give a number of images, at least 1")
    if "path" not in table.columns or table.empty:
        got = "has no rows" if table.empty else "has no column path"
        raise ValueError(
            f"the table to label {got}; it has one row per image, its file in path; load it again"
        )
    paths = [str(path) for path in table["path"]]
    return _predict(paths, labeler, read or read_plain, batch_size, fabric).numpy()


def read_plain(path: str) -> Image.Image:
    """An ordinary file, 8 bits per channel, grey or RGB and without transparency, turned upright.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it does not decode, or is another kind of image.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"image {path} is missing; restore it or remove its row from the table"
        )
    try:
        with Image.open(path) as image:
            if image.format == "EPS":  # which Pillow would have Ghostscript run
                raise OSError("it is PostScript, a program that draws")
            upright = ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image {path} does not decode ({error}); replace it or remove its row"
        ) from error
    if upright.mode not in ("L", "RGB") or "transparency" in upright.info:
        raise ValueError(
            f"image {path} has mode {upright.mode}; what is read are modes L and RGB without "
            "transparency; pass read=classify.datasets.read_image, which converts others"
        )
    return upright


def _predict(
    paths: Sequence[str], labeler: Predictor, read: Read, batch_size: int, fabric: Fabric | None
) -> Tensor:
    """Probabilities float32 (N, A) on the CPU, the same in every process."""
    if isinstance(labeler, Combination):  # each part by the files as it wants them
        parts = [_predict(paths, part, read, batch_size, fabric) for part in labeler.parts]
        return labeler.join(parts)
    rank, world_size = 0, 1
    if fabric is not None:
        rank, world_size = fabric.global_rank, fabric.world_size
        labeler.to(fabric.device)
    batch_size = max(1, min(batch_size, batch_size * _LARGE**2 // labeler.card.image_size**2))
    n_batches = -(-len(paths) // batch_size)
    share = -(-n_batches // world_size) * batch_size  # rows of a process: whole batches
    first, mine = rank * share, paths[rank * share : (rank + 1) * share]
    result = torch.zeros(len(paths), len(labeler.attributes))
    with tqdm(
        total=len(mine), desc="label", unit="image", delay=2, leave=False, disable=rank > 0
    ) as bar:
        for start, images in _batches(mine, labeler.card, read, batch_size):
            result[first + start : first + start + len(images)] = labeler(images).cpu()
            bar.update(len(images))
    if fabric is not None and world_size > 1:
        # Zero outside a process's own rows, so the sum gathers them, exactly.
        result = cast(Tensor, fabric.all_reduce(fabric.to_device(result), reduce_op="sum")).cpu()
    return result


def _batches(
    paths: Sequence[str], card: LabelerCard, read: Read, batch_size: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the first image's position and uint8 (B, 3, S, S) of the card's size; decode one batch
    ahead.
    """
    with ThreadPoolExecutor(_DECODERS) as pool:

        def submit(start: int) -> Iterator[npt.NDArray[np.uint8]]:
            batch = paths[start : start + batch_size]
            return pool.map(lambda path: _square(read(path), card), batch)

        ahead = submit(0)
        for start in range(0, len(paths), batch_size):
            images = list(ahead)
            ahead = submit(start + batch_size)
            yield start, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _square(image: Image.Image, card: LabelerCard) -> npt.NDArray[np.uint8]:
    """uint8 (S, S, 3) of the largest centred square, S = `card.image_size`."""
    size = (card.image_size, card.image_size)
    method = Image.Resampling[card.interpolation.upper()]
    return np.asarray(ImageOps.fit(image.convert("RGB"), size, method))
