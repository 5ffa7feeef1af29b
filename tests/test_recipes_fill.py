"""Rounds go on until the quota is met or the limit reached, and keep what earlier ones made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from augment_doubles import tiny_unet
from recipe_doubles import digests

from augment import Denoiser, ImageFormat, Quota, SamplerConfig, Schedule, generate
from recipes._fill import Filled, fill


def _make(seeds: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"file_name": [f"{seed}.png" for seed in seeds], "seed": list(seeds)})


def _label(table: pd.DataFrame) -> pd.DataFrame:
    """Every fifth image is bald, every second male."""
    return table.assign(Bald=(table["seed"] % 5 == 0) * 1.0, Male=(table["seed"] % 2 == 0) * 1.0)


def _judge(table: pd.DataFrame) -> pd.DataFrame:
    """Every third is blank."""
    return table.assign(admission=["blank" if s % 3 == 0 else "kept" for s in table["seed"]])


def _fill(quota: Quota, *, limit: int = 40, first_seed: int = 0) -> Filled:
    return fill(_make, _label, _judge, quota, n_real=20, limit=limit, size=8, first_seed=first_seed)


def test_it_stops_with_the_round_that_meets_the_wishes() -> None:
    filled = _fill(Quota(wanted={"Bald=1": 3, "Male=1": 2}))
    assert filled.stopped == "met"
    # Bald and kept: 5, 10, 20, 25, ...; the third is in the third round of 8.
    assert filled.rounds["generated"].tolist() == [8, 16, 24]
    assert filled.rounds["Bald=1"].tolist() == [1, 2, 3]
    assert filled.rounds["admitted"].tolist() == [5, 10, 16]
    assert filled.selection.table["seed"].tolist() == [5, 10, 20]
    assert len(filled.table) == 24


def test_what_the_limit_leaves_open_is_said() -> None:
    filled = _fill(Quota(wanted={"Bald=1": 30}), limit=20)
    assert filled.stopped == "limit"
    assert filled.rounds["generated"].tolist() == [8, 16, 20]
    assert filled.selection.report.iloc[0].tolist() == ["Bald=1", 30, 2, 2]
    assert filled.short == ["Bald=1, 2 of 30"]
    assert _fill(Quota(wanted={"Bald=1": 3, "Male=1": 2})).short == []
    assert _fill(Quota(ratio=5)).short == []  # at most so many


@pytest.mark.parametrize(
    ("quota", "generated", "taken", "stopped"),
    [
        (Quota(), 40, 26, "limit"),
        (Quota(cap=10), 16, 10, "met"),
        (Quota(ratio=0.25), 8, 5, "met"),
        (Quota(ratio=5), 40, 26, "limit"),
    ],
)
def test_quotas_without_wishes(quota: Quota, generated: int, taken: int, stopped: str) -> None:
    filled = _fill(quota)
    assert (len(filled.table), len(filled.selection.table)) == (generated, taken)
    assert filled.stopped == stopped


def test_seeds_start_where_told() -> None:
    assert _fill(Quota(cap=1), first_seed=7).table["seed"].tolist() == list(range(7, 15))


def test_no_image_is_no_limit() -> None:
    with pytest.raises(ValueError, match="limit is 0 and size 8; give at least 1"):
        _fill(Quota(), limit=0)


def test_rounds_of_generate_share_a_folder_resume_and_grow(tmp_path: Path) -> None:
    denoiser = Denoiser(
        tiny_unet(1, 1, sample_size=8),
        Schedule.cosine(10),
        ImageFormat(channels=1, size=8),
        variance="fixed_small",
    )

    def make(seeds: Sequence[int]) -> pd.DataFrame:
        return generate(denoiser, seeds, tmp_path, sampler=SamplerConfig(steps=2, batch_size=2))

    def run(limit: int) -> Filled:
        return fill(make, _label, _judge, Quota(), n_real=1, limit=limit, size=4)

    first = run(6)
    before = digests(tmp_path, "*.png")
    (tmp_path / "2.png").unlink()  # as a stopped run leaves it
    grown = run(10)
    after = digests(tmp_path, "*.png")
    assert len(before) == 6
    assert len(after) == 10
    assert {name: after[name] for name in before} == before
    pd.testing.assert_frame_equal(grown.table[:6], first.table)
    written = pd.read_csv(tmp_path / "metadata.csv")
    assert written["seed"].tolist() == list(range(10))
