"""Reading and refusing tables: the toolkit's own folder and CelebA's layout."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classify import attribute_columns, load_images, load_table
from classify import datasets as package

ROWS: dict[str, list[Any]] = {
    "file_name": ["a.png", "b.png", "sub/c.png"],
    "split": ["train", "val", "test"],
    "Bald": [1, 0, None],
    "Young": [0, 1, 1],
}


def _image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(file)


def _folder(root: Path, **columns: list[Any]) -> Path:
    rows = {**ROWS, **columns}
    for name in ROWS["file_name"]:
        _image(root / name)
    table = pd.DataFrame({name: values for name, values in rows.items() if values})
    table.to_csv(root / "metadata.csv", index=False)
    return root


def test_folder_table_is_read_with_paths_and_float_labels(tmp_path: Path) -> None:
    table = load_table(_folder(tmp_path))
    assert list(table["path"]) == [str(tmp_path / name) for name in ROWS["file_name"]]
    assert set(table["source"]) == {"real"}
    assert attribute_columns(table) == ["Bald", "Young"]
    assert table["Bald"].dtype == np.float64
    np.testing.assert_array_equal(table["Bald"], [1.0, 0.0, np.nan])


def test_the_tables_own_columns_are_no_attributes(tmp_path: Path) -> None:
    own: dict[str, list[Any]] = {
        "seed": [3, None, None],
        "sampler": ["plain", None, None],
        "p_Bald": [0.9, None, None],
        "target_Bald": [1.0, None, None],
        "realism": [0.31, None, None],
    }
    table = load_table(_folder(tmp_path, source=["synthetic", "real", "real"], **own))
    assert attribute_columns(table) == ["Bald", "Young"]
    assert table["seed"].iloc[0] == 3
    assert pd.isna(table["seed"].iloc[1])


def test_soft_labels_are_taken_of_synthetic_images_where_asked(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"split": ["train"] * 3, "Bald": [1, 0.3, None]}
    root = _folder(tmp_path, source=["real", "synthetic", "synthetic"], **columns)
    for attributes in (None, ["Bald"]):
        soft = load_table(root, attributes, soft=True)
        np.testing.assert_array_equal(soft["Bald"], [1.0, 0.3, np.nan])
        with pytest.raises(ValueError, match=r"'Bald' is no attribute: 0\.3 "):
            load_table(root, attributes)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["Yes", "no", None], [1.0, 0.0, np.nan]),
        ([True, "FALSE", "true"], [1.0, 0.0, 1.0]),
        ([-1, 1, -1], [0.0, 1.0, 0.0]),
        ([-1.0, 1.0, None], [0.0, 1.0, np.nan]),
        ([-1, -1, -1], [0.0, 0.0, 0.0]),
        (["1.0", "0", None], [1.0, 0.0, np.nan]),
    ],
)
def test_labels_are_read_as_they_are_often_written(
    tmp_path: Path, written: list[Any], read: list[float]
) -> None:
    root = _folder(tmp_path, Bald=written)
    for table in (load_table(root), load_table(root, ["Bald"])):
        np.testing.assert_array_equal(table["Bald"], read)
    assert attribute_columns(load_images(root)) == ["Bald", "Young"]


@pytest.mark.parametrize(("source", "label"), [("real", 0.3), ("synthetic", 1.3)])
def test_a_soft_label_is_a_synthetic_images_probability(
    tmp_path: Path, source: str, label: float
) -> None:
    columns: dict[str, list[Any]] = {"split": ["train"] * 3, "Bald": [label, 0, 1]}
    root = _folder(tmp_path, source=[source] * 3, **columns)
    with pytest.raises(ValueError, match=f"'Bald' is no attribute: {label}"):
        load_table(root, soft=True)


def test_chosen_attributes_do_not_care_for_other_columns(tmp_path: Path) -> None:
    _folder(tmp_path, comment=["nice", "", ""])
    assert load_table(tmp_path, ["Young"])["Young"].sum() == 2
    with pytest.raises(ValueError, match=r"'comment' is no attribute: 'nice'.*--attributes"):
        load_table(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": []}, "lacks split"),
        ({"split": ["train", "valid", "test"]}, "line 3 .b.png, split 'valid'.*unknown"),
        ({"source": ["real", "fake", "real"]}, "source 'fake'.*unknown"),
        ({"source": ["real", "real", "synthetic"]}, "c.png, split 'test'.*not in train"),
        ({"file_name": ["a.png", "./a.png", "sub/c.png"]}, "stands twice"),
        ({"file_name": ["a.png", "../b.png", "sub/c.png"]}, "leads out of the folder"),
        ({"file_name": ["a.png", "/etc/b.png", "sub/c.png"]}, "leads out of the folder"),
        ({"file_name": ["a.png", "C:\\b.png", "sub/c.png"]}, "leads out of the folder"),
        ({"file_name": ["a.png", "sub/../b.png", "sub/c.png"]}, "leads out of the folder"),
        ({"file_name": ["a.png", "missing.png", "sub/c.png"]}, "missing.png.*missing"),
        ({"file_name": ["a.png", None, "sub/c.png"]}, "file_name is empty"),
        ({"Bald": [1, 2, 0]}, "'Bald' is no attribute: .*2"),
        ({"Bald": [1, 0, -1]}, "-1 .sub/c.png. is written otherwise"),
        ({"Bald": ["yes", "maybe", "no"]}, "'maybe' .b.png. is not 1, 0 or empty"),
        ({"Bald": ["yes", "no", "true"]}, "'true' .sub/c.png. is written otherwise"),
        ({"Bald": [1, "yes", 0]}, "'Bald' is no attribute: 'yes' .b.png. is written otherwise"),
        ({"seed": [1.5, None, None]}, "seed is not a whole number"),
    ],
)
def test_bad_table_is_refused_in_one_line(
    tmp_path: Path, columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_table(_folder(tmp_path, **columns))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file_name,split,Male,Male", r"has column Male twice; every name stands once; rename"),
        ("file_name,split,,Male", r"has no name for column 3 of 4; every column has one; name it"),
        ("file_name,split,Male,", r"has no name for column 4 of 4"),
        ("file_name,split" + "," * 100_000, r"has 100,002 columns; allowed are 10,000; take out"),
        ("file_name,split,Bald,macro", r"an attribute macro, as a mean .*; rename the column"),
        ('file_name,split,Bald,"macro, rare"', r"an attribute macro, rare, as a mean over"),
    ],
    ids=["twice", "empty", "empty at the end", "far too many", "a mean", "a mean over some"],
)
def test_header_that_pandas_would_change_is_refused_at_once(
    tmp_path: Path, header: str, message: str
) -> None:
    """It became `Male.1` and `Unnamed: 3`, or took minutes; `macro` mixed attribute and mean."""
    _image(tmp_path / "a.png")
    row = "a.png,train" + ",1" * (header.count(",") - 1 - header.count('"') // 2)
    (tmp_path / "metadata.csv").write_text(f"{header}\n{row}\n")
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        load_table(tmp_path)
    assert time.perf_counter() - started < 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["admission", "seed", "path", "split"])
def test_the_tables_own_columns_cannot_be_asked_for(tmp_path: Path, name: str) -> None:
    root = _folder(tmp_path, admission=[1, 0, 1], seed=[1, 0, 1], path=["x"] * 3)
    with pytest.raises(ValueError, match=f"^{name} is named as an attribute.*; rename the column"):
        load_table(root, [name, "Bald"])


def test_an_attribute_is_asked_for_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="attribute Bald is named twice; give each once"):
        load_table(_folder(tmp_path), ["Bald", "Young", "Bald"])


def test_a_users_columns_do_not_vanish_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = _folder(tmp_path, admission=[1, 0, 1], p_Bald=[0, 1, None], path=["x", "y", "z"])
    assert attribute_columns(load_table(root)) == ["Bald", "Young"]
    assert "columns, so no attributes: admission, p_Bald; rename what is one" in caplog.text
    assert "its column path is not used" in caplog.text


def test_the_toolkits_own_tables_are_read_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns: dict[str, list[Any]] = {"split": ["train"] * 3, "seed": [None, 0, 1]}
    columns |= {"p_Bald": [0.25, 1, 0], "admission": [None, "kept", "copy"]}
    load_table(_folder(tmp_path, source=["real", "synthetic", "synthetic"], **columns))
    assert not caplog.text


def test_many_attributes_are_read_without_pandas_complaint(tmp_path: Path) -> None:
    root = _folder(tmp_path, **{f"a{number}": [1, 0, 1] for number in range(300)})
    assert len(attribute_columns(load_table(root))) == 302


@pytest.mark.parametrize("content", ["", "file_name,split,Bald\n", "\xff\x00,\n1"])
def test_table_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metadata.csv").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"metadata\.csv") as error:
        load_table(tmp_path)
    assert "\n" not in str(error.value)


def test_missing_attribute_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks Hat; its columns are file_name, split, Bald"):
        load_table(_folder(tmp_path), ["Young", "Hat"])


def test_folders_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_table(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is empty; give a folder.*metadata\.csv"):
        load_table(tmp_path)
    _image(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"holds neither metadata\.csv nor a known.*list_attr_celeba"
    ):
        load_table(tmp_path)


def test_any_folder_gives_its_images_and_those_below_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "below/c.bmp"):
        _image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    table = load_images(str(tmp_path))
    assert list(table.columns) == ["file_name", "path"]
    assert list(table["file_name"]) == ["a.JPG", "b.png", "below/c.bmp"]
    assert list(table["path"]) == [str(tmp_path / name) for name in table["file_name"]]


def test_a_table_among_images_gives_its_rows_and_columns_as_they_are(tmp_path: Path) -> None:
    root = _folder(tmp_path, split=[], note=["of any kind", "", "x"])
    for source in (root, root / "metadata.csv"):
        table = load_images(source)
        assert list(table.columns) == ["file_name", "Bald", "Young", "note", "path"]
        assert list(table["file_name"]) == ROWS["file_name"]
        assert list(table["path"]) == [str(root / name) for name in ROWS["file_name"]]
    (root / "metadata.csv").rename(root / "scores.csv")
    pd.testing.assert_frame_equal(load_images(root / "scores.csv"), table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"metadata\.csv is not a CSV table"),
        ("name\na.png\n", r"lacks file_name; its columns are name; add what is missing"),
        ("file_name\na.png\nz.png\n", r"line 3 \(z\.png\): image file is missing; restore"),
        ("file_name,split\na.png,valid\n", r"split 'valid'\): split is unknown; use train, val"),
        ("file_name\n../a.png\n", r"\.\./a\.png\): file_name leads out of the folder; "),
        ("file_name\n/a.png\n", r"/a\.png\): file_name leads out of the folder; "),
        ("file_name\na.png\n./a.png\n", r"file_name stands twice; keep one row per image"),
    ],
)
def test_a_table_of_images_is_refused_in_one_line(tmp_path: Path, table: str, message: str) -> None:
    _image(tmp_path / "in" / "a.png")
    _image(tmp_path / "a.png")  # what the climbing row would reach
    (tmp_path / "in" / "metadata.csv").write_text(table)
    with pytest.raises(ValueError, match=message) as refusal:
        load_images(tmp_path / "in")
    assert "\n" not in str(refusal.value)


def test_a_missing_folder_and_one_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not there; give a folder of images"):
        load_images(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image; allowed are"):
        load_images(tmp_path)


class _Flowers:
    """A data set in a layout of its own."""

    FILES = "flowers/<class>/"

    def recognises(self, root: Path) -> bool:
        return (root / "flowers").is_dir()

    def load(self, root: Path, attributes: Sequence[str] | None = None) -> pd.DataFrame:
        path = root / "flowers" / "rose" / "1.png"
        row = {"file_name": "flowers/rose/1.png", "split": "train", "source": "real"}
        return pd.DataFrame([{**row, "Rose": 1.0, "path": str(path)}])


def test_a_data_set_is_added_by_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "LAYOUTS", (*package.LAYOUTS, _Flowers()))
    with pytest.raises(ValueError, match=r"is empty; give .* or a folder with flowers/<class>/$"):
        load_table(tmp_path)
    _image(tmp_path / "flowers" / "rose" / "1.png")
    assert attribute_columns(load_table(tmp_path)) == ["Rose"]
    assert list(load_images(tmp_path)["split"]) == ["train"]


NAMES = [f"{i:06d}.jpg" for i in range(1, 7)]
VALUES = np.where(np.arange(12).reshape(6, 2) % 3 == 0, 1, -1)
PARTITION = [0, 0, 0, 1, 1, 2]


def _celeba(root: Path, form: str, *, nested: bool = False, count: bool = True) -> Path:
    images = root / "img_align_celeba"
    for name in NAMES[:5]:  # the last is missing: a partial copy
        _image((images / "img_align_celeba" if nested else images) / name)
    values = pd.DataFrame(VALUES, index=NAMES, columns=["Bald", "Young"])
    partition = pd.DataFrame({"partition": PARTITION}, index=NAMES)
    if form == "csv":
        values.to_csv(root / "list_attr_celeba.csv", index_label="image_id")
        partition.to_csv(root / "list_eval_partition.csv", index_label="image_id")
    else:
        lines = [f"{name}  {a:2d} {b:2d}" for name, (a, b) in zip(NAMES, VALUES, strict=True)]
        head = [str(len(NAMES))] * count + ["Bald Young "]
        (root / "list_attr_celeba.txt").write_text("\n".join(head + lines) + "\n")
        lines = [f"{name} {split}" for name, split in zip(NAMES, PARTITION, strict=True)]
        (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("form", ["txt", "csv"])
@pytest.mark.parametrize("nested", [False, True])
def test_celeba_layout_as_published(tmp_path: Path, form: str, nested: bool) -> None:
    table = load_table(_celeba(tmp_path, form, nested=nested))
    assert attribute_columns(table) == ["Bald", "Young"]
    np.testing.assert_array_equal(table[["Bald", "Young"]], (VALUES[:5] == 1).astype(float))
    assert list(table["split"]) == ["train", "train", "train", "val", "val"]
    assert all(
        (tmp_path / name).samefile(path) for name, path in table[["file_name", "path"]].to_numpy()
    )
    assert list(load_table(tmp_path, ["Young"]).columns) == [
        "file_name",
        "split",
        "source",
        "Young",
        "path",
    ]


def test_any_tool_reads_celebas_layout_with_its_splits(tmp_path: Path) -> None:
    root = _celeba(tmp_path, "txt")
    pd.testing.assert_frame_equal(load_images(root), load_table(root))


def test_celeba_without_the_count_line(tmp_path: Path) -> None:
    assert len(load_table(_celeba(tmp_path, "txt", count=False))) == 5


def test_celeba_errors_name_the_file(tmp_path: Path) -> None:
    root = _celeba(tmp_path, "txt")
    with pytest.raises(ValueError, match="no attribute Hat; give one of Bald, Young"):
        load_table(root, ["Hat"])
    twice = root / "list_attr_celeba.txt"
    whole = twice.read_text()
    twice.write_text(whole.replace("Bald Young", "Bald Bald"))
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: attribute Bald stands twice"):
        load_table(root)
    twice.write_text(whole)
    partition = root / "list_eval_partition.txt"
    lines = partition.read_text().splitlines()
    partition.write_text("\n".join(lines[:2] + lines[3:]))
    with pytest.raises(ValueError, match=r"list_eval_partition.txt: 000003.jpg has no split"):
        load_table(root)
    partition.unlink()
    with pytest.raises(ValueError, match="has no list_eval_partition"):
        load_table(root)
    attributes = root / "list_attr_celeba.txt"
    attributes.write_text(attributes.read_text().replace(" -1", " 0", 1))
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt has 0 where"):
        load_table(root)
    for image in (root / "img_align_celeba").iterdir():
        image.unlink()
    attributes.write_text(attributes.read_text().replace(" 0", " -1", 1))
    with pytest.raises(ValueError, match="none of the listed images"):
        load_table(root)


def test_a_folder_is_searched_alike_by_the_first_call_of_a_process(tmp_path: Path) -> None:
    for ending in ("png", "webp", "tif"):  # of formats that Pillow loads only when asked
        _image(tmp_path / f"a.{ending}")
    code = f"from classify import load_images; print(len(load_images({str(tmp_path)!r})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "3"
