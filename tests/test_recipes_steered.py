"""Runs that ask images for attributes: targets, edits of rare rows, the judge, the run's probe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from lightning.fabric import Fabric
from recipe_doubles import digests, save_folder, save_generator, tiny_flags

import recipes.celeba_augment
import recipes.chain.images.making
import recipes.chain.labels.labelers
import recipes.chain.study
import recipes.label
from augment import load_denoiser
from classify import Images, decode_tables, load_table
from classify.datasets.avatars import avatar_table
from labeling import Combination, Labeler, load_labeler
from recipes.celeba_augment import main
from recipes.chain.draw import labelled_draw
from recipes.chain.inputs import Inputs
from recipes.chain.labels.probe import generator_labeler
from recipes.chain.settings.targets import plan_targets, rare_rows

NAMES = ["Male", "Smiling"]
WISHES = {"Smiling=1": 4, "Male=0,Smiling=0": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a generator and a user's folder."""
    root = tmp_path_factory.mktemp("steered")
    save_generator(root / "generator")
    save_folder(root / "data")
    return root


@pytest.fixture
def no_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends where its classifiers would be trained."""
    monkeypatch.setattr(recipes.chain.study, "run_study", _interrupted)


def _until_fits(root: Path, out: Path, *more: str) -> Path:
    """The synthetic sets of a run that was stopped before its fits."""
    with pytest.raises(InterruptedError):
        main([*tiny_flags(root / "data", root / "generator", out), "--arms", "real", *more])
    return out / "synthetic"


def _targets(folder: Path) -> list[dict[str, int]]:
    """What each image was asked for, by the table."""
    table = pd.read_csv(folder / "metadata.csv").sort_values("seed").filter(like="target_")
    rows = table.rename(columns=lambda name: str(name).removeprefix("target_")).to_dict("records")
    return [{str(k): int(v) for k, v in row.items() if not np.isnan(v)} for row in rows]


@pytest.mark.usefixtures("no_fits")
def test_by_default_images_are_asked_for_what_is_rare(root: Path, tmp_path: Path) -> None:
    folder = _until_fits(root, tmp_path / "out", "targeted") / "targeted"
    train = load_table(root / "data").query("split == 'train'")
    plan = plan_targets(train, NAMES)
    assert _targets(folder) == [plan(seed) for seed in range(6)]
    record = json.loads((folder / "settings.json").read_text())["guidance"]
    assert record["steering"]["plan"] == plan.identity
    assert record["distance"] == "activations"  # up the minority measure too


@pytest.mark.usefixtures("no_fits")
def test_wishes_of_the_command_line_and_of_a_file_are_the_same(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "wishes.yaml"
    file.write_text(yaml.safe_dump(WISHES, sort_keys=False))
    flags = [f"--targets={json.dumps(WISHES)}", f"--targets={file}"]
    one, other = (
        _until_fits(root, tmp_path / str(number), "targeted", flag) / "targeted"
        for number, flag in enumerate(flags)
    )
    asked = _targets(one)
    assert asked.count({"Smiling": 1}) == 4
    assert asked.count({"Male": 0, "Smiling": 0}) == 2
    assert digests(one) == digests(other)
    assert yaml.safe_load((tmp_path / "1" / "config.yaml").read_text())["targets"] == WISHES


def test_what_was_asked_for_stands_in_the_table_and_the_card(root: Path, tmp_path: Path) -> None:
    flags = tiny_flags(root / "data", root / "generator", tmp_path / "out")
    few = ["--study.seeds=1", "--arms", "real", "targeted", "--judge=avatars"]
    main([*flags, *few, f"--targets={json.dumps(WISHES)}"])
    folder = tmp_path / "out" / "synthetic" / "targeted"
    table, card = pd.read_csv(folder / "metadata.csv"), (folder / "README.md").read_text()
    for name, value, asked in (("Male", 0, 2), ("Smiling", 0, 2), ("Smiling", 1, 4)):
        rows = table[table[f"target_{name}"] == value]
        assert len(rows) == asked
        hit = (rows[name] == value).mean()
        assert f"| {name} | {value} | {asked} | {hit:.3f} |" in card
    by_both = pd.read_csv(tmp_path / "out" / "targets.csv")
    assert list(by_both["labeler"]) == ["generator"] * 3 + ["judge avatars"] * 3
    assert list(by_both["asked"]) == [2, 2, 4] * 2
    record = json.loads((folder / "settings.json").read_text())["guidance"]["steering"]
    assert record["targets"] == WISHES


@pytest.mark.usefixtures("no_fits")
def test_edits_of_rare_rows_inherit_the_labels_that_the_labeler_agrees_with(
    root: Path, tmp_path: Path
) -> None:
    sets = tmp_path / "sets.yaml"
    sets.write_text("edited: {start: {rows: rare, strength: 0.4}, guidance: {}}\n")
    made = _until_fits(root, tmp_path / "out", "edited", f"--sets={sets}", "--labeler=avatars")
    table = pd.read_csv(made / "edited" / "metadata.csv")
    sources = rare_rows(load_table(root / "data"), NAMES).iloc[table["seed"]]
    thresholds, labelled = load_labeler("avatars").thresholds, 0
    for name in NAMES:
        own = (table[f"p_{name}"] >= thresholds[name]).to_numpy(float)
        source = sources[name].to_numpy(float)
        np.testing.assert_array_equal(table[name], np.where(own == source, source, np.nan))
        labelled += table[name].notna().sum()
    assert 0 < labelled < 12


@pytest.mark.usefixtures("no_fits")
def test_a_judge_labels_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _until_fits(root, tmp_path / "alone", "targeted")
    sets: dict[str, recipes.chain.study.Synthesised] = {}
    synthesise = recipes.chain.study.synthesise
    monkeypatch.setattr(
        recipes.chain.study, "synthesise", lambda *given: sets.update(synthesise(*given)) or sets
    )
    judged = _until_fits(root, tmp_path / "judged", "plain", "targeted", "--judge=avatars")
    assert digests(judged / "targeted") == digests(alone / "targeted")
    assert sets["plain"].judged is None  # was asked for nothing
    labels = sets["targeted"].judged
    assert labels is not None
    assert list(labels["file_name"]) == list(sets["targeted"].table["file_name"])
    assert not np.allclose(labels["p_Male"], sets["targeted"].table["p_Male"])


@pytest.mark.usefixtures("no_fits")
def test_by_default_the_generators_head_steers_and_the_labeler_has_no_part_in_it(
    root: Path, tmp_path: Path
) -> None:
    own, borrowed = (
        _until_fits(root, tmp_path / name, "targeted", f"--labeler={name}") / "targeted"
        for name in ("generator", "avatars")
    )
    assert digests(own, "*.png") == digests(borrowed, "*.png")
    assert _targets(own) == _targets(borrowed)
    tables = [pd.read_csv(folder / "metadata.csv") for folder in (own, borrowed)]
    assert not np.allclose(tables[0]["p_Male"], tables[1]["p_Male"])


@pytest.mark.usefixtures("no_fits")
def test_images_are_steered_where_the_labeler_has_no_gradients(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = Combination([load_labeler("avatars")])
    monkeypatch.setattr(recipes.chain.labels.labelers, "load_labeler", lambda _: joint)
    folder = _until_fits(root, tmp_path / "out", "targeted", "--labeler=a.onnx") / "targeted"
    assert len(_targets(folder)) == 6


@pytest.mark.parametrize(
    ("labelers", "by", "expected"),
    [
        (["generator"], "generator", True),
        (["avatars"], "generator", False),
        (["avatars"], "labeler", True),
        (["avatars", "generator"], "generator", True),
    ],
)
def test_a_labeler_that_steered_is_known_as_no_judge(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labelers: list[str],
    by: str,
    expected: bool,
) -> None:
    found: list[bool] = []

    def look(inputs: Inputs, *_: Any, **__: Any) -> None:
        settings = inputs.run.config.synthetic_sets["targeted"]
        found.append(inputs.labeler_steers(settings))
        raise InterruptedError

    monkeypatch.setattr(recipes.celeba_augment, "study", look)
    data = save_folder(tmp_path / "data", attributes=("Male", "Striped"))  # unknown to avatars
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    with pytest.raises(InterruptedError):
        main([*flags, f"--labeler={labelers}", f"--steering.by={by}"])
    assert found == [expected]
    assert not (tmp_path / "out" / "steering").exists() or labelers == ["avatars"]


def test_a_wish_that_the_head_cannot_steer_to_is_refused_before_any_image(
    root: Path, tmp_path: Path
) -> None:
    data = save_folder(tmp_path / "data")
    table = pd.read_csv(data / "metadata.csv")
    table.loc[table["split"] == "train", "Smiling"] = 1
    table.to_csv(data / "metadata.csv", index=False)
    flags = tiny_flags(data, root / "generator", tmp_path / "out")
    with pytest.raises(ValueError, match="targets ask for Smiling, which the labeler or the head"):
        main([*flags, "--labeler=avatars", "--targets", '{"Smiling=0": 6}'])
    assert not list((tmp_path / "out").rglob("synthetic"))


@pytest.mark.usefixtures("no_fits")
def test_few_labels_are_all_that_the_labeler_sees(root: Path, tmp_path: Path) -> None:
    _until_fits(root, tmp_path / "out", "plain", "--num_real=8", "--num_val=4")
    record = json.loads((tmp_path / "out" / "labeler" / "training.json").read_text())
    assert record["images"] == 12
    drawn = labelled_draw(load_table(root / "data"), NAMES, 8, 4)
    _fit(root, tmp_path / "out" / "labeler", drawn)  # or it would be refused


@pytest.mark.usefixtures("no_fits")
def test_of_the_embedded_images_few_are_labelled_and_another_labeler_judges(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = tiny_flags(root / "data", root / "generator", tmp_path / "out")

    def small(folder: Path) -> pd.DataFrame:
        return avatar_table(folder, train=310, val=210, test=20)

    monkeypatch.setattr(recipes.celeba_augment, "avatar_table", small)
    with pytest.raises(InterruptedError):
        main([*(flag for flag in flags if "--data" not in flag), "--arms", "real", "plain"])
    record = json.loads((tmp_path / "out" / "labeler" / "training.json").read_text())
    assert record["images"] == 300 + 200
    settings = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (settings["num_real"], settings["num_val"]) == (300, 200)
    assert (settings["labeler"], settings["judge"]) == ("generator", "avatars")


@pytest.mark.usefixtures("no_fits")
def test_where_an_image_is_left_out_the_others_keep_their_targets(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = recipes.chain.images.making.generate

    def without_the_second(*args: Any, **settings: Any) -> pd.DataFrame:
        return whole(*args, **settings).drop(index=1)  # as one that is not finite

    monkeypatch.setattr(recipes.chain.images.making, "generate", without_the_second)
    folder = _until_fits(root, tmp_path / "out", "targeted") / "targeted"
    table = pd.read_csv(folder / "metadata.csv").dropna(subset="admission")
    plan = plan_targets(_train_rows(root), NAMES)
    assert len(table) == 5
    for row in table.to_dict("records"):
        asked = {n: row[f"target_{n}"] for n in NAMES if f"target_{n}" in row}
        assert {n: v for n, v in asked.items() if not np.isnan(v)} == plan(int(row["seed"]))


def _train_rows(root: Path) -> pd.DataFrame:
    table = load_table(root / "data", NAMES)
    return table[table["split"] == "train"]


def test_a_runs_labeler_labels_other_images_with_its_generator_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(recipes.chain.study, "run_study", _interrupted)
        _until_fits(root, tmp_path / "out", "plain")
    words = ["label", str(root / "data"), f"--labeler={tmp_path / 'out' / 'labeler'}"]
    out = tmp_path / "labelled"
    recipes.label.main([*words, f"--generator={root / 'generator'}", f"--out={out}"])
    assert {"p_Male", "p_Smiling"} <= set(pd.read_csv(out / "metadata.csv"))
    with pytest.raises(ValueError, match="give that network too: --generator"):
        recipes.label.main([*words, f"--out={tmp_path / 'other'}"])
    with pytest.raises(ValueError, match="was fitted on the features of another generator"):
        recipes.label.main([*words, "--generator=avatars-32", f"--out={tmp_path / 'other'}"])


def _interrupted(*_: object, **__: object) -> pd.DataFrame:
    raise InterruptedError


def _fit(
    root: Path, folder: Path, table: pd.DataFrame, names: Sequence[str] = NAMES, **options: bool
) -> Labeler:
    images: Images = decode_tables([table], 16)
    return generator_labeler(
        load_denoiser(str(root / "generator")),
        table,
        images,
        list(names),
        folder,
        source=str(root / "data"),
        fabric=Fabric(accelerator="cpu", devices=1),
        **options,
    )


def test_the_probe_of_a_run_is_taken_as_it_stands_and_another_is_refused(
    root: Path, tmp_path: Path
) -> None:
    table, folder = load_table(root / "data"), tmp_path / "labeler"
    first = _fit(root, folder, table)
    before = digests(folder)
    assert _fit(root, folder, table).sha256 == first.sha256
    assert digests(folder) == before
    relabelled = table.assign(Male=1 - table["Male"])
    fewer = table.drop(index=table.index[0])
    for refused in (
        lambda: _fit(root, folder, relabelled),
        lambda: _fit(root, folder, fewer),
        lambda: _fit(root, folder, table, ["Male"]),
        lambda: _fit(root, folder, table, mirror=False),
    ):
        with pytest.raises(ValueError, match=r"training\.json is of other work: [^\n]*$"):
            refused()
    assert digests(folder) == before
    # Labels of test rows are not looked at.
    test = table["split"] == "test"
    hidden = table.assign(Male=table["Male"].mask(test))
    assert _fit(root, folder, hidden).sha256 == first.sha256
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds card\.json but no training\.json"):
        _fit(root, folder, table)
