"""MedMNIST's files: what is read, what is refused, and that nothing is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classify import attribute_columns, load_table, read_image
from classify.datasets.medmnist import CHEST_FINDINGS, medmnist_table

COUNTS = {"train": 5, "val": 3, "test": 4}


def arrays(size: tuple[int, ...] = (12, 12), labels: int = 14) -> dict[str, NDArray[Any]]:
    """Noise as MedMNIST stores it."""
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, *size), np.uint8)
        made[f"{split}_labels"] = rng.integers(0, 2, (count, labels), np.uint8)
    return made


def test_chest_is_14_findings_of_grey_images(tmp_path: Path) -> None:
    given = arrays()
    np.savez_compressed(tmp_path / "chestmnist.npz", **given)
    written = medmnist_table(tmp_path / "data", source=tmp_path / "chestmnist.npz")
    table = load_table(tmp_path / "data")
    assert attribute_columns(table) == list(CHEST_FINDINGS)
    assert list(written["path"]) == list(table["path"])
    for split, count in COUNTS.items():
        rows = table[table["split"] == split]
        assert len(rows) == count
        np.testing.assert_array_equal(rows[list(CHEST_FINDINGS)], given[f"{split}_labels"])
        for path, pixels in zip(rows["path"], given[f"{split}_images"], strict=True):
            assert read_image(path).mode == "L"
            np.testing.assert_array_equal(read_image(path), pixels)


def test_one_column_is_a_class_each_and_images_may_be_in_colour(tmp_path: Path) -> None:
    given = arrays(size=(8, 8, 3), labels=1)
    given["train_labels"][:, 0] = [0, 2, 1, 2, 0]
    np.savez(tmp_path / "pathmnist.npz", **given)
    table = medmnist_table(tmp_path / "data", source=tmp_path / "pathmnist.npz")
    assert table.loc[:4, ["class_0", "class_1", "class_2"]].to_numpy().argmax(1).tolist() == [
        *(0, 2, 1, 2, 0)
    ]
    np.testing.assert_array_equal(read_image(table["path"][0]), given["train_images"][0])


def test_another_file_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    for name, labels in (("a.npz", 14), ("b.npz", 3)):
        np.savez(tmp_path / name, **arrays(labels=labels))
    medmnist_table(tmp_path / "data", source=tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"holds medmnist with .*give another path"):
        medmnist_table(tmp_path / "data", source=tmp_path / "b.npz")


class Bomb:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_labels": np.array([[Bomb()]] * 3, dtype=object)}, "no val_labels .*than numbers"),
        ({"test_images": np.zeros((4, 5, 5), np.uint16)}, r"no test_images .*uint16 \(4, 5, 5\)"),
        ({"test_images": np.zeros((2, 5, 5), np.uint8)}, "2 images for 4 rows of labels"),
        ({"train_labels": np.full((5, 14), 7)}, "labels besides 1 and 0"),
        ({"train_labels": np.ones((5, 3), int)}, r"splits of \[3, 14\] labels"),
        ({"train_labels": np.ones((5, 14))}, "train_labels of float64 .*whole numbers"),
        ({"val_images": None}, "no val_images .*give one of its files"),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, NDArray[Any] | None],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {name: value for name, value in {**arrays(), **changed}.items() if value is not None}
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(ValueError, match=message) as refused:
        medmnist_table(tmp_path / "data", source=tmp_path / "a.npz")
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="no train_labels as MedMNIST's files have"):
        medmnist_table(tmp_path / "data", source=tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"b\.npz is no file"):
        medmnist_table(tmp_path / "data", source=tmp_path / "b.npz")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, **arrays())
    data = bytearray(file.read_bytes())
    middle = data.index(b"train_images.npy") + 100
    data[middle : middle + 40] = bytes(40)
    file.write_bytes(data)
    with pytest.raises(ValueError, match="as MedMNIST's files have"):
        medmnist_table(tmp_path / "data", source=file)
