"""The whole chain with control arms, quotas and admission."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from recipe_doubles import save_folder, save_generator, tiny_flags

from recipes.celeba_augment import main
from recipes.chain.results.tell import format_summary
from recipes.chain.settings.arms import CONTROLS

SETS = ["plain", "minority", "targeted"]
ARMS = ["real", *SETS, *CONTROLS]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a generator, a user's folder, and `out`, a run with all controls and a cap."""
    root = tmp_path_factory.mktemp("controls")
    save_generator(root / "generator")
    save_folder(root / "data")
    # Another labeler than the one fitted on these very rows, or relabelling them changes nothing.
    flags = [*_flags(root, root / "out"), "--labeler=avatars", "--quota.cap=4"]
    main([*flags, "--controls", "all"])
    return root


def _flags(root: Path, out: Path) -> list[str]:
    return [*tiny_flags(root / "data", root / "generator", out), "--study.seeds=1"]


def test_every_control_is_scored_and_the_focus_is_compared_with_each(root: Path) -> None:
    scores = pd.read_csv(root / "out" / "scores.csv")
    assert list(scores["arm"].unique()) == ARMS
    compared = pd.read_csv(root / "out" / "comparison.csv")
    of_focus = compared.loc[compared["arm"] == "targeted", "baseline"].unique()
    assert list(of_focus) == [arm for arm in ARMS if arm != "targeted"]


def test_all_arms_take_the_same_steps_on_their_own_settings(root: Path) -> None:
    units = {
        arm: pd.read_json(root / "out" / "fits" / f"{arm}-0" / "unit.json", typ="series")
        for arm in ARMS
    }
    assert {int(unit["steps"]) for unit in units.values()} == {3}
    assert units["reweight"]["config"]["loss"]["balance"] == 1
    assert units["rand_augment"]["config"]["augmentation"]["operations"] == 2
    # real, the sets, duplicate and relabel; the rest differ from real by settings
    assert len({unit["table"] for unit in units.values()}) == 6


def test_every_generated_image_has_a_verdict_and_a_cap_holds(root: Path) -> None:
    table = pd.read_csv(root / "out" / "synthetic" / "minority" / "metadata.csv")
    assert len(table) == 6
    assert table["admission"].notna().all()
    page = (root / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Admission</h2>" in page
    rates = pd.read_csv(root / "out" / "admission.csv")
    assert rates.groupby("arm")["images"].sum().to_dict() == dict.fromkeys(SETS, 6)


def test_the_printed_table_keeps_its_columns_under_long_names() -> None:
    metrics = ("f1", "precision", "recall", "f1_rare")
    rows = [(arm, m, 0.5, 0.4, 0.6, 2) for arm in ("real", "rand_augment") for m in metrics]
    summary = pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "n_seeds"])
    _, *lines = format_summary(summary, 3, 4).splitlines()
    for header, *arms in (lines[:3], lines[3:]):
        assert [line.split()[0] for line in arms] == ["real", "rand_augment"]
        assert {line.index("0.500") for line in arms} == {header.index("F1")}
    assert lines[3].endswith("F1, fitted")
    assert lines[4].split()[4:] == ["–", "–"]  # not measured


def test_a_wish_is_generated_for_until_it_is_met_or_the_limit(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*_flags(root, tmp_path / "out"), "--labeler=avatars", "--limit=12"]
    main([*flags, "--arms", "real", "plain", '--quota.wanted={"Male=0": 1000}'])
    table = pd.read_csv(tmp_path / "out" / "synthetic" / "plain" / "metadata.csv")
    assert len(table) == 12
    got = int((table["Male"] == 0).sum())
    note = f"The quota of plain is not met by 12 images: Male=0, {got} of 1000 ("
    assert note in capsys.readouterr().out
    assert note in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_generated_test_image_stops_the_run_and_is_kept_out_if_allowed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(root / "data", data)
    table = pd.read_csv(data / "metadata.csv")
    planted = table.loc[table["split"] == "test", "file_name"].iloc[0]
    shutil.copy(root / "out" / "synthetic" / "minority" / "3.png", data / planted)
    flags = [*tiny_flags(data, root / "generator", tmp_path / "out"), "--study.seeds=1"]
    with pytest.raises(ValueError, match=r"copy real val or test images.*3\.png.*--allow_leak"):
        main(flags)
    main([*flags, "--allow_leak", f"--out={tmp_path / 'allowed'}"])
    judged = pd.read_csv(tmp_path / "allowed" / "synthetic" / "minority" / "metadata.csv")
    found = judged.set_index("seed")
    assert found.loc[3, "admission"] == "copy of test"
    assert found.loc[3, "copied"] == planted
    page = (tmp_path / "allowed" / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("rejected as", "copy of test"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--controls", "all", "--limit=5"], "limit is 5"),
        (["--limit=1000000000"], "MB free; ask for fewer or smaller images"),
        (["--controls", "duplicate", "duplicate"], "controls name duplicate twice"),
        (["--controls", "nothing"], "nothing"),
        (['--quota.wanted={"Male": 3}'], "wish 'Male' is not understood"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    root: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        main([*_flags(root, tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()
