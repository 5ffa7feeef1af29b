"""Score the images of a table by how badly a generator restores them from noise.

    python -m augment.minority_score lsun.pt BEDS --out BEDS/scored.csv --classes 100
    python -m augment.minority_score avatars-32 AVATARS --out AVATARS/scored.csv --distance l2

AVATARS is a folder of images with a metadata.csv, which stays as it is: the scores go into a copy
of it. LPIPS, the default, needs VGG-16's weights (torchvision's); a class-conditional generator
needs the images' classes (--label_column).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from augment.atomic import write_bytes
from augment.command import fabric_of, run
from augment.denoiser import Denoiser
from augment.distance import LPIPS, NAMED
from augment.image_files import read_rows
from augment.minority_score.score import (
    ScoreConfig,
    check_classes,
    minority_classes,
    score_files,
)
from augment.pretrained import load_denoiser

__all__ = ["main", "score_table"]


def score_table(
    generator: str,
    folder: Path,
    *,
    out: Path,
    classes: int | None = None,
    distance: Literal["lpips", "l1", "l2"] = "lpips",
    trunk: Path | None = None,
    label_column: str | None = None,
    score: ScoreConfig = ScoreConfig(),
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Score the images of a table: how badly a generator restores each from noise.

    Args:
        generator: embedded name, diffusers folder, guided-diffusion .pt file or hub id.
        folder: of images with a metadata.csv, which stays as it is.
        out: the new table, its copy with the column minority_score; put it into the folder, for
            the file names to hold.
        classes: also add the column minority_class, of so many classes of equal size; their bounds
            are the train rows' (if there are splits), and the last class is the most minor.
        distance: lpips (VGG-16, the official code's), l1 or l2.
        trunk: a local copy of VGG-16's weights, torchvision's vgg16-397923af.pth.
        label_column: the column of each image's class, needed by a class-conditional generator.
        score: how images are noised and restored.
        accelerator: Lightning's.
        devices: Lightning's; several give the same scores as one.
        num_nodes: Lightning's.

    Returns:
        The path of the new table.
    """
    if out.exists():
        raise ValueError(f"{out} exists, and nothing is overwritten; give another file")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}, for the new table, is no folder; make it, or give another")
    rows = read_rows(folder / "metadata.csv")
    fitted = np.array(rows["split"] == "train") if "split" in rows else np.full(len(rows), True)
    if classes is not None:
        check_classes(classes, int(fitted.sum()))
    denoiser = load_denoiser(generator)
    labels = _labels(rows, label_column, denoiser)
    measure = LPIPS("vgg", trunk=trunk) if distance == "lpips" else NAMED[distance]()
    fabric = fabric_of(accelerator, devices, num_nodes)
    fabric.launch()
    paths = [folder / name for name in rows["file_name"]]
    scores = score_files(denoiser, paths, measure, config=score, labels=labels, fabric=fabric)
    rows["minority_score"] = scores
    if classes is not None:
        rows["minority_class"] = minority_classes(scores, classes, scores[fitted])
    if fabric.is_global_zero:
        write_bytes(out, rows.to_csv(index=False).encode())
        print(f"{len(rows):,} images scored: {out}")
    fabric.barrier()
    return out


def _labels(rows: pd.DataFrame, column: str | None, denoiser: Denoiser) -> list[int] | None:
    if column is None and denoiser.classes is not None:
        raise ValueError(
            f"the generator is class-conditional and knows {denoiser.classes} classes; name the "
            "table's column of class numbers by --label_column"
        )
    if column is None:
        return None
    if column not in rows:
        raise ValueError(
            f"the table has no column {column}; it has {', '.join(map(str, rows))}; name one"
        )
    cells = [str(cell).strip().removesuffix(".0") for cell in rows[column]]
    if bad := [cell for cell in cells if not cell.isdigit()]:
        raise ValueError(
            f"column {column} holds {bad[0]!r}; allowed are class numbers from 0 up; name another "
            "column or correct the cell"
        )
    return [int(cell) for cell in cells]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(score_table, arguments)


if __name__ == "__main__":
    main()
