"""The whole chain with a fitted policy, soft labels, several labelers and the manifold's balls."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipe_doubles import save_folder, save_generator, tiny_flags

import recipes.chain.study
from classify import Arm
from labeling import LabelPolicy
from recipes.celeba_augment import main
from recipes.chain.labels.labelers import softened

POLICY = [
    *("--labels.policy=fit", "--labels.wanted.both_precision=0.6"),
    "--labels.wanted.min_count=1",
]
Arms = Mapping[str, pd.DataFrame | Arm]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a generator and a user's folder."""
    root = tmp_path_factory.mktemp("labels")
    save_generator(root / "generator")
    save_folder(root / "data")
    return root


def _flags(root: Path, out: Path) -> list[str]:
    return [*tiny_flags(root / "data", root / "generator", out), "--study.seeds=1"]


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the chain trains on, in place of training."""
    seen: dict[str, Any] = {}

    def stop(arms: Arms, *_: object, **__: object) -> pd.DataFrame:
        seen.update(arms)
        raise InterruptedError

    monkeypatch.setattr(recipes.chain.study, "run_study", stop)
    return seen


def test_a_policy_is_fitted_on_real_val_rows_reported_and_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main([*_flags(root, out), *POLICY])
    policy = LabelPolicy.read(out / "policy.json")
    assert {rule.n for rule in policy.rules.values()} == {6}
    quality = pd.read_csv(out / "label_quality.csv")
    assert set(quality["group"]) == {"all", "Male=0", "Male=1"}
    assert "Thresholds, temperatures and calibration" in (out / "report.html").read_text("utf-8")
    before = (out / "policy.json").read_bytes()
    main([*_flags(root, out), *POLICY])
    assert (out / "policy.json").read_bytes() == before


def test_labels_of_the_test_split_do_not_move_a_policy(
    root: Path, tmp_path: Path, arms: dict[str, Any]
) -> None:
    data = shutil.copytree(root / "data", tmp_path / "data")
    table = pd.read_csv(data / "metadata.csv")
    test = table["split"] == "test"
    table.loc[test, ["Male", "Smiling"]] = 1 - table.loc[test, ["Male", "Smiling"]]
    table.to_csv(data / "metadata.csv", index=False)
    for name, folder in (("as is", root), ("flipped", tmp_path)):
        flags = tiny_flags(folder / "data", root / "generator", tmp_path / name)
        with pytest.raises(InterruptedError):
            main([*flags, *POLICY])
    policies = [(tmp_path / name / "policy.json").read_bytes() for name in ("as is", "flipped")]
    assert policies[0] == policies[1]


def test_soft_labels_train_and_the_files_stay_hard(
    root: Path, tmp_path: Path, arms: dict[str, Any]
) -> None:
    with pytest.raises(InterruptedError):
        main([*_flags(root, tmp_path / "out"), "--labels.soft=true", "--controls", "relabel"])
    file = pd.read_csv(tmp_path / "out" / "synthetic" / "minority" / "metadata.csv")
    assert file["Male"].isin((0, 1)).all()
    added = arms["minority"].table.query("source == 'synthetic'")
    np.testing.assert_allclose(added["Male"], file["p_Male"], rtol=1e-6)
    again = arms["relabel"].table.iloc[len(arms["real"].table) :]
    assert not again["Male"].isin((0, 1)).all()


def test_an_empty_cell_stays_empty_when_softened() -> None:
    table = pd.DataFrame({"Bald": [1.0, np.nan, 0.0], "p_Bald": [0.9, 0.6, 0.2]})
    np.testing.assert_array_equal(softened(table, ["Bald"])["Bald"], [0.9, np.nan, 0.2])


def test_of_several_labelers_the_first_that_knows_an_attribute_labels_it(
    root: Path, tmp_path: Path, arms: dict[str, Any]
) -> None:
    data = save_folder(tmp_path / "data", attributes=("Male", "Striped"))
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    # No steered set: two labelers have no gradients.
    few = ["--arms", "real", "minority"]
    with pytest.raises(InterruptedError):
        main([*flags, *few, "--labeler=[avatars, train]"])
    both = arms["minority"].table.query("source == 'synthetic'")
    with pytest.raises(InterruptedError):
        main([*flags, *few, "--labeler=avatars", f"--out={tmp_path / 'one'}"])
    one = arms["minority"].table.query("source == 'synthetic'")
    assert both["Striped"].notna().all()
    assert one["Striped"].isna().all()
    pd.testing.assert_series_equal(both["p_Male"], one["p_Male"])


def test_images_off_the_manifold_stay_out_and_are_counted(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"of the 6 plain images was taken \(6 off manifold\)"):
        main([*_flags(root, out), "--admission.manifold=1"])  # noise lies near no real image
    file = pd.read_csv(out / "synthetic" / "plain" / "metadata.csv")
    assert (file["admission"] == "off manifold").all()
    assert len(list((out / "synthetic" / "plain").glob("*.png"))) == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels.policy=absent.json"], r"policy absent\.json is missing"),
        (["--labels.wanted.band=0.1"], r"labels\.wanted is given with labels\.policy card"),
        (["--admission.manifold=0"], r"admission\.manifold is 0"),
        (["--admission.manifold=12"], r"k is 12 with 12 real images"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    root: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main([*_flags(root, tmp_path / "out"), *flags])
