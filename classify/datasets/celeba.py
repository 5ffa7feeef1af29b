"""CelebA's own layout, from the authors' site or from Kaggle, complete or in part.

`img_align_celeba/` (perhaps nested once), `list_attr_celeba.txt` or `.csv` with values 1 and -1,
and `list_eval_partition.txt` or `.csv` with 0 = train, 1 = val, 2 = test. Rows whose image is not
there are left out. Data sheet: Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015;
202,599 images of 10,177 people, 40 binary attributes; for non-commercial research only;
https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from classify.datasets.folder import check_header
from classify.names import one_of

FILES = "img_align_celeba/, list_attr_celeba.txt, list_eval_partition.txt"
"""What is in the folder."""
_IMAGES = "img_align_celeba"
_ATTRIBUTES = "list_attr_celeba"
_PARTITION = "list_eval_partition"
_PLACES = ("", "Anno", "Eval", "Img")
"""The authors' archive keeps lists and images in these folders."""
_SPLITS = {0: "train", 1: "val", 2: "test"}


def recognises(root: Path) -> bool:
    """Whether `root` holds CelebA's list of attributes."""
    return _find_list(root, _ATTRIBUTES) is not None


def load(root: Path, attributes: Sequence[str] | None = None) -> pd.DataFrame:
    """Read CelebA's lists; see `classify.datasets.load_table`."""
    labels = _read_attributes(root)
    chosen = list(labels.columns) if attributes is None else list(attributes)
    if unknown := [name for name in chosen if name not in labels]:
        raise ValueError(
            f"{root} has no attribute {', '.join(unknown)}; "
            f"{one_of(unknown[0], list(labels.columns))}; correct --attributes"
        )
    images = _find_images(root)
    present = set(os.listdir(images))
    labels = labels.loc[[name in present for name in labels.index], chosen]
    if labels.empty:
        raise ValueError(
            f"none of the listed images is in {images}; unpack img_align_celeba.zip there"
        )
    table = labels.reset_index(names="file_name")
    table.insert(1, "split", _splits(root, labels.index))
    table.insert(2, "source", "real")
    table["path"] = [os.path.join(images, name) for name in table["file_name"]]
    table["file_name"] = f"{images.relative_to(root).as_posix()}/" + table["file_name"]
    return table


def _find_list(root: Path, stem: str) -> Path | None:
    files = (root / place / f"{stem}{suffix}" for place in _PLACES for suffix in (".txt", ".csv"))
    return next((file for file in files if file.is_file()), None)


def _find_images(root: Path) -> Path:
    for images in (root / place / _IMAGES for place in _PLACES):
        if (images / _IMAGES).is_dir():
            return images / _IMAGES
        if images.is_dir():
            return images
    raise ValueError(f"{root} has no folder {_IMAGES}/; unpack img_align_celeba.zip there")


def _read_attributes(root: Path) -> pd.DataFrame:
    """Indexed by image name, float64 1.0 and 0.0."""
    file = _find_list(root, _ATTRIBUTES)
    assert file is not None  # `recognises` was asked first
    values = _read(file, header=True)
    if values.columns.has_duplicates:
        twice = values.columns[values.columns.duplicated()][0]
        raise ValueError(f"{file}: attribute {twice} stands twice; restore the original file")
    wrong = ~values.isin([-1, 1]).to_numpy()
    if values.empty or wrong.any():
        got = str(values.to_numpy()[wrong][0]) if wrong.any() else "no row"
        raise ValueError(
            f"{file} has {got} where every attribute is 1 or -1; restore the original file"
        )
    return (values == 1).astype("float64")


def _splits(root: Path, images: pd.Index) -> np.ndarray:
    file = _find_list(root, _PARTITION)
    if file is None:
        raise ValueError(
            f"{root} has no {_PARTITION}.txt (nor .csv); put the official partition beside the "
            "attributes"
        )
    splits = _read(file, header=False).iloc[:, 0].map(_SPLITS).reindex(images)
    if splits.isna().any():
        raise ValueError(
            f"{file}: {splits.index[splits.isna()][0]} has no split 0, 1 or 2; restore the "
            "original file"
        )
    return splits.to_numpy()


def _read(file: Path, header: bool) -> pd.DataFrame:
    """Either form of a list, indexed by image name; `header` says whether columns have names."""
    try:
        if file.suffix == ".csv":
            check_header(file)
            values = pd.read_csv(file, index_col=0)
        else:
            with file.open(encoding="utf-8") as lines:
                first = lines.readline()  # a count of images in the original list of attributes
                counted = first.strip().isdigit()
                names = (lines.readline() if counted else first).split()
            above = int(counted) + int(header)
            values = pd.read_csv(file, sep=r"\s+", skiprows=above, header=None, index_col=0)
            if header:
                values.columns = pd.Index(names)
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be read ({str(error).splitlines()[0]}); restore the original file"
        ) from error
    if values.index.has_duplicates:
        raise ValueError(
            f"{file}: {values.index[values.index.duplicated()][0]} stands twice; restore the "
            "original file"
        )
    values.index = values.index.astype("str")
    return values
