"""Folders of images as Hugging Face's `datasets` reads them: every column of every image."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from augment_doubles import tiny_denoiser
from PIL import Image

from augment import SamplerConfig, generate
from recipes import label

# Of `datasets`, which leaves files open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

ATTRIBUTES = ["Bald", "Male"]


@pytest.fixture(autouse=True)
def _files_close_here() -> Iterator[None]:
    """And not in another module's test, which such a warning would fail."""
    yield
    gc.collect()


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    generate(tiny_denoiser(), range(3), tmp_path / "images", sampler=SamplerConfig(steps=1))
    return tmp_path / "images"


def _compared(folder: Path, cache: Path) -> pd.DataFrame:
    """The folder's table, found to be what `datasets` reads, with the pixels that PIL does."""
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache))
    assert list(loaded) == ["train"]
    table = pd.read_csv(folder / "metadata.csv")
    rows = sorted(loaded["train"], key=lambda row: row["seed"])
    pd.testing.assert_frame_equal(
        pd.DataFrame(rows).drop(columns="image"),
        table.drop(columns="file_name"),
        check_dtype=False,
    )
    for row, name in zip(rows, table["file_name"], strict=True):
        with Image.open(folder / name) as image:
            assert np.array_equal(np.asarray(row["image"]), np.asarray(image))
    return table


def test_generated_images(generated: Path, tmp_path: Path) -> None:
    table = _compared(generated, tmp_path / "cache")
    assert list(table["seed"]) == [0, 1, 2]


def test_labelled_images(generated: Path, tmp_path: Path) -> None:
    words = ["label", str(generated), "--labeler", "avatars", "--attributes", *ATTRIBUTES]
    label.main([*words, "--out", str(tmp_path / "labelled"), "--devices=1"])
    table = _compared(tmp_path / "labelled", tmp_path / "cache")
    assert {*ATTRIBUTES, "p_Bald", "p_Male"} <= {*table}
