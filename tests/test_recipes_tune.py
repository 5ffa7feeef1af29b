"""Settings chosen on train and val rows alone: what is read, how it goes on, what it hands over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from lightning.fabric import Fabric
from recipe_doubles import digests, save_celeba, save_folder, save_generator, tiny_flags

import recipes.tune
from classify import load_table
from recipes.celeba_augment import PRESETS
from recipes.chain.command.command_line import parse
from recipes.chain.settings.study import NO_FLAGS, RunConfig
from recipes.tune import TuneConfig, main, without_test

pytest.importorskip("optuna")

from recipes.chain.search import Search, check_space, suggested

SPLITS = ("train",) * 16 + ("val",) * 12 + ("test",) * 8
SPACE = {
    "set.guidance.scale": [0.5, 2.0],
    "set.count": [4, 6],
    "arm.rows": ["once", "replaced"],
    "arm.repeats.replaced": {"low": 0.5, "high": 1.0},
    "arm.train.mixing.weight": {"low": 0.2, "high": 1.0},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a generator and data whose test images are missing."""
    root = tmp_path_factory.mktemp("tune")
    save_generator(root / "generator")
    data = save_folder(root / "data", splits=SPLITS)
    table = load_table(data)
    shutil.copytree(data, root / "whole")
    for path in table.loc[table["split"] == "test", "path"]:
        Path(path).write_bytes(b"no image")
    return root


def _flags(root: Path, out: Path, *more: str, data: str = "data") -> list[str]:
    flags = [*tiny_flags(root / data, root / "generator", out), "--study.seeds=1"]
    return [*flags, '--base_set={"guidance": {}}', f"--space={json.dumps(SPACE)}", *more]


@pytest.fixture(scope="module")
def trials(root: Path) -> pd.DataFrame:
    """A search in `out`: two trials, and then, by the same command with a larger number, a third.

    Its test images do not decode, so that one that was looked at would have been refused.
    """
    main(_flags(root, root / "out", "--trials=2"))
    found = main(_flags(root, root / "out", "--trials=3"))
    assert found is not None
    return found


def test_test_rows_are_not_even_decoded(root: Path, trials: pd.DataFrame) -> None:
    assert list(trials["state"]) == ["complete"] * 3
    for file in (root / "out").rglob("predictions.npz"):
        with np.load(file) as found:
            names = set(found["files"].tolist())
        table = load_table(root / "data").set_index("file_name")
        assert set(table.loc[list(names), "split"]) == {"val"}


def test_one_half_of_val_chooses_and_the_other_judges(root: Path) -> None:
    table = load_table(root / "whole")
    config = TuneConfig(data=root / "whole", num_real=8, num_val=9)
    found = without_test(table, config)
    assert found["split"].value_counts().to_dict() == {"train": 8, "val": 5, "test": 4}
    origin = table.set_index("file_name").loc[found["file_name"], "split"]
    assert set(origin[(found["split"] != "train").to_numpy()]) == {"val"}
    halves = found[found["split"] != "train"].groupby("split")[["Male", "Smiling"]].sum()
    assert (halves >= 1).all(axis=None)


def test_the_search_starts_from_the_runs_own_settings(trials: pd.DataFrame) -> None:
    first = trials.iloc[0]
    assert (first["set.guidance.scale"], first["set.count"]) == (1.0, 6)  # the preset's, and 6
    assert (first["arm.rows"], first["arm.train.mixing.weight"]) == ("once", 1.0)
    assert np.isnan(first["arm.repeats.replaced"])  # not asked for where none is


def test_a_longer_search_is_the_shorter_one_continued(
    root: Path, trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(root / "out" / "trials", "scores.csv")
    monkeypatch.setattr(recipes.tune, "run_study", None)  # nothing is left to do
    again = main(_flags(root, root / "out", "--trials=3"))
    assert again is not None
    pd.testing.assert_frame_equal(again, trials)
    pd.testing.assert_frame_equal(
        pd.read_csv(root / "out" / "trials.csv"), trials, check_dtype=False
    )
    assert digests(root / "out" / "trials", "scores.csv") == before


def test_trials_of_the_same_look_share_their_images(root: Path, trials: pd.DataFrame) -> None:
    folders = [folder for folder in (root / "out" / "sets").iterdir() if folder.is_dir()]
    assert len(folders) == trials["set.guidance.scale"].nunique()


def test_the_main_job_takes_what_was_chosen_and_says_how(root: Path, trials: pd.DataFrame) -> None:
    file = root / "out" / "tuned.yaml"
    comment = file.read_text().splitlines()[0]
    assert comment.startswith("# The arm tuned was chosen by 3 trials of recipes/tune.py (0 given")
    config = parse(RunConfig, [f"--config={file}"], presets=PRESETS, skip=NO_FLAGS)
    best = trials.loc[trials["value"].idxmax()]
    made = config.synthetic_sets["tuned"]
    assert made.guidance is not None
    assert (made.guidance.scale, made.count) == (best["set.guidance.scale"], best["set.count"])
    arm = config.chosen_arms["tuned"]
    assert arm.rows == best["arm.rows"]
    assert arm.train["mixing"]["weight"] == best["arm.train.mixing.weight"]
    assert list(config.chosen_arms) == [
        *("real", "plain", "minority", "targeted", "tuned", "oversample")
    ]
    assert (config.focus_arm, f"# {config.tuned}") == ("tuned", comment)
    assert config.sampler.steps == 3
    assert not {"out", "study", "devices"} & set(yaml.safe_load(file.read_text()))


def test_the_report_of_the_main_job_says_how_many_trials_chose(
    root: Path, trials: pd.DataFrame, tmp_path: Path
) -> None:
    flags = [f"--config={root / 'out' / 'tuned.yaml'}", f"--data={root / 'whole'}"]
    flags += [f"--out={tmp_path / 'run'}", "--study.seeds=1", '--arms=["real", "tuned"]']
    recipes.celeba_augment.main(flags)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "chosen by 3 trials of recipes/tune.py" in page


def test_it_works_on_celebas_own_layout(root: Path, tmp_path: Path) -> None:
    data = save_celeba(tmp_path / "celeba", images=20)
    flags = [*tiny_flags(data, root / "generator", tmp_path / "out"), "--study.seeds=1"]
    found = main([*flags, "--trials=1", '--space={"set.count": [4, 6]}', "--num_real=5"])
    assert found is not None
    assert found["state"].to_list() == ["complete"]
    assert found["set.count"].to_list() == [6]


def _search(file: Path, trials: int, *, killed_in: int | None = None) -> pd.DataFrame:
    """A search for the largest x - y, with two steps per trial; killed within a trial."""
    space = {"x": {"low": 0.0, "high": 1.0}, "y": [1, 2, 3]}
    start = {"x": 0.5, "y": 2}
    search = Search(file, space, start, seed=3, fabric=Fabric(accelerator="cpu", devices=1))
    while (chosen := search.next(trials)) is not None:
        value = chosen["x"] - chosen["y"]
        if len(search.table()) == killed_in:
            return search.table()
        if not search.hopeless(1, value):
            search.finish(value)
    return search.table()


def test_a_killed_search_finds_what_it_would_have_found(tmp_path: Path) -> None:
    whole = _search(tmp_path / "whole.log", 12)
    assert whole.iloc[0][["x", "y"]].to_list() == [0.5, 2]
    assert set(whole["state"]) == {"complete", "pruned"}
    _search(tmp_path / "killed.log", 12, killed_in=7)
    pd.testing.assert_frame_equal(_search(tmp_path / "killed.log", 12), whole)


def test_a_trial_below_the_median_is_given_up(tmp_path: Path) -> None:
    found = _search(tmp_path / "trials.log", 15)
    for i, row in found.iterrows():
        assert isinstance(i, int)
        before = found.iloc[:i].query("state == 'complete'")["value"]
        late = len(before) >= 5 and row["x"] - row["y"] < before.median()
        assert (row["state"] == "pruned") == late


def test_repeats_are_asked_for_only_where_some_are_replaced() -> None:
    for rows, asked in (("once", False), ("replaced", True)):
        trial = SimpleNamespace(
            suggest_categorical=lambda path, choices, rows=rows: rows,
            suggest_float=lambda path, low, high: low,
        )
        found = suggested(
            trial, {"arm.rows": ["once"], "arm.repeats.replaced": SPACE["arm.repeats.replaced"]}
        )  # type: ignore[arg-type]
        assert ("arm.repeats.replaced" in found) == asked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trials": 0}, "^trials is 0; give at least 1"),
        ({"space": {}}, "^space is empty; "),
        ({"space": {"set.count": 3}}, "^space.set.count is 3; give a list of choices"),
        ({"space": {"set.cont": [3]}}, "^space names set.cont, which the tuned set and arm do not"),
        ({"space": {"arm.train.lr": {"low": -2.0, "high": -1.0}}}, "train.lr is -1.0"),
        (
            {"base_arm": {"row": "once"}},
            "define_arms.tuned: the setting row is not known; did you mean rows",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TuneConfig(**settings)  # type: ignore[arg-type]


def test_a_range_of_what_is_left_out_starts_at_its_lower_end() -> None:
    space = {"set.guidance.budget": {"low": 0.2, "high": 2.0}}
    config = TuneConfig(space=space, base_set={"guidance": {}})
    assert config.start == {"set.guidance.budget": 0.2}


def test_a_trial_without_images_is_given_up_and_the_search_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipes.tune.synthesise
    monkeypatch.setattr(
        recipes.tune,
        "synthesise",
        lambda inputs, *rest: (
            made(inputs, *rest)
            if inputs.run.config.synthetic_sets["tuned"].count == 6
            else _refuse()
        ),
    )
    found = main(_flags(root, tmp_path / "out", "--trials=3", '--space={"set.count": [6, 5]}'))
    assert found is not None
    states = dict(zip(found["set.count"], found["state"], strict=True))
    assert states == {6: "complete", 5: "pruned"}


def _refuse() -> None:
    raise ValueError("none of the 5 tuned images was taken")


def test_a_space_is_checked() -> None:
    check_space({"set.count": [1, 2], "arm.train.lr": {"low": 1e-4, "high": 1e-2, "log": True}})
    with pytest.raises(ValueError, match="give a list of choices, or low and high"):
        check_space({"arm.train.lr": {"low": 1e-4}})
    with pytest.raises(ValueError, match=r"space names set.steering.by.*give it in base_set"):
        TuneConfig(space={"set.steering.by": ["labeler", "generator"]})
