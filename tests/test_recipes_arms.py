"""Arms: how synthetic images are mixed with real ones, each way beside its control."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from recipe_doubles import save_folder, save_generator, tiny_flags

import recipes.chain.settings.arms
from classify import Augmentation, FitConfig, LossConfig, oversample
from labeling import LabelPolicy, Rule
from recipes.celeba_augment import main
from recipes.chain.command.values import read_values
from recipes.chain.settings.arms import (
    CONTROLS,
    ArmSettings,
    DoubtConfig,
    Material,
    RepeatsConfig,
    make_arm,
)
from recipes.chain.settings.study import RunConfig

NAMES = ["Bald", "Male"]


def _real() -> pd.DataFrame:
    """40 train rows, of which 2 are `Bald`, and 10 val rows, of which 5 are."""
    number = np.arange(52)
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in number], "source": "real"})
    table["split"] = ["train"] * 40 + ["val"] * 10 + ["test"] * 2
    table["Bald"] = np.where(number < 40, number % 20 == 0, number % 2).astype(float)
    table["Male"] = (number % 2).astype(float)
    return table.assign(path=table["file_name"])


def _made(name: str) -> pd.DataFrame:
    """Ten synthetic rows; the labeler gives .05, .15, ... for Bald."""
    p = np.linspace(0.05, 0.95, 10)
    table = pd.DataFrame({"file_name": [f"{name}/{i}.png" for i in range(10)], "p_Bald": p})
    table = table.assign(split="train", source="synthetic", path=table["file_name"], p_Male=0.9)
    return table.assign(Bald=(p >= 0.5).astype(float), Male=1.0)


def _label(table: pd.DataFrame) -> pd.DataFrame:
    """Right of every `Bald` that is given, and of 4 in 9 that are denied; always `Male`."""
    p = np.where(table["Bald"] == 1, 0.2, 0.1)
    p[np.flatnonzero(table["Bald"] == 1)[:1]] = 0.8
    return table.assign(p_Bald=p, Bald=(p >= 0.5).astype(float), p_Male=0.9, Male=1.0)


MATERIAL = Material(
    real=_real(),
    sets={"plain": _made("plain"), "minority": _made("minority")},
    attributes=NAMES,
    label=_label,
    policy=LabelPolicy(rules={name: Rule(present=0.5, absent=0.5) for name in NAMES}),
    fit=FitConfig(augmentation=Augmentation(shift=0.2), loss=LossConfig(tau=0.5)),
    count=10,
)


def _arm(values: dict[str, Any]) -> pd.DataFrame:
    table = make_arm(read_values(ArmSettings, values, "arm"), MATERIAL).table
    return table[table["split"] == "train"].reset_index(drop=True)


def test_synthetic_images_stand_in_for_repeats_and_the_controls_differ_in_that_alone() -> None:
    how = {"rows": "replaced", "repeats": {"threshold": 0.4, "replaced": 1.0}}
    novel, again = _arm({"sets": ["minority"], **how}), _arm(how)
    none = _arm({**how, "repeats": {"threshold": 0.4, "replaced": 0.0}})
    repeated = oversample(_real(), NAMES, share=0.4)
    assert none["path"].tolist() == repeated["path"][: len(none)].tolist()
    for table in (novel, again):
        assert table["Bald"].tolist() == none["Bald"].tolist()
    is_made = novel["source"] == "synthetic"
    assert is_made.sum() == none["Bald"].sum() - 2
    assert (novel.loc[is_made, "path"].str.startswith("minority")).all()
    assert (again["source"] == "real").all()


def test_a_threshold_says_what_is_rare() -> None:
    few = _arm({"rows": "oversampled", "repeats": {"threshold": 0.05}})
    many = _arm({"rows": "oversampled", "repeats": {"threshold": 0.45}})
    assert (len(few), few["Bald"].sum()) == (40, 2)
    assert many["Bald"].sum() == 6  # sqrt(.45 / .05) = 3 times each


def test_doubtful_cells_of_synthetic_rows_are_empty_and_of_real_ones_not() -> None:
    table = _arm({"sets": ["minority"], "doubt": {"band": 0.2}})
    made = table[table["source"] == "synthetic"]
    assert made["Bald"].isna().tolist() == [False] * 3 + [True] * 4 + [False] * 3
    assert made["Male"].notna().all()
    real = table[table["source"] == "real"]
    assert real["Bald"].tolist() == _real()["Bald"][:40].tolist()


@pytest.mark.parametrize(
    ("precision", "denied"), [(0.5, False), (0.9, True)], ids=["is kept", "is emptied"]
)
def test_a_value_that_is_given_imprecisely_on_val_stays_empty(
    precision: float, denied: bool
) -> None:
    """Bald is given rightly and denied rightly 5 times in 9; Male is given rightly every second
    time and never denied.
    """
    table = _arm({"sets": ["minority"], "doubt": {"precision": precision}})
    made = table[table["source"] == "synthetic"]
    assert made.loc[made["p_Bald"] >= 0.5, "Bald"].eq(1).all()
    assert made.loc[made["p_Bald"] < 0.5, "Bald"].isna().all() == denied
    assert made["Male"].isna().all() == denied


def test_band_and_precision_are_judged_together_and_no_doubt_changes_nothing() -> None:
    table = _arm({"sets": ["minority"], "doubt": {"band": 0.36, "precision": 0.5}})
    made = table[table["source"] == "synthetic"]
    assert made["Bald"].notna().sum() == 1  # .05; on val the band leaves only right denials
    pd.testing.assert_frame_equal(_arm({"sets": ["plain"], "doubt": {}}), _arm({"sets": ["plain"]}))


def test_an_attribute_without_a_rule_is_left_as_it_is() -> None:
    material = replace(MATERIAL, policy=LabelPolicy())
    doubt = ArmSettings(sets=("plain",), doubt=DoubtConfig(band=0.4, precision=1.0))
    pd.testing.assert_frame_equal(
        make_arm(doubt, material).table, make_arm(ArmSettings(sets=("plain",)), material).table
    )


def test_changes_of_a_group_keep_the_rest_of_the_runs() -> None:
    arm = make_arm(
        read_values(
            ArmSettings,
            {"train": {"loss": {"margin": 0.5}, "augmentation": {"operations": 2}, "lr": 1e-3}},
            "arm",
        ),
        MATERIAL,
    )
    fit = arm.config(MATERIAL.fit)
    assert (fit.loss.margin, fit.loss.tau) == (0.5, 0.5)
    assert (fit.augmentation.operations, fit.augmentation.shift) == (2, 0.2)
    assert fit.lr == 1e-3
    assert set(arm.changes) == {"loss", "augmentation", "lr"}


def test_every_control_is_one_of_real_images_and_says_what_it_tells() -> None:
    assert {"logit_adjust", "class_balanced", "asymmetric", "ldam_drw"} <= CONTROLS.keys()
    assert {"distribution_balanced", "retrain_head", "repeat_factor"} <= CONTROLS.keys()
    for settings in CONTROLS.values():
        assert settings.meaning
        assert replace(settings, meaning="") != ArmSettings()
        assert (make_arm(settings, MATERIAL).table["source"] == "real").all()
    everything = RunConfig(controls=["all"])
    assert everything.controls == list(CONTROLS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"train": {"loss": {"taus": 1}}},
            r"the setting loss\.taus is not known; did you mean loss\.tau\?",
        ),
        ({"train": {"loss": {"tau": -1}}}, r"loss\.tau is -1\.0; give a number"),
        ({"train": {"loss": 3}}, r"train: loss is 3; give a mapping"),
        ({"train": {"balanc": 1.0}}, r"train: the setting balanc .* did you mean loss\.balance"),
        ({"train": {"epochs": 9}}, "an arm changes epochs; give changes of"),
        ({"repeats": {"threshold": 0}}, r"repeats\.threshold is 0\.0; give a share"),
        ({"repeats": {"replaced": 2}}, r"repeats\.replaced is 2\.0; give a share"),
        ({"rows": "replaced", "real": "none"}, "give real all, or other rows"),
        ({"doubt": {"band": 0.1}}, "doubt is given without sets"),
        ({"sets": ["plain"], "doubt": {"band": 2}}, r"doubt\.band is 2\.0; give a number"),
    ],
)
def test_a_mistake_is_named_in_one_line_before_any_work(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^define_arms\.a: .*{message}") as refused:
        RunConfig(define_arms={"a": values})
    assert "\n" not in str(refused.value)


def _documented() -> dict[str, Any]:
    """The examples of the module's text, as YAML."""
    lines = (recipes.chain.settings.arms.__doc__ or "").splitlines()
    examples = yaml.safe_load("\n".join(line for line in lines if line.startswith("    ")))
    assert len(examples) == 6
    return dict(examples)


def test_the_documented_mixes_train_with_equal_steps_and_say_what_they_change(
    tmp_path: Path,
) -> None:
    save_generator(tmp_path / "generator")
    save_folder(tmp_path / "data")
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"define_arms": _documented()}))
    out = tmp_path / "out"
    flags = tiny_flags(tmp_path / "data", tmp_path / "generator", out)
    arms = ["real", "minority", *_documented()]
    yaml_file = f"--config={tmp_path / 'arms.yaml'}"
    main([yaml_file, *flags, "--study.seeds=1", "--labeler=avatars", "--arms", *arms])
    units = {
        name: json.loads((out / "fits" / f"{name}-0" / "unit.json").read_text()) for name in arms
    }
    assert {unit["steps"] for unit in units.values()} == {3}
    assert units["light"]["table"] == units["minority"]["table"]
    assert units["sure"]["table"] != units["minority"]["table"]
    assert units["light"]["config"]["mixing"] == {"weight": 0.3, "own_norm": False}
    assert units["staged"]["config"]["second_stage"]["share"] == 0.3
    assert pd.read_csv(out / "summary.csv")["arm"].unique().tolist() == arms


def test_settings_are_read_from_python_as_from_yaml() -> None:
    written = {"rows": "oversampled", "repeats": {"threshold": 0.2}, "sets": ["plain"]}
    repeats = RepeatsConfig(threshold=0.2)
    assert read_values(ArmSettings, written, "arm") == ArmSettings(
        rows="oversampled", repeats=repeats, sets=("plain",)
    )
