"""Every reason for which a generated image stays out is planted and found, and kept ones stay."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from augment import (
    Calibration,
    RealImages,
    Signatures,
    admit,
    admitted,
    in_manifold,
    keep_rates,
    merge,
    refuse_leaks,
)
from augment.selection import Split

CALIBRATION = Calibration(threshold=0.15, found=1.0, false_alarms=0.0, certain=0.1, chance=1e-4)


def _noise(count: int, seed: int) -> Tensor:
    """Smooth noise, uint8 (count, 3, 16, 16); no two alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


PIXELS: dict[Split, Tensor] = {
    split: _noise(10, seed) for seed, split in enumerate(get_args(Split))
}
REAL = {
    split: RealImages(
        signatures=Signatures.of(pixels), names=pd.Series([f"{split}{i}" for i in range(10)])
    )
    for split, pixels in PIXELS.items()
}


def _table(count: int) -> pd.DataFrame:
    names = [f"{i}.png" for i in range(count)]
    # An index of its own, as a filtered table has.
    return pd.DataFrame(
        {"file_name": names, "split": "train", "source": "synthetic"}, index=range(5, 5 + count)
    )


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    pixels = _noise(8, seed=9)
    pixels[1] = PIXELS["train"][4].roll(1, 2)
    pixels[2] = PIXELS["val"][7].flip(2)
    pixels[3] = PIXELS["test"][2]
    pixels[4] = torch.randint(90, 95, (3, 16, 16), dtype=torch.uint8)
    pixels[5] = 0
    readable, inside = np.ones((2, 8), dtype=bool)
    readable[5] = inside[6] = inside[3] = False
    return admit(_table(8), pixels, REAL, CALIBRATION, readable=readable, inside=inside)


def test_each_reason_is_found_and_the_copied_image_named(judged: pd.DataFrame) -> None:
    assert judged["admission"].tolist() == [
        "kept",
        "copy of train",
        "copy of val",
        "copy of test",
        "blank",
        "unreadable",
        "off manifold",
        "kept",
    ]
    assert judged["copied"].dropna().tolist() == ["train4", "val7", "test2"]
    assert (judged["copied_distance"].dropna() < 0.15).all()
    assert judged["file_name"].tolist() == _table(8)["file_name"].tolist()


def test_only_what_was_kept_is_merged_and_an_unjudged_table_whole(judged: pd.DataFrame) -> None:
    real = pd.DataFrame({"file_name": ["a"], "split": "train", "source": "real"})
    assert merge(real, judged)["file_name"].tolist() == ["a", "0.png", "7.png"]
    assert len(admitted(_table(8))) == 8


def test_an_image_in_test_and_train_is_a_leak() -> None:
    both = RealImages(signatures=REAL["test"].signatures, names=REAL["train"].names)
    table = admit(_table(10), PIXELS["test"], {**REAL, "train": both}, CALIBRATION)
    assert set(table["admission"]) == {"copy of test"}


def test_a_leak_stops_the_run_and_memorised_images_do_not(judged: pd.DataFrame) -> None:
    with pytest.raises(
        ValueError, match=r"^2 generated .* 3\.png \(copy of test image test2, .*leak$"
    ):
        refuse_leaks(judged, CALIBRATION, 20)
    refuse_leaks(judged[~judged["admission"].isin(["copy of val", "copy of test"])], CALIBRATION, 9)


@pytest.mark.parametrize(
    ("near", "distance", "is_refused"),
    # Of 300 images and 10 of val and test, 0.3 come so near by chance; 4 do once in 3,757 times.
    [(1, 0.14, False), (2, 0.14, False), (4, 0.14, True), (1, 0.1, True), (2, 0.05, True)],
)
def test_what_comes_as_near_as_by_chance_is_no_leak_unless_it_is_the_same(
    near: int, distance: float, is_refused: bool
) -> None:
    is_near = np.arange(300) < near
    table = _table(300).assign(
        admission=np.where(is_near, "copy of test", "kept"),
        copied="test2",
        copied_distance=np.where(is_near, distance, np.nan),
    )
    if is_refused:
        with pytest.raises(ValueError, match=f"^{near} generated images copy real val or test"):
            refuse_leaks(table, CALIBRATION, 10)
    else:
        refuse_leaks(table, CALIBRATION, 10)


def test_keep_rates_add_up_by_arm(judged: pd.DataFrame) -> None:
    rates = keep_rates({"plain": judged, "minority": admitted(judged)})
    assert rates.groupby("arm")["share"].sum().tolist() == [1, 1]
    kept = rates[rates["admission"] == "kept"].set_index("arm")
    assert kept["images"].to_dict() == {"plain": 2, "minority": 2}
    assert kept["share"].to_dict() == {"plain": 0.25, "minority": 1.0}
    assert len(rates) == 7 + 1


def test_precision_balls_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(60, 4)), rng.normal(scale=2, size=(80, 4))
    generated[0], generated[1] = real[3], np.nan
    radii = np.sort(cdist(real, real), axis=1)[:, 3]
    naive = [bool((cdist(row[None], real)[0] < radii).any()) for row in generated]
    assert in_manifold(generated, real, k=3).tolist() == naive
    assert naive[0]
    assert not naive[1]
    assert 5 < sum(naive) < 75


def test_a_sphere_s_edge_is_outside() -> None:
    real = np.array([[0.0], [1.0], [3.0]])  # radii 1, 1, 2
    assert in_manifold(np.array([[-1.0], [-0.5], [4.5], [5.0]]), real, k=1).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pixels has 7 entries for 8 rows; give one per row$"):
        admit(_table(8), _noise(7, 0), REAL, CALIBRATION)
    with pytest.raises(ValueError, match=r"^k is 3 with 3 real images; give 1 to 2$"):
        in_manifold(np.zeros((1, 2)), np.zeros((3, 2)), k=3)
    with pytest.raises(ValueError, match="of one network"):
        in_manifold(np.zeros((1, 2)), np.zeros((3, 4)))
