"""Fashion-MNIST made long-tailed: its counts, and the forms its four files come in."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from classify import attribute_columns, load_table
from classify.datasets import fashion
from classify.datasets.fashion import CLASSES, fashion_longtail_table, longtail_counts

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SMALL = {"largest": 8, "imbalance": 4.0, "val": 2}


def _idx(values: NDArray[np.uint8]) -> bytes:
    """The IDX format: two zeros, 8 = unsigned byte, the number of axes, their lengths, the data."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def _pixels(part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """12 (train) or 3 (t10k) images per class; the first pixel of each is its row, the second its
    class.
    """
    count = 10 * {"train": 12, "t10k": 3}[part]
    labels = np.random.default_rng(0).permutation(np.arange(count, dtype=np.uint8) % 10)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count), labels
    return images, labels


def _save(folder: Path, *, packed: bool) -> Path:
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, values in zip(("images-idx3", "labels-idx1"), _pixels(part), strict=True):
            name, content = f"{part}-{kind}-ubyte", _idx(values)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def test_counts_fall_exponentially_by_the_imbalance() -> None:
    counts = longtail_counts()
    assert (counts[0], counts[-1], sum(counts)) == (5000, 50, 12408)
    ratios = np.array(counts[1:]) / counts[:-1]
    np.testing.assert_allclose(ratios, 100 ** (-1 / 9), rtol=0.02)
    assert longtail_counts(7, 1, 3) == [7, 7, 7]


def test_splits_are_disjoint_and_labels_are_the_classes(tmp_path: Path) -> None:
    source = _save(tmp_path / "source", packed=True)
    table = fashion_longtail_table(tmp_path / "set", source=source, **SMALL)
    counts = table.groupby("split")[list(CLASSES)].sum()
    assert list(counts.loc["train"]) == longtail_counts(8, 4.0)
    assert list(counts.loc["val"]) == [2] * 10
    assert list(counts.loc["test"]) == [3] * 10
    assert (table[list(CLASSES)].sum(axis=1) == 1).all()
    marks = [np.asarray(Image.open(path))[0, :2] for path in table["path"]]
    rows, labels = np.array(marks).T
    np.testing.assert_array_equal(labels, table[list(CLASSES)].to_numpy().argmax(axis=1))
    train, val = (set(rows[table["split"] == split]) for split in ("train", "val"))
    assert not train & val
    assert len(train) + len(val) == int((table["split"] != "test").sum())


def test_every_layout_gives_the_same_set(tmp_path: Path) -> None:
    sources = [
        _save(tmp_path / "packed", packed=True),
        _save(tmp_path / "plain", packed=False),
        _save(tmp_path / "torchvision" / "FashionMNIST" / "raw", packed=False).parents[1],
    ]
    sets = [tmp_path / f"set{number}" for number in range(len(sources))]
    for folder, source in zip(sets, sources, strict=True):
        fashion_longtail_table(folder, source=source, **SMALL)
    texts = {(folder / "metadata.csv").read_text() for folder in sets}
    assert len(texts) == 1
    table = load_table(sets[0])
    assert attribute_columns(table) == list(CLASSES)
    for name in table["file_name"]:
        assert len({(folder / name).read_bytes() for folder in sets}) == 1


def test_a_complete_set_is_read_back(tmp_path: Path) -> None:
    source = _save(tmp_path / "source", packed=False)
    first = fashion_longtail_table(tmp_path / "set", source=source, **SMALL)
    again = fashion_longtail_table(tmp_path / "set", source=tmp_path / "gone", **SMALL)
    pd.testing.assert_frame_equal(first, again)
    with pytest.raises(ValueError, match=r"holds fashion with .*'val': 2.*give another path"):
        fashion_longtail_table(tmp_path / "set", source=source, **(SMALL | {"val": 1}))


@pytest.mark.parametrize("lost", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_incomplete_source_is_refused_in_one_line(tmp_path: Path, lost: str) -> None:
    source = _save(tmp_path / "source", packed=True)
    (source / f"{lost}.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"has no {lost}\.gz; .* give their folder, or"
    ) as error:
        fashion_longtail_table(tmp_path / "set", source=source, **SMALL)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"no idx"), gzip.compress(bytes(99))[:-9]],
    ids=["empty", "no gzip", "no idx", "cut"],
)
def test_broken_source_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    source = _save(tmp_path / "source", packed=True)
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte") as error:
        fashion_longtail_table(tmp_path / "set", source=source, **SMALL)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_file_that_is_shorter_than_it_says_is_refused_in_one_line(tmp_path: Path) -> None:
    source = _save(tmp_path / "source", packed=False)
    images = source / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is no whole IDX") as error:
        fashion_longtail_table(tmp_path / "set", source=source, **SMALL)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set" / "metadata.csv").exists()


def test_labels_of_another_set_are_refused_in_one_line(tmp_path: Path) -> None:
    source = _save(tmp_path / "source", packed=False)
    labels = np.zeros(7, np.uint8)
    (source / "t10k-labels-idx1-ubyte").write_bytes(_idx(labels))
    with pytest.raises(ValueError, match=r"has not one label per image; .*restore the original$"):
        fashion_longtail_table(tmp_path / "set", source=source, **SMALL)


def test_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(root: str, *, download: bool) -> None:
        raise RuntimeError("Error downloading\ntrain-images")

    monkeypatch.setattr(fashion, "FashionMNIST", refused)
    with pytest.raises(
        ValueError, match=r"\(Error downloading train-images\).*give it with --data"
    ):
        fashion_longtail_table(tmp_path / "set", **SMALL)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_files(tmp_path: Path) -> None:
    table = fashion_longtail_table(tmp_path / "set", source=DEBIAN, largest=100, val=1)
    counts = table.groupby("split")[list(CLASSES)].sum()
    assert list(counts.loc["train"]) == longtail_counts(100)
    assert list(counts.loc["test"]) == [1000] * 10
