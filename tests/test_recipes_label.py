"""`recipes/label.py`: from a table to a policy, labels and their quality."""

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
from recipes.label import main


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
        "recipes.label.load_labeler", lambda src: Labeler(card, _MeanColour(), sha256="abc")
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
    arguments += ["--soft"]
    with pytest.raises(ValueError, match="rows whose source is not synthetic"):
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
        (["label", "nowhere", "--out", "new"], "nowhere"),
        (["fit", "TABLE", "--out", "TABLE/metadata.csv"], "exists and is not overwritten"),
        (["label", "TABLE", "--out", "TABLE"], "metadata.csv exists and is not overwritten"),
        (["label", "TABLE", "--out", "TABLE/0/0.png"], r"0\.png is a file"),
        (["export", "--out", "TABLE/0/0.png/a.onnx"], r"0\.png is a file"),
        (["label", "TABLE", "--out", "new", "--policy", "none.json"], "policy none.json is miss"),
        (["evaluate", "TABLE", "--out", "new", "--attributes", "hat"], "lacks hat"),
        (["evaluate", "TABLE", "--out", "new", "--attributes", "Male"], "attributes are Male"),
        (["evaluate", "TABLE", "--out", "new", "--groups", "Old"], "no column Old to group"),
        (["evaluate", "TABLE", "--out", "new", "--split", "dev"], "split"),
        (["fit", "TABLE", "--out", "new", "--wanted.band", "2"], "band"),
        (["fit", "TABLE", "--out", "new", "--labeler", "[]"], "labeler is empty"),
        (["paint"], "the command is 'paint'; give one of label, fit"),
        ([], "the command is ''"),
    ],
)
def test_bad_input_is_one_line(
    table: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(table.parent)
    words = [word.replace("TABLE", str(table)) for word in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        main([*words, *(["--labeler", "x"] if "--out" in words and "[]" not in words else [])])
    assert "\n" not in str(caught.value)
    assert not (table.parent / "new").exists()


@pytest.mark.parametrize("command", ["label", "fit", "evaluate", "export"])
def test_settings_may_stand_in_a_file_and_are_explained(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The command line goes before the file."""
    for topic in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(topic)
        assert ended.value.code == 0
        assert "--labeler" in capsys.readouterr().out
    (tmp_path / "taken").touch()
    settings = {"table": str(table), "labeler": ["x"], "out": str(tmp_path / "new")}
    settings |= {"batch_size": 7}
    if command == "export":
        settings = {"labeler": ["x"], "out": str(tmp_path / "new.onnx")}
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    config = [command, "--config", str(tmp_path / "settings.yaml")]
    with pytest.raises(ValueError, match="taken"):
        main([*config, "--out", str(tmp_path / "taken" / "a.onnx")])
    if command == "export":
        pytest.importorskip("onnxscript")
    main(config)
    assert Path(settings["out"]).exists()


def test_labelers_are_named_one_after_another(
    table: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def load(sources: list[str]) -> None:
        asked.append(sources)
        raise ValueError("seen")

    monkeypatch.setattr("recipes.label.load_labeler", load)
    with pytest.raises(ValueError, match="seen"):
        main(["export", "--labeler", "a", "b", "--out", str(tmp_path / "a.onnx")])
    assert asked == [["a", "b"]]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "file_name,split\n../x.png,val\n"])
def test_a_table_that_is_none_is_one_line(table: Path, tmp_path: Path, content: str) -> None:
    (table / "metadata.csv").write_text(content)
    with pytest.raises(ValueError, match=r"metadata\.csv"):
        main(["label", str(table), "--labeler", "x", "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_another_image_is_never_taken_for_ours(table: Path, tmp_path: Path) -> None:
    """An interrupted run goes on; images of something else are left alone."""
    out = tmp_path / "out"
    (out / "0").mkdir(parents=True)
    arguments = ["label", str(table), "--labeler", "x", "--out", str(out)]
    (out / "0" / "0.png").write_bytes(b"someone's")
    with pytest.raises(ValueError, match=r"0\.png is another image"):
        main(arguments)
    assert (out / "0" / "0.png").read_bytes() == b"someone's"
    assert not (out / "metadata.csv").exists()
    (out / "0" / "0.png").write_bytes((table / "0" / "0.png").read_bytes())
    main(arguments)
    assert len(load_table(out)) == 90


def test_images_that_are_symbolic_links_arrive_as_files(table: Path, tmp_path: Path) -> None:
    """A relative link would lead nowhere from the new folder."""
    image, kept = table / "0" / "0.png", table / "kept.png"
    image.rename(kept)
    image.symlink_to(Path("..") / "kept.png")
    main(["label", str(table), "--labeler", "x", "--out", str(tmp_path / "out")])
    arrived = tmp_path / "out" / "0" / "0.png"
    assert not arrived.is_symlink()
    assert arrived.read_bytes() == kept.read_bytes()


def test_a_folder_without_a_table_is_labelled(table: Path, tmp_path: Path) -> None:
    (table / "metadata.csv").unlink()
    out = tmp_path / "out"
    main(["label", str(table), "--labeler", "x", "--attributes", "red", "--out", str(out)])
    labelled = pd.read_csv(out / "metadata.csv")
    assert list(labelled.columns) == ["file_name", "red", "p_red"]
    assert len(labelled) == 90


def test_celebas_own_layout_is_read(table: Path, tmp_path: Path) -> None:
    celeba = tmp_path / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    rows = pd.read_csv(table / "metadata.csv")
    lines, splits = [str(len(rows)), "red Male"], []
    for i, row in rows.iterrows():
        name = f"{i:06d}.jpg"
        (table / row["file_name"]).rename(celeba / "img_align_celeba" / name)
        lines.append(f"{name} {2 * row['red'] - 1} {2 * row['Male'] - 1}")
        splits.append(f"{name} {('train', 'val', 'test').index(row['split'])}")
    (celeba / "list_attr_celeba.txt").write_text("\n".join(lines))
    (celeba / "list_eval_partition.txt").write_text("\n".join(splits))
    arguments = [str(celeba), "--labeler", "x", "--attributes", "red"]
    csv = tmp_path / "quality.csv"
    main(["evaluate", *arguments, "--groups", "Male", "--min_count", "2", "--out", str(csv)])
    assert list(pd.read_csv(csv)["group"]) == ["all", "Male=0", "Male=1"]
    main(["label", *arguments, "--out", str(tmp_path / "out")])
    labelled = load_table(tmp_path / "out", ["red"])
    assert labelled["red"].notna().all()
    assert labelled["file_name"].iloc[0] == "img_align_celeba/000000.jpg"


def test_the_policy_file_is_plain_json(table: Path, tmp_path: Path) -> None:
    main(["fit", str(table), "--labeler", "x", "--out", str(tmp_path / "p.json")])
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["config"]["both_precision"] is None
    assert 0 < content["rules"]["red"]["present"] < 1
