"""The sweep over a finished run: its curve, its rule, what it writes and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from recipe_doubles import digests, save_folder, save_generator, tiny_flags

import recipes.celeba_augment
from recipes.chain.finished import real_table
from recipes.chain.settings.study import RunConfig
from recipes.ratio_sweep import SweepConfig, chart, curve, main, read_run, sentence


def _summary(by_number: dict[int, tuple[float, float, float]]) -> pd.DataFrame:
    """Macro scores of each number: mean and interval."""
    rows = [
        (str(number), metric, *values, 3)
        for number, values in by_number.items()
        for metric in ("f1", "recall")
    ]
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "n_seeds"])


def _compared(by_number: dict[int, tuple[float, float, float]]) -> pd.DataFrame:
    """Paired differences of each number from the best, and intervals; of an attribute too."""
    rows = [
        (str(number), name, metric, *values)
        for number, values in by_number.items()
        for name in ("Bald", "macro")
        for metric in ("precision", "f1")
    ]
    columns = ["arm", "attribute", "metric", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[table["attribute"] == "Bald", "high"] = 1.0
    return table


def test_the_smallest_number_that_cannot_be_told_from_the_best_is_enough() -> None:
    summary = _summary(
        {400: (0.70, 0.6, 0.8), 0: (0.60, 0.5, 0.7), 100: (0.65, 0.5, 0.8), 200: (0.69, 0.5, 0.9)}
    )
    behind = {
        **{0: (-0.1, -0.2, -0.05), 100: (-0.05, -0.06, -0.001)},
        200: (-0.01, -0.03, 0.002),
    }
    found = curve(summary, _compared(behind))
    assert found["images"].tolist() == [0, 100, 200, 400]
    assert found["enough"].tolist() == [False, False, True, False]
    assert found["behind"].tolist() == [-0.1, -0.05, -0.01, 0]
    assert found["behind_low"].tolist() == [-0.2, -0.06, -0.03, 0]
    assert found["high"].tolist() == [0.7, 0.8, 0.9, 0.8]
    assert sentence(found, "plain").startswith(
        "No evidence of gain after 200 images: the best mean"
    )


def test_where_none_at_all_does_as_well_there_is_no_evidence() -> None:
    summary = _summary({0: (0.65, 0.6, 0.7), 50: (0.66, 0.6, 0.7)})
    found = curve(summary, _compared({0: (-0.01, -0.04, 0.01)}))
    assert found["enough"].tolist() == [True, False]
    assert sentence(found, "plain").startswith("No evidence of gain: ")


def test_one_seed_has_no_interval_and_says_so() -> None:
    nan = float("nan")
    summary = _summary({0: (0.6, nan, nan), 50: (0.7, nan, nan), 100: (0.65, nan, nan)})
    found = curve(summary, _compared({0: (-0.1, nan, nan), 100: (-0.05, nan, nan)}))
    assert found["enough"].tolist() == [False, True, False]
    assert sentence(found, "plain").startswith("One seed, so no intervals")
    chart(found, "plain")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    save_generator(root / "generator")
    save_folder(root / "data")
    flags = tiny_flags(root / "data", root / "generator", root / "run")
    recipes.celeba_augment.main([*flags, "--arms", "real", "plain", "minority"])
    return root


def _sweep(root: Path, out: Path, *more: str) -> pd.DataFrame:
    flags = [str(root / "run"), f"--out={out}", "--seeds=2", "--devices=1", *more]
    return main(flags if "--fractions" in more else [*flags, "--fractions", "0.5", "1"])


def test_a_finished_run_is_swept_and_left_as_it_is(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(root / "run")
    found = _sweep(root, tmp_path / "out")
    assert found["images"].tolist() == [0, 3, 6]
    assert found["enough"].sum() == 1
    assert digests(root / "run") == before
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "sweep.csv"), found)
    with Image.open(tmp_path / "out" / "sweep.png") as picture:
        assert picture.size == (900, 600)
    assert sentence(found, "minority") in capsys.readouterr().out
    # With all images it is the run's own arm, fit for fit.
    swept = pd.read_csv(tmp_path / "out" / "scores.csv").query("arm != 3")
    swept["arm"] = swept["arm"].map({0: "real", 6: "minority"})
    of_run = pd.read_csv(root / "run" / "scores.csv").query("arm != 'plain'")
    keys = ["arm", "seed", "split", "attribute", "metric"]
    pd.testing.assert_frame_equal(
        swept.set_index(keys).sort_index(), of_run.set_index(keys).sort_index()
    )
    shutil.rmtree(tmp_path / "out" / "fits" / "3-1")
    pd.testing.assert_frame_equal(_sweep(root, tmp_path / "out"), found)


def test_it_trains_as_the_run_did_on_soft_labels_and_on_admitted_images(
    root: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(root / "run", tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["labels"]["soft"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    file = run / "synthetic" / "minority" / "metadata.csv"
    table = pd.read_csv(file)
    table["Smiling"] = table["Smiling"].astype(float).where(table["seed"] != 2)
    table.to_csv(file, index=False)
    found = read_run(SweepConfig(run=run)).synthetic
    np.testing.assert_allclose(found["Male"], table["p_Male"], rtol=1e-6)
    assert not found["Male"].isin((0, 1)).all()
    assert found["Smiling"].isna().tolist() == [False, False, True, False, False, False]
    table.assign(admission="blank").to_csv(file, index=False)
    with pytest.raises(ValueError, match=r"no minority image of .* was admitted"):
        read_run(SweepConfig(run=run))


def test_another_sweep_or_no_run_is_refused(root: Path, tmp_path: Path) -> None:
    _sweep(root, tmp_path / "out", "--fractions", "1", "--seeds=1")
    with pytest.raises(ValueError, match=r'arm is "minority" there and "plain" now; '):
        _sweep(root, tmp_path / "out", "--fractions", "1", "--seeds=1", "--arm=plain")
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is missing; give the folder"):
        main([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"synthetic/other/metadata\.csv is missing"):
        _sweep(root, tmp_path / "out", "--arm=other")
    with pytest.raises(ValueError, match=r"^fractions are \[0.5, 2.0\]; give numbers in \(0, 1\]$"):
        _sweep(root, tmp_path / "other", "--fractions", "0.5", "2")


def test_it_uses_the_labelled_rows_of_the_run_alone(tmp_path: Path) -> None:
    save_folder(tmp_path / "data")
    settings = RunConfig(data=tmp_path / "data", num_real=5, num_val=3)
    counts = real_table(tmp_path / "none", settings)["split"].value_counts()
    assert dict(counts) == {"test": 8, "train": 5, "val": 3}
