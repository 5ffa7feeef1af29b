"""The chain on phantoms, with tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipe_doubles import digests, save_generator, tiny_flags

import recipes.phantoms
from classify.datasets.phantoms import FINDINGS, TRUTH, phantom_table
from recipes.chain.command.command_line import run
from recipes.draw_phantoms import main as draw
from recipes.phantoms import main


def _few(folder: Path, **_: Any) -> pd.DataFrame:
    return phantom_table(folder, train=40, val=20, test=20)


def _flags(tmp_path: Path) -> list[str]:
    generator = save_generator(tmp_path / "generator", channels=1, steps=100)
    flags = tiny_flags(Path("none"), generator, tmp_path / "out")[1:]
    return [*flags, "--study.seeds=1", "--num_real=60", "--num_val=40", "--allow_unlike"]


def test_whole_chain_and_its_true_density(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes.phantoms, "phantom_table", _few)
    common = "--attributes=[Cardiomegaly,Effusion,Nodule]"  # so few have no image of the others
    summary = main([*_flags(tmp_path), "--arms=[real,plain,minority]", common])
    assert summary is not None
    assert set(summary["arm"]) == {"real", "plain", "minority"}
    out = tmp_path / "out"
    assert set(pd.read_csv(out / "scores.csv")["attribute"]) >= set(list(FINDINGS)[:3])
    density = pd.read_csv(out / "density.csv").set_index("set")
    assert list(density.index)[:3] == ["real test", "plain", "minority"]
    truth = pd.read_csv(out / "data" / TRUTH)
    true = truth.loc[truth["file_name"].str.startswith("test/"), "log_density"]
    assert density.loc["real test", "log_density"] == pytest.approx(true.mean(), abs=0.3)
    assert density.loc["real test", "sparsest"] == pytest.approx(0.1, abs=0.02)
    ranks = pd.read_csv(out / "ranks.csv").set_index("measure")
    assert set(ranks.index) == {"avg_knn", "lof", "minority_score"}
    assert np.isfinite(ranks["correlation"]).all()
    assert "minus the true log-density" in capsys.readouterr().out


def test_unlabelled_phantoms_are_drawn_by_a_command(tmp_path: Path) -> None:
    counts = ["--train=3", "--val=0", "--test=0", f"--out={tmp_path / 'drawn'}"]
    table = draw([*counts, "--pool=generator"])
    assert table["split"].value_counts().to_dict() == {"train": 12}
    with pytest.raises(SystemExit, match=r"^error: .*holds phantoms with"):
        run(lambda: draw(counts))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--attributes=[Fracture]", "Fracture"),
        ("--generator=nowhere", "'nowhere'"),
        ("--data=somewhere", "data"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, flag: str, message: str) -> None:
    flags = _flags(tmp_path)
    before = digests(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as ended:
        run(lambda: main([*flags, flag]))
    assert "\n" not in str(ended.value)
    assert digests(tmp_path) == before
