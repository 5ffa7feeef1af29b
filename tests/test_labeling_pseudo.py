"""Labelling a table: decoding, thresholds, empty columns, batches and processes."""

import dataclasses
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric
from PIL import Image
from torch import nn

from labeling import (
    Combination,
    Labeler,
    LabelerCard,
    LabelPolicy,
    Rule,
    label_probabilities,
    pseudo_label,
)
from labeling.card import Interpolation
from labeling.pseudo import _square, read_plain

SIZE = 4


class _MeanColour(nn.Module):
    """Logits that are the mean red and the mean green, so that an image's answer is known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))[:, :2]


def _labeler() -> Labeler:
    card = LabelerCard(
        architecture="mean colour",
        attributes=["red", "green"],
        image_size=SIZE,
        mean=[0.5] * 3,
        std=[0.1] * 3,
        thresholds={"red": 0.5, "green": 0.9},
        source="test",
        licence="MIT",
        command="",
    )
    return Labeler(card, _MeanColour())


def _table(folder: Path, n: int = 7, size: tuple[int, int] = (SIZE, SIZE)) -> pd.DataFrame:
    paths = []
    for i in range(n):
        paths.append(folder / f"{i}.png")
        Image.new("RGB", size, (30 * i, 255 - 30 * i, 0)).save(paths[-1])
    names = [path.name for path in paths]
    return pd.DataFrame(
        {"file_name": names, "split": "train", "path": [str(p) for p in paths]},
        index=range(5, 5 + n),
    )


def _expected(n: int = 7) -> np.ndarray:
    red = np.array([30 * i for i in range(n)]) / 255
    green = np.array([255 - 30 * i for i in range(n)]) / 255
    return 1 / (1 + np.exp(-(np.stack([red, green], 1) - 0.5) / 0.1))


def test_labels_follow_probabilities_and_thresholds(tmp_path: Path) -> None:
    table = _table(tmp_path)
    result = pseudo_label(table, _labeler(), ["red", "green"])
    p = result[["p_red", "p_green"]].to_numpy()
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, _expected(), atol=1e-6)
    np.testing.assert_array_equal(result[["red", "green"]], _expected() >= [0.5, 0.9])
    assert result["red"].dtype == np.float64
    pd.testing.assert_frame_equal(result[list(table.columns)], table)
    assert "red" not in table.columns


def test_attributes_the_labeler_does_not_know_stay_empty(tmp_path: Path) -> None:
    table = _table(tmp_path).assign(Bald=1.0, red=np.nan)
    result = pseudo_label(table, _labeler(), ["Bald", "red"])
    own = ["file_name", "split", "path"]
    assert list(result.columns) == [*own, "Bald", "red", "p_Bald", "p_red"]
    assert result[["Bald", "p_Bald"]].isna().all(axis=None)
    assert result["red"].notna().all()


def test_a_study_wholly_unknown_to_the_labeler_is_refused(tmp_path: Path) -> None:
    message = r"attributes are a, b, c, ... 4 in all; the labeler knows none .* red, green"
    with pytest.raises(ValueError, match=message):
        pseudo_label(_table(tmp_path), _labeler(), list("abcd"))


def test_batch_size_and_order_do_not_matter(tmp_path: Path) -> None:
    table = _table(tmp_path)
    one = pseudo_label(table, _labeler(), ["red"], batch_size=1)
    pd.testing.assert_frame_equal(one, pseudo_label(table, _labeler(), ["red"], batch_size=3))
    backwards = pseudo_label(table[::-1], _labeler(), ["red"], batch_size=3)
    pd.testing.assert_frame_equal(one, backwards[::-1])


def test_a_wide_image_is_cropped_to_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((SIZE, 3 * SIZE, 3), dtype=np.uint8)
    wide[:, SIZE : 2 * SIZE] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    table = pd.DataFrame({"path": [str(tmp_path / "wide.png")]})
    np.testing.assert_allclose(
        label_probabilities(table, _labeler()), 1 / (1 + np.exp(-5)), atol=1e-6
    )


def test_grey_files_are_read_as_colour(tmp_path: Path) -> None:
    Image.new("L", (SIZE, SIZE), 255).save(tmp_path / "L.png")
    table = pd.DataFrame({"path": [str(tmp_path / "L.png")]})
    np.testing.assert_allclose(
        label_probabilities(table, _labeler()), 1 / (1 + np.exp(-5)), atol=1e-6
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "I;16", "transparent"])
def test_other_files_are_left_to_the_reader_that_is_passed(tmp_path: Path, mode: str) -> None:
    white = Image.new("L", (SIZE, SIZE), 255)
    if mode == "I;16":
        white = Image.fromarray(np.full((SIZE, SIZE), 65_535, dtype=np.uint16))
    elif mode != "transparent":
        white = white.convert(mode)
    options = {"transparency": 0} if mode == "transparent" else {}
    white.save(tmp_path / "a.png", **options)
    table = pd.DataFrame({"path": [str(tmp_path / "a.png")]})
    with pytest.raises(ValueError, match=r"a\.png has mode .* pass read=classify") as caught:
        pseudo_label(table, _labeler(), ["red"])
    assert "\n" not in str(caught.value)
    seen: list[str] = []

    def read(path: str) -> Image.Image:
        seen.append(path)
        return Image.new("L", (SIZE, SIZE), 255)

    p = pseudo_label(table, _labeler(), ["red"], read=read)["p_red"]
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-5)), atol=1e-6)
    assert seen == list(table["path"])


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((SIZE, 2 * SIZE, 3), dtype=np.uint8)
    pixels[:, SIZE:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(read_plain(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(upright, np.rot90(pixels, -1))


def test_a_bad_or_missing_image_is_named(tmp_path: Path) -> None:
    table = _table(tmp_path)
    Path(table["path"].iloc[2]).write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"image .*2\.png does not decode") as caught:
        pseudo_label(table, _labeler(), ["red"])
    assert "\n" not in str(caught.value)
    Image.new("L", (4, 4)).save(table["path"].iloc[2], format="EPS")
    with pytest.raises(ValueError, match=r"2\.png does not decode \(it is PostScript, a program"):
        pseudo_label(table, _labeler(), ["red"])
    Path(table["path"].iloc[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"image .*2\.png is missing"):
        pseudo_label(table, _labeler(), ["red"])


def test_a_table_without_rows_or_paths_is_refused(tmp_path: Path) -> None:
    table = _table(tmp_path)
    with pytest.raises(ValueError, match="has no rows"):
        pseudo_label(table[:0], _labeler(), ["red"])
    with pytest.raises(ValueError, match="has no column path"):
        pseudo_label(table.drop(columns="path"), _labeler(), ["red"])
    with pytest.raises(ValueError, match="batch_size is 0"):
        pseudo_label(table, _labeler(), ["red"], batch_size=0)


def _label_in_one_process(fabric: Fabric, table: pd.DataFrame, batch_size: int, out: str) -> None:
    result = pseudo_label(table, _labeler(), ["red", "green"], batch_size=batch_size, fabric=fabric)
    result.to_pickle(f"{out}.{fabric.global_rank}")


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
@pytest.mark.parametrize("batch_size", [2, 5, 100])  # the last leaves one process without work
def test_two_processes_give_what_one_gives(tmp_path: Path, batch_size: int) -> None:
    table = _table(tmp_path)
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
    out = str(tmp_path / "result")
    fabric.launch(partial(_label_in_one_process, table=table, batch_size=batch_size, out=out))
    alone = pseudo_label(table, _labeler(), ["red", "green"], batch_size=batch_size)
    for rank in range(2):
        pd.testing.assert_frame_equal(pd.read_pickle(f"{out}.{rank}"), alone)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [7, 64])
def test_a_file_is_resized_as_an_array_is(tmp_path: Path, side: int, method: Interpolation) -> None:
    """Whoever labels arrays and whoever labels their files get the same labels."""
    card = dataclasses.replace(_labeler().card, image_size=16, std=[1.0] * 3, interpolation=method)
    labeler = Labeler(card, _MeanColour())
    pixels = np.random.default_rng(0).integers(80, 176, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ours = labeler.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255) + 0.5
    decoded = torch.from_numpy(_square(read_plain(str(tmp_path / "a.png")), card).copy())
    decoded = decoded.permute(2, 0, 1) / 255
    torch.testing.assert_close(ours[0], decoded, rtol=0, atol=1.5 / 255)


def test_a_labeler_is_moved_only_where_a_fabric_says_so(tmp_path: Path) -> None:
    moved: list[torch.device | str] = []

    class Staying(Labeler):
        def to(self, device: torch.device | str) -> Labeler:
            moved.append(device)
            return self

    labeler, table = Staying(_labeler().card, _MeanColour()), _table(tmp_path)
    pseudo_label(table, labeler, ["red"])
    pseudo_label(table, Combination([labeler]), ["red"])
    assert moved == []
    pseudo_label(table, labeler, ["red"], fabric=Fabric(accelerator="cpu", devices=1))
    assert moved == [torch.device("cpu")]


def test_the_cards_thresholds_are_the_policy_that_is_left_out(tmp_path: Path) -> None:
    table, labeler = _table(tmp_path), _labeler()
    left_out = pseudo_label(table, labeler, ["red", "green"])
    given = pseudo_label(table, labeler, ["red", "green"], policy=LabelPolicy.of_card(labeler))
    pd.testing.assert_frame_equal(given, left_out)


def test_a_policy_calibrates_decides_and_leaves_cells_empty(tmp_path: Path) -> None:
    policy = LabelPolicy(rules={"red": Rule(present=0.7, absent=0.3, temperature=2.0)})
    table = _table(tmp_path)
    result = pseudo_label(table, _labeler(), ["red", "green"], policy=policy)
    odds = _expected()[:, 0] / (1 - _expected()[:, 0])
    p = np.sqrt(odds) / (1 + np.sqrt(odds))  # temperature 2 is the square root of the odds
    np.testing.assert_allclose(result["p_red"], p, atol=1e-6)
    expected = np.where(p >= 0.7, 1.0, np.where(p < 0.3, 0.0, np.nan))
    np.testing.assert_array_equal(result["red"], expected)
    assert set(np.unique(expected[~np.isnan(expected)])) == {0.0, 1.0}
    assert np.isnan(expected).any()
    # an attribute without a rule goes by the labeler's own threshold
    np.testing.assert_array_equal(result["green"], _expected()[:, 1] >= 0.9)


def test_soft_labels_are_the_probabilities(tmp_path: Path) -> None:
    policy = LabelPolicy(rules={"red": Rule(present=0.8, absent=0.3)})
    result = pseudo_label(_table(tmp_path), _labeler(), ["red"], policy=policy, soft=True)
    decided = result["red"].notna()
    np.testing.assert_allclose(result["red"][decided], result["p_red"][decided], atol=1e-7)
    p = _expected()[:, 0]
    np.testing.assert_array_equal(decided, (p >= 0.8) | (p < 0.3))


def test_another_labelers_policy_is_refused(tmp_path: Path) -> None:
    labeler = Labeler(_labeler().card, _MeanColour(), sha256="abc")
    policy = LabelPolicy(rules={"red": Rule(present=0.5, absent=0.5)}, labeler="def")
    with pytest.raises(ValueError, match="fitted for the labeler def, not for abc"):
        pseudo_label(_table(tmp_path), labeler, ["red"], policy=policy)
