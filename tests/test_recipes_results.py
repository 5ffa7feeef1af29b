"""What a run tells, of sets and arms of any name: files, figures, lines, and who computes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from augment import Selection
from classify import attribute_scores, best_thresholds, compare_pairs, pairs_with, read_predictions
from classify.metrics import fitted_scores
from classify.predictions import write_predictions
from labeling import LabelerCard, LabelPolicy, Rule
from recipes.chain.results.comparison import best_on_val, compared_pairs, judged_pairs
from recipes.chain.results.quality import (
    label_rarity,
    labeler_scores,
    log_probabilities,
    prevalence,
)
from recipes.chain.results.tell import tell
from recipes.chain.settings.sets import GuidanceConfig, SyntheticSet

ATTRIBUTES = ["Male", "Smiling"]
SETS = {"first": ("first",), "second": ("second",), "both": ("first", "second")}
ARMS = {"real": (), "again": (), **SETS}
"""Arm -> its sets; `again` is a control."""
SEEDS = 2
FILES = [
    "scores", "summary", "comparison", "audit", "admission", "realism", "label_quality",
    "label_trust", "labeler_scores", "targets",
]  # fmt: skip


def _real() -> pd.DataFrame:
    """Rows of all splits, a fifth of them Smiling."""
    rng = np.random.default_rng(0)
    splits = ["train"] * 40 + ["val"] * 60 + ["test"] * 200
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(300)], "split": splits})
    table["Male"] = np.tile([0.0, 1.0], 150)
    table["Smiling"] = (rng.random(300) < 0.2).astype(float)
    return table


def _predict(
    real: pd.DataFrame, split: Literal["val", "test"], folder: Path, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and labels of a split, of which the first are written."""
    rows = real[real["split"] == split]
    labels = rows[ATTRIBUTES].to_numpy(np.float32)
    p = np.clip(labels + rng.normal(0, 0.4, labels.shape), 0, 1).astype(np.float32)
    write_predictions(folder, rows, ATTRIBUTES, p, split)
    return torch.from_numpy(p), torch.from_numpy(labels)


def _study(out: Path, real: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Predictions of every fit as a study leaves them, and its scores."""
    parts = []
    for place, arm in enumerate(arms):
        for seed in range(SEEDS):
            folder = out / "fits" / f"{arm}-{seed}"
            folder.mkdir(parents=True)
            rng = np.random.default_rng([place, seed])
            given = {split: _predict(real, split, folder, rng) for split in ("test", "val")}
            parts += [
                attribute_scores(*given["test"], ATTRIBUTES, split="test").assign(
                    arm=arm, seed=seed
                ),
                fitted_scores(
                    *given["test"],
                    ATTRIBUTES,
                    best_thresholds(*(values.numpy() for values in given["val"])),
                    split="test",
                ).assign(arm=arm, seed=seed),
            ]
    return pd.concat(parts)[["arm", "seed", "split", "attribute", "metric", "value"]]


def _set(out: Path, name: str) -> SimpleNamespace:
    """Eight images, of which one was rejected."""
    folder = out / "synthetic" / name
    folder.mkdir(parents=True)
    names = [f"{seed}.png" for seed in range(8)]
    for seed, file in enumerate(names):
        Image.new("RGB", (8, 8), (30 * seed, 0, 0)).save(folder / file)
    table = pd.DataFrame(
        {
            **{"file_name": names, "path": [str(folder / file) for file in names]},
            **{"seed": range(8), "Male": 1.0, "Smiling": [1.0, 0.0] * 4},
            "admission": ["blank", *["kept"] * 7],
        }
    )
    report = pd.DataFrame(
        [("Smiling=1", 9, 3, 3), ("all", 7, 7, 7)], columns=["wish", "wanted", "available", "got"]
    )
    guidance = GuidanceConfig(distance="l2") if name == "second" else None
    selection = Selection(table[1:], report)
    return SimpleNamespace(
        name=name,
        settings=SyntheticSet(guidance=guidance),
        table=table,
        selection=selection,
        realism=None,
        doubted={"Male": "seen in 99 %"} if name == "second" else {},
    )


class _Run:
    """As `recipes.chain.run.Run`."""

    def __init__(self, out: Path, focus: str | None, first: bool) -> None:
        self.out, self.fabric = out, SimpleNamespace(is_global_zero=first)
        self.notes, self.cautions, self.said = ["Took a second."], list[str](), list[str]()
        self.reservations = ["No synthetic image has a label of Smiling."]
        self.config = SimpleNamespace(
            generator="runs/generator",
            labelers=["mine"],
            study=SimpleNamespace(seeds=SEEDS),
            focus_arm=focus,
            record=lambda: {"generator": "runs/generator"},
        )

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def caution(self, text: str) -> None:
        self.cautions.append(text)


def _inputs(real: pd.DataFrame, *, known: bool = True) -> SimpleNamespace:
    """A labeler that is always right about Male, and says that everybody smiles."""
    card = LabelerCard(
        architecture="resnet34", attributes=ATTRIBUTES, image_size=8, mean=[0.5] * 3,
        std=[0.5] * 3, thresholds={}, source="mine", licence="MIT", command="",
    )  # fmt: skip
    return SimpleNamespace(
        table=real,
        attributes=ATTRIBUTES,
        asks=lambda settings: settings.asks,
        source="noise",
        denoiser=SimpleNamespace(card={"name": "noise", "licence": "MIT"}),
        labeler=SimpleNamespace(card=card, sha256="abc", attributes=ATTRIBUTES),
        labeler_steers=lambda _: True,
        policy=LabelPolicy(
            rules={name: Rule(present=0.5, absent=0.5) for name in (*ATTRIBUTES, "Hat")}
        ).doubting({"Smiling": "it says so of everybody"}),
        log_probability=(lambda table: -1.0 - table["Smiling"].to_numpy()) if known else None,
        label=lambda table, doubtful: table.assign(
            Smiling=1.0, p_Male=table["Male"].astype("float32"), p_Smiling=np.float32(0.9)
        ),
    )


def _tell(
    out: Path, arms: Sequence[str] = tuple(ARMS), focus: str | None = "second", first: bool = True
) -> tuple[pd.DataFrame, _Run]:
    real, run = _real(), _Run(out, focus, first)
    scores = _study(out, real, arms)
    used = dict.fromkeys(name for arm in arms for name in ARMS[arm])
    sets = {name: _set(out, name) for name in used}
    meanings = {"again": "the same again", "both": "all of them"}
    made = {
        arm: SimpleNamespace(sets=ARMS[arm], meaning=meanings.get(arm, ""), table=real)
        for arm in arms
    }
    inputs = _inputs(real)
    inputs.run = run
    given = cast(Any, (inputs, "Of nothing", sets, made, scores))
    return tell(*given, reference=True), run


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, _Run]:
    """The folder, the summary and the run."""
    out = tmp_path_factory.mktemp("results")
    return out, *_tell(out)


def test_every_file_is_there(told: tuple[Path, pd.DataFrame, _Run]) -> None:
    out, summary, _ = told
    files = {f"{name}.csv" for name in FILES} | {"report.html", "audit", "fits", "synthetic"}
    if find_spec("pyarrow"):
        files.add("scores.parquet")
    assert {path.name for path in out.iterdir()} == files
    pd.testing.assert_frame_equal(pd.read_csv(out / "summary.csv"), summary)
    audited = {f"{tool}-{arm}.csv.gz" for tool in ("fairlearn", "aequitas") for arm in
               ("real", "second")}  # fmt: skip
    assert {path.name for path in (out / "audit").iterdir()} == audited
    assert set(pd.read_csv(out / "audit.csv")["arm"]) == {"real", "second"}
    for name, kind in (("first", "Ordinary"), ("second", "Minority")):
        card = (out / "synthetic" / name / "README.md").read_text(encoding="utf-8")
        assert f"# {kind} samples of noise" in card
    admission = pd.read_csv(out / "admission.csv")
    assert list(admission["arm"]) == ["first", "first", "second", "second"]


def test_arms_are_compared_with_those_before_and_the_focus_with_all(
    told: tuple[Path, pd.DataFrame, _Run],
) -> None:
    out = told[0]
    found = pd.read_csv(out / "comparison.csv")
    pairs = list(dict.fromkeys(zip(found["arm"], found["baseline"], strict=True)))
    assert pairs == [
        ("again", "real"), ("first", "real"), ("second", "real"), ("both", "real"),
        ("first", "again"), ("second", "again"), ("both", "again"),
        ("second", "first"), ("both", "first"),
        ("both", "second"),
        ("second", "both"),
    ]  # fmt: skip
    predictions = read_predictions(out, list(ARMS), SEEDS)
    shares = _real().query("split == 'train'")[ATTRIBUTES].mean()
    whole = compare_pairs(
        predictions.labels,
        predictions.probabilities,
        predictions.attributes,
        pairs_with("real", predictions.probabilities),
        fitted=read_predictions(out, list(ARMS), SEEDS, "val").best_thresholds(),
        shares={str(name): share for name, share in shares.items()},
    )
    key = ["arm", "baseline", "attribute", "metric"]
    whole = whole.set_index(key)
    pd.testing.assert_frame_equal(found.set_index(key).loc[whole.index], whole)


def test_the_lines_judge_every_arm_with_a_set_and_the_focus_against_all(
    told: tuple[Path, pd.DataFrame, _Run],
) -> None:
    first, table, verdict, *lines, end = told[2].said
    assert first == "Comparing the arms, and writing the report ..."
    assert table.startswith("Mean over 2 of 2 attributes, real test images, 2 seeds")
    assert verdict.startswith("Verdict: No synthetic image has a label of Smiling. In macro F1, ")
    number = r"[+-]\d\.\d{3}"
    pairs = re.findall(
        rf"^(\w+) - (\w+): .* in macro F1 \({number} \[{number}, {number}\]\)",
        "\n".join(lines),
        re.M,
    )
    assert pairs == [
        ("first", "real"), ("second", "real"), ("second", "first"), ("second", "both"),
        ("both", "real"),
    ]  # fmt: skip
    assert len(lines) == len(pairs)
    assert end.startswith("Report: ")


def test_an_arm_with_a_set_is_judged_against_the_rivals_that_were_run() -> None:
    def arm(*sets: str) -> Any:
        return SimpleNamespace(sets=sets)

    arms = {"real": arm(), "plain": arm("plain"), "more": arm("more"), "minority": arm("minority"),
            "reweight": arm(), "oversample": arm()}  # fmt: skip
    pairs = judged_pairs(arms, "minority", "real")
    assert pairs == [
        ("plain", "real"), ("plain", "oversample"),
        ("more", "real"), ("more", "oversample"), ("more", "plain"),
        ("minority", "real"), ("minority", "oversample"), ("minority", "plain"),
        ("minority", "more"),
    ]  # fmt: skip
    compared = compared_pairs(arms, "minority", "real")
    assert set(pairs) <= set(compared)
    assert len(compared) == len(set(compared))
    more = set(judged_pairs(arms, "minority", "reweight")) - set(pairs)
    assert more == {("plain", "reweight"), ("more", "reweight"), ("minority", "reweight")}


def test_the_best_arm_is_chosen_on_val_alone() -> None:
    scores = pd.DataFrame(
        [
            ("real", "val", "macro", "f1", 0.5), ("real", "test", "macro", "f1", 0.9),
            ("reweight", "val", "macro", "f1", 0.6), ("reweight", "val", "macro", "recall", 0.1),
            ("minority", "val", "macro", "f1", 0.8), ("real", "val", "Bald", "f1", 0.9),
        ],
        columns=["arm", "split", "attribute", "metric", "value"],
    )  # fmt: skip
    assert best_on_val(scores, ["real", "reweight"]) == "reweight"
    assert best_on_val(scores.assign(value=np.nan), ["real", "reweight"]) == "real"


def test_the_labeler_stands_beside_the_arms_at_its_own_thresholds(
    told: tuple[Path, pd.DataFrame, _Run],
) -> None:
    out, summary, run = told
    scores = pd.read_csv(out / "labeler_scores.csv").set_index(["attribute", "metric"])["value"]
    assert scores["Male"].eq(1).all()
    smiling = float(_real().query("split == 'test'")["Smiling"].mean())
    assert scores["Smiling", "precision"] == pytest.approx(smiling)  # it says so of everybody
    assert scores["Smiling", "recall"] == 1
    assert scores["Smiling", "average_precision"] == pytest.approx(smiling)
    assert scores["Smiling", "f1_fitted"] == pytest.approx(2 * smiling / (1 + smiling))
    f1 = (1 + 2 * smiling / (1 + smiling)) / 2
    assert scores["macro", "f1"] == pytest.approx(f1)
    assert f"\nlabeler: mine  {f1:.3f} " in run.said[1]
    assert "labeler: mine" in (out / "report.html").read_text(encoding="utf-8")
    assert set(summary["arm"]) == set(ARMS)  # it is none


def test_a_cell_that_the_labeler_left_empty_counts_as_absent() -> None:
    real = pd.DataFrame({"a": [1.0, 1.0, 0.0, 0.0]})
    labelled = real.assign(a=[1.0, np.nan, 0.0, np.nan], p_a=np.float32([0.9, 0.5, 0.1, 0.4]))
    splits = ("val", "test")
    scores = labeler_scores(
        dict.fromkeys(splits, real), dict.fromkeys(splits, labelled), ["a"]
    ).set_index(["attribute", "metric"])["value"]
    assert scores["a", "recall"] == 0.5
    assert scores["a", "precision"] == 1
    assert scores["a", "average_precision"] == scores["a", "f1_fitted"] == 1


def test_the_page_tells_of_all_sets_and_arms(told: tuple[Path, pd.DataFrame, _Run]) -> None:
    out, _, run = told
    page = (out / "report.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h2>([^<]*)</h2>", page)
    assert titles == [
        "Verdict", "Scores by arm", "Controls", "F1 by attribute", "Differences by attribute",
        "Fairness audit", "Samples", "How rare the sets are", "Admission", "Label quality", "Notes",
        "Settings, weights and versions",
    ]  # fmt: skip
    for pair in ("first against real", "second against both", "both against real"):
        assert f'<th scope="row">{pair}</th>' in page
    assert "rejected as blank" in page
    assert "all of them" in page  # the meaning of an arm with sets
    assert "real test, the labeler&#39;s labels" in page
    assert "paper: with minority samples" in page
    assert '<th scope="row">Hat</th>' not in page  # the policy knows it, the study does not
    assert run.cautions == []  # every fit has learned something
    assert "none: it says so of everybody" in page
    assert pd.read_csv(out / "label_trust.csv").set_index("attribute")["doubt"].to_dict() == {
        "Male": "seen in 99 %", "Smiling": "it says so of everybody"
    }  # fmt: skip


def test_only_the_first_process_computes_and_writes(tmp_path: Path) -> None:
    summary, run = _tell(tmp_path, ["real", "first"], "first", first=False)
    assert list(summary["arm"].unique()) == ["real", "first"]
    assert {path.name for path in tmp_path.iterdir()} == {"fits", "synthetic"}
    assert run.said == ["Comparing the arms, and writing the report ..."]
    assert not list(tmp_path.rglob("README.md"))


@pytest.mark.parametrize("arms", [["real"], ["real", "again"]])
def test_a_study_without_a_set_has_no_verdict(tmp_path: Path, arms: list[str]) -> None:
    _tell(tmp_path, arms, None)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "so there is no verdict" in page
    assert not (tmp_path / "audit.csv").exists()
    assert list(pd.read_csv(tmp_path / "comparison.csv"))[:2] == ["arm", "baseline"]


def test_labels_are_rare_together_and_an_empty_one_counts_nothing() -> None:
    table = pd.DataFrame({"a": [1.0, 0.0, np.nan], "b": [1.0, 1.0, 1.0]})
    shares = pd.Series({"a": 0.25, "b": 0.5})
    expected = -np.log([0.25 * 0.5, 0.75 * 0.5, 0.5])
    np.testing.assert_allclose(label_rarity(table, shares), expected)


def test_shares_and_log_probabilities_are_those_of_the_tables() -> None:
    real = pd.DataFrame({"a": [1.0, 0.0, 0.0], "split": ["train", "train", "test"]})
    sets = {"one": pd.DataFrame({"a": [1.0, 1.0]}), "none": pd.DataFrame({"a": [np.nan]})}
    found = prevalence(real, sets, ["a"])
    assert found.loc["a"].fillna(-1).to_dict() == {"real": 0.5, "one": 1.0, "none": -1.0}

    def known(table: pd.DataFrame) -> Any:
        return -2.0 * table["a"].to_numpy()

    rows = log_probabilities(known, {"real": real, "one": sets["one"]}, ["a"])
    assert rows is not None
    assert rows.loc["one"].to_dict() == {"mean_log_probability": -2.0, "n": 2.0}
    assert log_probabilities(known, sets, ["a"]) is None  # a label is empty
