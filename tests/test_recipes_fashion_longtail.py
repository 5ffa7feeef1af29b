"""The chain on real photographs of clothes, with tiny models."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from recipe_doubles import digests, save_generator, tiny_flags

import recipes.fashion_longtail
from classify import load_table
from classify.datasets.fashion import CLASSES, fashion_longtail_table
from recipes.chain.command.command_line import run
from recipes.fashion_longtail import main

DATA = Path("/usr/share/datasets/fashion-mnist")
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


def _small(folder: Path, *, source: Path | None) -> pd.DataFrame:
    """A few of the real photographs."""
    table = fashion_longtail_table(folder, source=source, largest=20, imbalance=10, val=2)
    kept = table[(table["split"] != "test") | (table["file_name"].str.endswith("00.png"))]
    kept.drop(columns="path").to_csv(folder / "metadata.csv", index=False)
    return load_table(folder)


def test_whole_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes.fashion_longtail, "fashion_longtail_table", _small)
    generator = save_generator(tmp_path / "generator", channels=1)
    summary = main(
        [*tiny_flags(DATA, generator, tmp_path / "out"), "--study.seeds=1", "--train.batch_size=16"]
    )
    assert summary is not None
    assert set(summary["arm"]) == {"real", "plain", "minority", "targeted", "oversample"}
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(scores["attribute"]) == {*CLASSES, "macro", "micro", "samples"}
    synthetic = load_table(tmp_path / "out" / "synthetic" / "targeted")
    assert len(synthetic) == 6
    assert {f"p_{name}" for name in CLASSES} <= set(synthetic.columns)
    with Image.open(synthetic["path"].iloc[0]) as image:
        assert image.mode == "L"


@pytest.mark.parametrize(
    ("data", "flag", "message"),
    [
        ("nowhere", "--study.seeds=1", "train-images-idx3-ubyte"),
        (str(DATA), "--generator=nowhere", "'nowhere'"),
        (str(DATA), "--sampler.steps=0", "sampler.steps is 0"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, data: str, flag: str, message: str) -> None:
    generator = save_generator(tmp_path / "generator", channels=1)
    before = digests(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as ended:
        run(lambda: main([*tiny_flags(Path(data), generator, tmp_path / "out"), flag]))
    assert "\n" not in str(ended.value)
    assert digests(tmp_path) == before
