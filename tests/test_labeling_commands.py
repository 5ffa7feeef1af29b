"""`python -m labeling`: from a table to a policy, labels and their quality."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from classify import load_table
from labeling import Labeler, LabelerCard, LabelPolicy
from labeling.__main__ import main


class _MeanColour(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))[:, :2]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real images whose redness is mostly `red`; test rows labelled the other way round."""
    card = LabelerCard(
        architecture="mean colour",
        attributes=["red", "green"],
        image_size=4,
        mean=[0.5] * 3,
        std=[0.1] * 3,
        thresholds={},
        source="test",
        licence="MIT",
        command="",
    )
    monkeypatch.setattr(
        "labeling.commands.load_labeler", lambda src: Labeler(card, _MeanColour(), sha256="abc")
    )
    folder, rng = tmp_path / "real", np.random.default_rng(0)
    rows = []
    for i in range(90):
        shade = int(rng.integers(90, 166))
        name = f"{i % 2}/{i}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(folder / name)
        split = ("train", "val", "test")[i % 3]
        red = (shade + rng.normal(0, 5) > 128) != (split == "test")
        rows.append({"file_name": name, "split": split, "red": int(red), "Male": i % 4 // 2})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return folder


def test_fit_then_label_then_evaluate(table: Path, tmp_path: Path) -> None:
    policy, out, csv = tmp_path / "policy.json", tmp_path / "out", tmp_path / "quality.csv"
    fitted = ["--wanted.both_precision", "0.9", "--wanted.min_count", "3"]
    main(["fit", str(table), "--labeler", "x", "--out", str(policy), *fitted])
    rule = LabelPolicy.read(policy).rules["red"]
    assert rule.n == 30
    assert LabelPolicy.read(policy).labeler == "abc"
    assert rule.precision_present is not None
    assert rule.precision_present >= 0.9

    chosen = ["--labeler", "x", "--policy", str(policy)]
    main(["label", str(table), *chosen, "--out", str(out), "--attributes", "red", "green"])
    labelled = load_table(out)  # what classify reads
    assert len(labelled) == 90
    assert {"red", "green", "p_red", "p_green"} <= set(labelled.columns)
    assert (table / "0/0.png").read_bytes() == (out / "0/0.png").read_bytes()

    names = ["--groups", "Male", "--min_count", "2"]
    main(["evaluate", str(table), *chosen, "--out", str(csv), *names])
    quality = pd.read_csv(csv).set_index("group")
    assert list(quality.index) == ["all", "Male=0", "Male=1"]
    assert quality.loc["all", "error"] <= 0.1
    assert quality.loc["all", "kept"] == pytest.approx(rule.kept)
    test_csv = tmp_path / "test.csv"
    main(["evaluate", str(table), *chosen, "--out", str(test_csv), "--split", "test"])
    assert pd.read_csv(test_csv)["error"].iloc[0] > 0.8


def test_a_policy_does_not_depend_on_test_rows(table: Path, tmp_path: Path) -> None:
    """Only real val rows decide, so other labels elsewhere change nothing."""
    arguments = ["fit", str(table), "--labeler", "x", "--out"]
    main([*arguments, str(tmp_path / "a.json")])
    rows = pd.read_csv(table / "metadata.csv")
    rows.loc[rows["split"] != "val", "red"] = 1 - rows["red"]
    rows.to_csv(table / "metadata.csv", index=False)
    main([*arguments, str(tmp_path / "b.json")])
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_soft_labels_are_read_by_classify_where_asked(table: Path, tmp_path: Path) -> None:
    arguments = ["label", str(table), "--labeler", "x", "--out", str(tmp_path / "out")]
    arguments += ["--soft", "true"]
    with pytest.raises(SystemExit, match="rows that are not synthetic"):
        main(arguments)
    rows = pd.read_csv(table / "metadata.csv").assign(source="synthetic", split="train")
    rows.to_csv(table / "metadata.csv", index=False)
    main(arguments)
    with pytest.raises(ValueError, match="is no attribute"):
        load_table(tmp_path / "out")
    soft = load_table(tmp_path / "out", soft=True)
    np.testing.assert_allclose(soft["red"], soft["p_red"], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label", "nowhere", "--out", "new"], "nowhere is missing; give a folder"),
        (["fit", "TABLE", "--out", "TABLE/metadata.csv"], "exists and is not overwritten"),
        (["label", "TABLE", "--out", "TABLE"], "metadata.csv exists and is not overwritten"),
        (["label", "TABLE", "--out", "new", "--policy", "none.json"], "policy none.json is miss"),
        (["evaluate", "TABLE", "--out", "new", "--attributes", "hat"], "attributes are hat"),
        (["evaluate", "TABLE", "--out", "new", "--groups", "Old"], "no column Old to group"),
        (["evaluate", "TABLE", "--out", "new", "--split", "dev"], "split"),
        (["fit", "TABLE", "--out", "new", "--wanted.band", "2"], "band"),
        (["paint"], "paint"),
    ],
)
def test_bad_input_is_one_line(
    table: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(table.parent)
    words = [word.replace("TABLE", str(table)) for word in arguments]
    with pytest.raises(SystemExit, match=message) as caught:
        main([*words, *(["--labeler", "x"] if len(words) > 1 else [])])
    assert "\n" not in str(caught.value)
    assert not (table.parent / "new").exists()


def test_labelers_are_named_one_after_another(
    table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def load(sources: list[str]) -> None:
        asked.append(sources)
        raise ValueError("seen")

    monkeypatch.setattr("labeling.commands.load_labeler", load)
    with pytest.raises(SystemExit, match="seen"):
        main(["export", "--labeler", "a", "--labeler", "b", "--out", str(tmp_path / "a.onnx")])
    assert asked == [["a", "b"]]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "file_name,split\n../x.png,val\n"])
def test_a_table_that_is_none_is_one_line(table: Path, tmp_path: Path, content: str) -> None:
    (table / "metadata.csv").write_text(content)
    with pytest.raises(SystemExit, match=r"metadata\.csv"):
        main(["label", str(table), "--labeler", "x", "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_the_policy_file_is_plain_json(table: Path, tmp_path: Path) -> None:
    main(["fit", str(table), "--labeler", "x", "--out", str(tmp_path / "p.json")])
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["config"]["both_precision"] is None
    assert 0 < content["rules"]["red"]["present"] < 1
