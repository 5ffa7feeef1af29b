"""Predictions of a study: kept to the last bit, in one order, without pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from classify import best_thresholds, read_predictions
from classify.predictions import PREDICTIONS, write_predictions

NAMES = ["red", "Wearing_Hat"]


def _table(seed: int = 0, n: int = 6) -> pd.DataFrame:
    labels = np.random.default_rng(seed).choice([0, 1, np.nan], (n, len(NAMES)))
    table = pd.DataFrame(labels, columns=NAMES)
    return table.assign(file_name=[f"images/{i}é.png" for i in range(n)])


def _write(
    out: Path, arm: str, seed: int, table: pd.DataFrame, names: list[str] = NAMES
) -> NDArray[np.float32]:
    folder = out / "fits" / f"{arm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(table), len(names))
    values = np.random.default_rng((len(arm), seed)).random(shape).astype(np.float32)
    write_predictions(folder, table, names, values)
    return values


def test_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    table = _table()
    written = {
        arm: [_write(tmp_path, arm, seed, table) for seed in range(2)] for arm in ("real", "a-b.c")
    }
    predictions = read_predictions(tmp_path, list(written), 2)
    assert predictions.attributes == tuple(NAMES)
    assert list(predictions.files) == list(table["file_name"])
    np.testing.assert_array_equal(predictions.labels, table[NAMES].to_numpy(np.float32))
    assert list(predictions.probabilities) == list(written)
    for arm, values in written.items():
        np.testing.assert_array_equal(predictions.probabilities[arm], values)
        assert predictions.probabilities[arm].dtype == np.float32


def test_val_lies_in_its_own_file_and_gives_the_thresholds_of_each_fit(tmp_path: Path) -> None:
    val, test = _table(seed=1, n=40), _table()
    folder = tmp_path / "fits" / "real-0"
    folder.mkdir(parents=True)
    p = {n: np.random.default_rng(n).random((n, 2)).astype(np.float32) for n in (40, 6)}
    write_predictions(folder, val, NAMES, p[40], "val")
    write_predictions(folder, test, NAMES, p[6])
    found = read_predictions(tmp_path, ["real"], 1, "val")
    np.testing.assert_array_equal(found.probabilities["real"][0], p[40])
    thresholds = found.best_thresholds()["real"]
    expected = best_thresholds(p[40], val[NAMES].to_numpy(np.float32))
    np.testing.assert_array_equal(thresholds, expected[None])
    np.testing.assert_array_equal(read_predictions(tmp_path, ["real"], 1).labels, test[NAMES])


def test_rows_of_every_fit_take_the_order_of_the_first(tmp_path: Path) -> None:
    table = _table()
    shuffled = table.sample(frac=1, random_state=1)
    assert list(shuffled.index) != list(table.index)
    _write(tmp_path, "real", 0, table)
    values = _write(tmp_path, "other", 0, shuffled)
    predictions = read_predictions(tmp_path, ["real", "other"], 1)
    order = np.argsort(shuffled.index)
    np.testing.assert_array_equal(predictions.probabilities["other"][0], values[order])


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    _write(tmp_path, "real", 0, _table())
    with np.load(tmp_path / "fits" / "real-0" / PREDICTIONS["test"], allow_pickle=False) as arrays:
        kinds = {name: arrays[name].dtype.kind for name in arrays.files}
    assert kinds == {"files": "U", "attributes": "U", "labels": "i", "probabilities": "f"}
    assert [file.name for file in (tmp_path / "fits" / "real-0").iterdir()] == ["predictions.npz"]


def test_a_pickle_in_its_place_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "real", 0, _table())
    file = tmp_path / "fits" / "real-0" / PREDICTIONS["test"]
    np.savez(file, files=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"predictions.npz is damaged \(.*allow_pickle=False"):
        read_predictions(tmp_path, ["real"], 1)


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (_table().iloc[1:], NAMES),
        (pd.concat([_table(), _table(n=7).iloc[6:]]), NAMES),
        (_table().assign(red=1.0), NAMES),
        (_table(), NAMES[::-1]),
        (_table().replace({"images/0é.png": "images/x.png"}), NAMES),
    ],
    ids=["fewer images", "more images", "other labels", "other attributes", "another image"],
)
def test_fits_about_something_else_are_refused(
    tmp_path: Path, other: pd.DataFrame, names: list[str]
) -> None:
    _write(tmp_path, "real", 0, _table())
    _write(tmp_path, "other", 0, other, names)
    with pytest.raises(ValueError, match=r"other-0 and .*real-0 are about other test images"):
        read_predictions(tmp_path, ["real", "other"], 1)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "real", 0, _table())
    with pytest.raises(FileNotFoundError, match=r"real-1/predictions.npz is missing; .* again"):
        read_predictions(tmp_path, ["real"], 2)
    with pytest.raises(ValueError, match="0 arms and 1 seeds are asked for; give"):
        read_predictions(tmp_path, [], 1)


def test_images_of_one_name_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, "real", 0, _table().assign(file_name="same.png"))
    with pytest.raises(ValueError, match=r"test image same.png occurs twice"):
        read_predictions(tmp_path, ["real"], 1)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path: Path, kept: float) -> None:
    _write(tmp_path, "real", 0, _table(n=100))
    file = tmp_path / "fits" / "real-0" / PREDICTIONS["test"]
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"real-0/predictions.npz is damaged .* again"):
        read_predictions(tmp_path, ["real"], 1)
