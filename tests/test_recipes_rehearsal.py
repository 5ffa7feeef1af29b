"""The rehearsal runs every stage on images of its own, and counts each to the right one."""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classify.datasets import load_images, load_table
from recipes.chain.benchmarks.benchmarking import resident
from recipes.chain.benchmarks.stages import Stages, Taken
from recipes.rehearsal import Settings, main, missed, whole
from recipes.rehearsal import rehearsed as rehearsed_config

COUNTS = {"images": 80, "generated": 8, "steps": 1, "distinct": 60, "size": 32, "workers": 1}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("rehearsal") / "out"
    return out, main([f"--out={out}", *(f"--{name}={n}" for name, n in COUNTS.items())])


def test_every_stage_of_the_study_is_measured(rehearsed: tuple[Path, dict[str, Any]]) -> None:
    out, result = rehearsed
    stages = {name: Taken(**one) for name, one in result["stages"].items()}
    fits = [
        f"{doing} {arm}, seed 0"
        for arm in ("real", "plain", "minority")
        for doing in ("training", "scoring")
    ]
    assert {
        *("drawing", "reading the data", "decoding the images", "getting the labeler ready"),
        *("comparing the real images with one another", "looking for near copies"),
        *("labelling images", "merging", *fits, "writing the report"),
    } <= stages.keys()
    assert all(one.seconds >= 0 for one in stages.values())
    decoded = stages["decoding the images"].disk
    assert COUNTS["images"] * 3 * 32**2 <= decoded < 1.1 * COUNTS["images"] * 3 * 32**2
    units = [json.loads(f.read_text()) for f in (out / "study" / "fits").glob("*/unit.json")]
    assert [unit["steps"] for unit in units] == [1, 1, 1]
    assert json.loads((out / "rehearsal.json").read_text()) == result
    # The labeler took the images that stood decoded already.
    assert len(list((out / "study" / "cache").glob("images-*"))) == 2


def test_the_whole_is_estimated_by_what_is_counted(
    rehearsed: tuple[Path, dict[str, Any]],
) -> None:
    whole = rehearsed[1]["whole"]
    plain, minority, *_, fits, rest = whole.values()
    assert minority["flops"] / plain["flops"] == pytest.approx(1 + 2.056 / 5)
    # 52.6 billion operations a pass of ADM's network for CelebA on 32 pixels (219 on its own 64)
    assert plain["flops"] == pytest.approx(8 * 250 * 52.55e9, rel=0.01)
    assert plain["here"] / fits["here"] == pytest.approx(plain["flops"] / fits["flops"])
    assert plain["gpu"] == pytest.approx(plain["flops"] / 6e13)
    assert rest["here"] == rest["gpu"] > 0


def test_no_two_images_are_equal_and_they_stand_as_celebas(
    rehearsed: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = rehearsed
    table = load_table(out / "celeba")
    assert table["split"].value_counts().to_dict() == {"train": 64, "val": 8, "test": 8}
    generated = [load_images(out / name / "images") for name in ("plain", "minority")]
    paths = [Path(path) for one in (table, *generated) for path in one["path"]]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) == 80 + 2 * 8
    # A face has its attributes in every variation.
    attributes = table.iloc[:, 3:43].to_numpy()
    assert np.array_equal(attributes[:20], attributes[60:])


def test_what_goes_on_inside_a_stage_is_the_inner_ones_alone(tmp_path: Path) -> None:
    stages = Stages(tmp_path)
    with stages.of("outer"):
        before = resident("VmRSS")
        with stages.of("inner"):
            (tmp_path / "a").write_bytes(bytes(1000))
            # A mapping of its own: an array may lie in memory that was freed before.
            held = np.frombuffer(mmap.mmap(-1, 10**8), np.uint8)
            held[:] = 1
        del held
        (tmp_path / "b").write_bytes(bytes(10))
        (tmp_path / "again").hardlink_to(tmp_path / "a")
    outer, inner = stages.taken["outer"], stages.taken["inner"]
    assert (outer.disk, inner.disk) == (10, 1000)
    if before is not None:
        assert inner.megabytes is not None
        assert inner.megabytes >= before + 90
    with pytest.raises(OSError, match="full"), stages.of("outer"):
        raise OSError("full")
    assert list(stages.taken) == ["the rest", "outer", "inner"]


def test_what_misses_a_target_is_told() -> None:
    taken = {
        "labelling images": Taken(seconds=1000.0, megabytes=5000.0),
        "training real, seed 0": Taken(seconds=1000.0, megabytes=3000.0),
    }
    slow, large, long = missed(taken, 11.0)
    assert "labelling images takes 17 minutes" in slow
    assert "labelling images takes 5,000 MB" in large
    assert "11.0 MB" in long
    assert not missed({"merging": Taken(seconds=899.0, megabytes=None)}, 9.0)


def test_a_labeler_that_has_no_steps_counts_as_it_is() -> None:
    long = Taken(seconds=1000.0, megabytes=None)
    taken = {"getting the labeler ready": long, "training real, seed 0": long}
    for preset, counted in (("paper", 0.0), ("demo", 1000.0)):
        settings = Settings(preset=preset)  # type: ignore[arg-type]
        told = whole(rehearsed_config(settings), settings, taken)
        assert told["everything else"]["here"] == counted
        assert ("training the labeler" in told) == (preset == "paper")
        assert bool(missed(taken, 1.0, "wall", preset)) == bool(counted)


@pytest.mark.parametrize("flag", ["--images=5", "--steps=0", "--gpu_flops=0"])
def test_a_rehearsal_of_nothing_is_refused(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give"):
        main([flag, f"--out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
