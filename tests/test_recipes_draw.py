"""A draw of few labelled rows: nested, seeded, and with something of what is rare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labeling import NEEDED
from recipes.chain.draw import labelled_draw

NAMES = ["Common", "Rare", "Once"]


def _table() -> pd.DataFrame:
    splits = ["train"] * 500 + ["val"] * 100 + ["test"] * 50
    labels = pd.DataFrame(0.0, index=range(650), columns=NAMES)
    labels.loc[::2, "Common"] = 1
    labels.loc[[*range(250, 256), *range(550, 556)], "Rare"] = 1
    labels.loc[[499], "Once"] = 1
    return labels.assign(split=splits, file_name=[f"{row}.png" for row in range(650)])


def test_a_larger_draw_holds_every_smaller_one() -> None:
    names = [set(labelled_draw(_table(), NAMES, n, None)["file_name"]) for n in (10, 40, 200)]
    assert names[0] < names[1] < names[2]


def test_rare_attributes_are_in_the_smallest_draw() -> None:
    drawn = labelled_draw(_table(), NAMES, 9, 4)
    train, val = (drawn[drawn["split"] == split] for split in ("train", "val"))
    assert (len(train), len(val)) == (9, 4)
    assert train["Rare"].sum() == NEEDED == 4
    assert train["Once"].sum() == 1
    assert val["Rare"].sum() == NEEDED


def test_beyond_the_first_the_draw_is_at_random() -> None:
    drawn = labelled_draw(_table(), NAMES, 250, None)
    train = drawn[drawn["split"] == "train"]
    assert train["Common"].mean() == pytest.approx(0.5, abs=0.08)
    assert np.corrcoef(train.index, train["file_name"].str[:-4].astype(int))[0, 1] > 0.99


def test_test_rows_and_what_is_not_limited_stay() -> None:
    table = _table()
    pd.testing.assert_frame_equal(labelled_draw(table, NAMES, None, None), table)
    drawn = labelled_draw(table, NAMES, 10, None)
    assert (drawn["split"] == "val").sum() == 100
    assert (drawn["split"] == "test").sum() == 50


@pytest.mark.parametrize(
    ("num_real", "num_val", "name"), [(501, None, "num_real"), (None, 101, "num_val")]
)
def test_more_than_there_are_is_refused(
    num_real: int | None, num_val: int | None, name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*give at most that"):
        labelled_draw(_table(), NAMES, num_real, num_val)
