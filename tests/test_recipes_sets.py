"""Synthetic sets and arms as data: what YAML alone can add, and how its mistakes are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from recipe_doubles import digests, save_folder, save_generator, tiny_flags

from augment import Boost
from classify import FitConfig, load_table
from labeling import LabelPolicy
from recipes.celeba_augment import PRESETS, main
from recipes.chain.command.command_line import parse
from recipes.chain.images.making import is_independent
from recipes.chain.settings.arms import ArmSettings, Material, make_arm
from recipes.chain.settings.sets import OFFERED_SETS, StartSettings
from recipes.chain.settings.study import NO_FLAGS, RunConfig


def _parsed(*arguments: str) -> RunConfig:
    return parse(RunConfig, arguments, presets=PRESETS, skip=NO_FLAGS)


def test_a_set_says_only_where_it_differs_from_the_run() -> None:
    sets = {"strong": {"guidance": {"scale": 3.0}}, "fewer": {"sampler": {"steps": 9}, "count": 5}}
    config = RunConfig(sets=sets, num_synthetic=7)
    found = config.synthetic_sets
    assert list(found) == ["plain", "minority", "targeted", "strong", "fewer"]
    assert found["plain"].guidance is None
    assert found["minority"].guidance == config.guidance
    assert found["targeted"].guidance == config.guidance
    assert found["targeted"].steering == config.steering
    assert found["strong"].guidance is not None
    assert found["strong"].steering is None
    assert (found["strong"].guidance.scale, found["strong"].guidance.every) == (3.0, 5)
    assert [found[name].count for name in found] == [7, 7, 7, 7, 5]
    assert [found[name].sampler.steps for name in found] == [250, 250, 250, 250, 9]


def test_the_guidance_of_the_command_line_is_the_minority_sets() -> None:
    config = _parsed("--guidance.scale=0.7", "--sampler.steps=8")
    minority = config.synthetic_sets["minority"]
    assert minority.guidance is not None
    assert (minority.guidance.scale, minority.sampler.steps) == (0.7, 8)


def test_a_set_may_have_targets_of_its_own_in_place_of_the_runs(tmp_path: Path) -> None:
    file = tmp_path / "wishes.yaml"
    file.write_text("Bald=1,Male=1: 3\n")
    sets = {
        "as_run": {"steering": {"scale": 2.0}},
        "own": {"steering": {}, "targets": {"Bald=1": 5}},
        "from_file": {"steering": {}, "targets": str(file)},
        "rare": {"steering": {}, "targets": "auto"},
    }
    found = RunConfig(sets=sets, targets={"Young=0": 2}).synthetic_sets
    wishes = {name: made.wishes for name, made in found.items() if made.steering is not None}
    assert wishes == {
        **{"targeted": {"Young=0": 2}, "as_run": {"Young=0": 2}, "own": {"Bald=1": 5}},
        **{"from_file": {"Bald=1,Male=1": 3}, "rare": None},
    }
    strength = found["as_run"].steering
    assert strength is not None
    assert (strength.scale, strength.every) == (2.0, RunConfig().steering.every)


def test_sets_may_stand_in_a_file_of_their_own_and_are_kept_with_the_run(tmp_path: Path) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text("strong: {guidance: {scale: 2.0}}\n")
    config = _parsed(f"--sets={file}")
    assert config.record()["sets"] == {"strong": {"guidance": {"scale": 2.0}}}
    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump(config.record()))
    assert _parsed(f"--config={written}") == config


def test_arms_are_picked_by_name_and_described_in_yaml() -> None:
    mixed = {
        "sets": ["plain", "minority"],
        "rows": "oversampled",
        "train": {"loss": {"balance": 0.5}},
    }
    config = RunConfig(define_arms={"mixed": mixed})
    usual = ["real", "plain", "minority", "targeted", "mixed"]
    assert list(config.chosen_arms) == [*usual, "oversample"]
    assert list(replace(config, controls=[]).chosen_arms) == usual
    assert list(replace(config, controls=["reweight"]).chosen_arms) == [*usual, "reweight"]
    few = RunConfig(define_arms={"mixed": mixed}, arms=["mixed", "real", "duplicate"])
    assert list(few.chosen_arms) == ["real", "mixed", "duplicate"]
    assert list(few.synthetic_sets) == ["plain", "minority"]
    assert few.focus_arm == "mixed"
    named = RunConfig(arms=["real", "plain"])
    assert named.synthetic_sets.keys() == {"plain"}
    assert list(named.chosen_arms) == ["real", "plain"]
    assert list(replace(named, controls=["duplicate"]).chosen_arms)[2:] == ["duplicate"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sets": {"a": {"guidance": {"scal": 1}}}},
            r"sets\.a: the setting guidance\.scal is not known; did you mean guidance\.scale\?",
        ),
        (
            {"sets": {"a": {"number": 1}}},
            r"sets\.a: the setting number is not known; give one of folder, count",
        ),
        ({"sets": {"a": {"guidance": {"scale": -1}}}}, r"sets\.a: .*guidance\.scale is -1"),
        ({"sets": {"a": {"count": 0}}}, r"sets\.a: .*count is 0"),
        (
            {"sets": {"a": {"jacobian": {"encoder": "activations"}}}},
            r"sets\.a: .*jacobian\.rank is left out with the encoder activations",
        ),
        ({"sets": {"a": {"particles": {"group": 1}}}}, r"sets\.a: .*particles\.group is 1"),
        ({"sets": {"a": {"folder": "x", "guidance": {}}}}, "beside guidance, steering or start"),
        ({"sets": {"a": {"folder": "x", "steering": {}}}}, "beside guidance, steering or start"),
        (
            {"sets": {"a": {"start": {}}}},
            "start has images None, rows None and boost None; give one",
        ),
        (
            {"sets": {"a": {"start": {"images": "x", "rows": "rare"}}}},
            "start has images x, rows rare and boost None; give one",
        ),
        (
            {"sets": {"a": {"steering": {}, "start": {"rows": "rare"}}}},
            "steering is given beside start.rows",
        ),
        ({"judge": "avatars", "labeler": "avatars"}, "a labeler does not judge itself"),
        (
            {"sets": {"a": {"steering": {"scal": 1}}}},
            r"sets\.a: the setting steering\.scal .*give one of steering\.scale, ",
        ),
        ({"sets": {"a": 3}}, r"sets\.a is 3; give a mapping"),
        ({"sets": {"real": {}}}, "'real' names a set or an arm"),
        ({"sets": {"../a": {}}}, "'../a' names a set or an arm"),
        (
            {"define_arms": {"a": {"sets": ["b"]}}},
            "arm a trains on the set b; give one of plain, minority",
        ),
        ({"define_arms": {"a": {"rows": "thrice"}}}, r"define_arms\.a: .*thrice"),
        ({"define_arms": {"a": {"loss": 1}}}, r"define_arms\.a: the setting loss is not known"),
        ({"arms": ["real", "nobody"]}, "arms name nobody; give one of real, plain, minority"),
        ({"arms": ["plain"]}, "add real, which all are compared with"),
        ({"controls": ["nothing"]}, "controls name nothing; give one of all, duplicate"),
    ],
)
def test_a_mistake_is_named_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        RunConfig(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["- a list\n", "half: [", "word"])
def test_a_file_of_no_sets_is_refused_without_repeating_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"sets\.yaml (holds no mapping|is not a YAML file)"):
        _parsed(f"--sets={file}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds data, a generator, images made elsewhere, and `out`, a run described by YAML alone."""
    root = tmp_path_factory.mktemp("sets")
    save_generator(root / "generator")
    save_folder(root / "data")
    rng = np.random.default_rng(1)
    for number in range(5):
        (root / "elsewhere" / "deep").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (24, 20, 3), np.uint8)
        Image.fromarray(pixels).save(root / "elsewhere" / "deep" / f"{number}.png")
    sets = {
        "strong": {"guidance": {"scale": 2.0}, "count": 4, "sampler": {"solver": "ddim"}},
        "elsewhere": {"folder": str(root / "elsewhere")},
    }
    (root / "study.yaml").write_text(yaml.safe_dump({"sets": sets}, sort_keys=False))
    main([f"--config={root / 'study.yaml'}", *_flags(root, root / "out")])
    return root


def _flags(root: Path, out: Path) -> list[str]:
    return [*tiny_flags(root / "data", root / "generator", out), "--study.seeds=1"]


def test_a_further_set_and_one_made_elsewhere_make_a_report_of_all_arms(root: Path) -> None:
    arms = ["real", "plain", "minority", "targeted", "strong", "elsewhere", "oversample"]
    assert list(pd.read_csv(root / "out" / "summary.csv")["arm"].unique()) == arms
    rates = pd.read_csv(root / "out" / "admission.csv").groupby("arm")["images"].sum()
    assert rates.to_dict() == {
        **{"plain": 6, "minority": 6, "targeted": 6, "strong": 4, "elsewhere": 5}
    }
    page = (root / "out" / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in arms)
    for name in arms[1:-1]:
        assert (root / "out" / "synthetic" / name / "README.md").is_file()


def test_images_made_elsewhere_stay_where_they_are_and_are_labelled_like_the_others(
    root: Path,
) -> None:
    assert sorted(digests(root / "elsewhere")) == [f"deep/{number}.png" for number in range(5)]
    table = load_table(root / "out" / "synthetic" / "elsewhere")
    assert sorted(table["file_name"]) == [f"deep/{number}.png" for number in range(5)]
    assert set(table["source"]) == {"synthetic"}
    assert table[["Male", "Smiling", "p_Male"]].notna().all(axis=None)
    assert set(table["admission"]) <= {"kept", "blank", "copy of train"}


def test_another_folder_under_the_same_name_is_refused(root: Path, tmp_path: Path) -> None:
    out = shutil.copytree(root / "out", tmp_path / "out")
    other = shutil.copytree(root / "elsewhere", tmp_path / "other")
    sets = {**yaml.safe_load((root / "study.yaml").read_text())["sets"]}
    sets["elsewhere"] = {"folder": str(other)}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"sets": sets}, sort_keys=False))
    with pytest.raises(ValueError, match=r"holds another run: sets\.elsewhere\.folder"):
        main([f"--config={tmp_path / 'study.yaml'}", *_flags(root, out)])


def test_synthetic_images_alone_and_mixed_arms_are_made_of_their_rows() -> None:
    real = pd.DataFrame({"file_name": list("abcd"), "split": ["train", "train", "val", "test"]})
    real = real.assign(source="real", path=real["file_name"], Male=[0.0, 0.0, 1.0, 1.0])
    made = {
        "file_name": ["0.png"],
        "split": "train",
        "source": "synthetic",
        "path": "0",
        "Male": 1.0,
    }
    sets = {name: pd.DataFrame(made).assign(path=name) for name in ("plain", "minority")}
    material = Material(
        real=real,
        sets=sets,
        attributes=["Male"],
        label=lambda table: table,
        policy=LabelPolicy(),
        fit=FitConfig(),
        count=1,
    )
    alone = make_arm(ArmSettings(sets=("plain",), real="none"), material)
    assert alone.table["file_name"].tolist() == ["c", "d", "0.png"]
    both = make_arm(ArmSettings(sets=("plain", "minority"), rows="oversampled"), material)
    assert both.table["source"].tolist().count("synthetic") >= 2
    assert both.sets == ("plain", "minority")
    stronger = make_arm(ArmSettings(train={"augmentation": {"operations": 2}}), material)
    assert stronger.changes["augmentation"].operations == 2
    assert stronger.changes["augmentation"].flip


def test_an_offered_set_runs_where_an_arm_names_it_and_may_be_described_anew() -> None:
    assert "boost" not in RunConfig().synthetic_sets
    found = RunConfig(arms=["real", "boost"]).synthetic_sets
    assert list(found) == ["boost"]
    assert found["boost"].start == StartSettings(boost=Boost())
    assert not found["boost"].is_edited
    own = RunConfig(sets={"boost": {"start": {"boost": {"gamma": 2.5}}}}).synthetic_sets["boost"]
    assert own.start == StartSettings(boost=Boost(gamma=2.5))


def test_every_offered_set_is_made_of_settings_that_are_known() -> None:
    found = RunConfig(arms=["real", *OFFERED_SETS]).synthetic_sets
    assert list(found) == list(OFFERED_SETS)
    assert [n for n, made in found.items() if made.is_guided] == ["jepa", "unsure", "apart"]
    assert [n for n, made in found.items() if made.needs_gradients] == ["unsure"]
    assert [n for n, made in found.items() if is_independent(made)] == [
        *("boost", "temperature", "rescaled", "jepa", "apart")
    ]


def test_a_set_with_wishes_has_as_many_images_as_they_ask_for() -> None:
    wished: dict[str, object] = {"steering": {}, "targets": {"Bald=1": 30, "Male=0": 12}}
    sets = RunConfig(
        num_synthetic=400, sets={"few": wished, "given": {**wished, "count": 7}}
    ).synthetic_sets
    assert (sets["few"].count, sets["given"].count, sets["plain"].count) == (42, 7, 400)
    assert RunConfig(targets={"Bald=1": 5}).synthetic_sets["targeted"].count == 5
