"""Real and synthetic tables become one, and only as a training table may."""

from __future__ import annotations

import pandas as pd
import pytest

from augment import merge

REAL = pd.DataFrame(
    {
        "file_name": ["a.png", "b.png", "c.png"],
        "split": ["train", "val", "test"],
        "source": "real",
        "Bald": [1.0, 0.0, float("nan")],
        "path": ["/r/a.png", "/r/b.png", "/r/c.png"],
    },
    index=[4, 7, 9],
)
SYNTHETIC = pd.DataFrame(
    {
        "file_name": ["0.png", "1.png"],
        "split": "train",
        "source": "synthetic",
        "seed": [0, 1],
        "Bald": [float("nan"), 1.0],
        "path": ["/s/0.png", "/s/1.png"],
    }
)


def test_real_rows_come_first_and_stay_as_they_are() -> None:
    merged = merge(REAL, SYNTHETIC)
    assert merged.index.tolist() == list(range(5))
    pd.testing.assert_frame_equal(merged[:3][list(REAL)], REAL.reset_index(drop=True))
    assert merged["path"].tolist() == [*REAL["path"], *SYNTHETIC["path"]]
    assert merged["source"].tolist() == ["real"] * 3 + ["synthetic"] * 2


def test_a_column_that_one_table_lacks_is_empty_in_its_rows() -> None:
    assert merge(REAL, SYNTHETIC)["seed"].isna().tolist() == [True] * 3 + [False] * 2


def test_the_tables_given_are_left_alone() -> None:
    before = REAL.copy(), SYNTHETIC.copy()
    merged = merge(REAL, SYNTHETIC)
    merged["Bald"] = 0
    pd.testing.assert_frame_equal(REAL, before[0])
    pd.testing.assert_frame_equal(SYNTHETIC, before[1])


def test_no_synthetic_row_is_the_real_table() -> None:
    merged = merge(REAL, SYNTHETIC[:0])
    pd.testing.assert_frame_equal(merged[list(REAL)], REAL.reset_index(drop=True))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_synthetic_row_outside_train_is_refused(split: str) -> None:
    strays = SYNTHETIC.assign(split=["train", split])
    message = rf"^1 rows .*the first 1\.png \(synthetic, {split}\); .*set source and split so$"
    with pytest.raises(ValueError, match=message):
        merge(REAL, strays)


def test_real_and_synthetic_rows_in_the_wrong_table_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^3 rows .* the first a\.png \(real, train\)"):
        merge(REAL, REAL)
    with pytest.raises(ValueError, match=r"^the real table holds synthetic rows, the first 0\.png"):
        merge(SYNTHETIC, SYNTHETIC)


def test_a_real_table_without_a_source_is_real_and_one_column_short_is_named() -> None:
    merged = merge(REAL.drop(columns="source"), SYNTHETIC)
    assert merged["source"].tolist() == ["real"] * 3 + ["synthetic"] * 2
    with pytest.raises(ValueError, match=r"synthetic table has no column split; .*generate"):
        merge(REAL, SYNTHETIC.drop(columns="split"))
