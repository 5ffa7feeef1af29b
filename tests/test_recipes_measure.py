"""The command that measures sets, on small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from augment.metrics import Encoder, Preprocessing
from augment.metrics.pictures import ImageSet
from recipes.chain.command.command_line import run
from recipes.measure import image_sets, main


def _pictures(folder: Path, n: int, seed: int, spread: int = 30) -> Path:
    """Plain colours around grey, a few pixels large."""
    folder.mkdir(parents=True)
    colours = np.random.default_rng(seed).normal(128, spread, (n, 3)).clip(0, 255).astype(np.uint8)
    for i, colour in enumerate(colours):
        Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).copy()).save(folder / f"{i:02}.png")
    return folder


def _table(folder: Path, **columns: object) -> Path:
    names = sorted(path.name for path in folder.glob("*.png"))
    pd.DataFrame({"file_name": names, **columns}).to_csv(folder / "metadata.csv", index=False)
    return folder


def _real(path: Path, split: str | None = "train") -> list[str]:
    return list(image_sets(path, [], split=split)[0].file_names)


def _generated(*paths: Path, real: Path) -> list[ImageSet]:
    return image_sets(real, paths)[1:]


def test_of_a_real_table_the_real_rows_of_the_split_are_taken(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "data", 4, 0)
    assert _real(folder) == ["00.png", "01.png", "02.png", "03.png"]
    source = ["real", "real", "real", "synthetic"]
    _table(folder, split=["train", "test", "train", "train"], source=source)
    assert _real(folder) == ["00.png", "02.png"]
    assert _real(folder / "metadata.csv", "test") == ["01.png"]
    assert _real(folder, None) == ["00.png", "01.png", "02.png"]
    with pytest.raises(ValueError, match=r"has no real rows of the split val; give another table"):
        _real(folder, "val")


def test_of_a_generated_table_the_synthetic_rows_are_taken_if_any(tmp_path: Path) -> None:
    real = _pictures(tmp_path / "real", 1, 0)
    folder = _pictures(tmp_path / "data", 3, 0)
    _table(folder, source=["real", "synthetic", "synthetic"])
    assert _generated(folder, real=real)[0].file_names == ["01.png", "02.png"]
    _table(folder, source=["real"] * 3)
    assert len(_generated(folder, real=real)[0].paths) == 3


def test_names_of_sets_are_told_apart(tmp_path: Path) -> None:
    paths = [_pictures(tmp_path / run / "images", 1, 0) for run in ("a", "b")]
    paths.append(_pictures(tmp_path / "c", 1, 0))
    real = _pictures(tmp_path / "d", 1, 0)
    names = [s.name for s in image_sets(real, paths)]
    assert names == ["d (real)", str(paths[0]), str(paths[1]), "c"]
    with pytest.raises(ValueError, match=r"c is given twice; give every set once"):
        _generated(paths[2], paths[2], real=real)


def test_a_set_that_is_called_as_the_real_one_is_told_apart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pictures(tmp_path / "real", 1, 0)
    _pictures(tmp_path / "other" / "real", 1, 0)
    monkeypatch.chdir(tmp_path)
    names = [s.name for s in image_sets(Path("other/real"), [Path("real")])]
    assert names == ["real", str(tmp_path / "real")]


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone"):
        _real(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty"):
        _real(tmp_path / "empty")
    folder = _table(_pictures(tmp_path / "data", 2, 0))
    (folder / "01.png").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"01\.png"):
        _real(folder)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    real = _pictures(tmp_path / "avatars", 30, 0)
    split = ["train"] * 25 + ["test"] * 5
    return (
        _table(real, split=split),
        _pictures(tmp_path / "plain", 12, 1),
        _pictures(tmp_path / "minority", 9, 2, spread=70),
    )


def _run(folders: tuple[Path, Path, Path], out: str, *more: str) -> Path:
    root = folders[0].parent
    sets = map(str, folders)
    flags = ["--out", str(root / out), "--cache", str(root / "cache"), *more]
    run(lambda: main([*sets, *flags]))
    return root / out


def test_the_command_writes_tables_and_pictures(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = _run(folders, "out", "--reference", "tail:10", "--accelerator", "cpu")
    table = pd.read_csv(out / "metrics.csv", index_col="set")
    assert table["images"].to_dict() == {"avatars (real)": 25, "plain": 12, "minority": 9}
    assert table.loc["minority", "avg_knn"] > table.loc["plain", "avg_knn"]
    for name in ("avg_knn", "lof"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    images = pd.read_csv(out / "per_image.csv")
    assert list(images) == ["set", "file", "avg_knn", "lof", "rarity", "realism"]
    assert len(images) == 25 + 12 + 9
    means = images.groupby("set")["avg_knn"].mean()
    np.testing.assert_allclose(means[table.index], table["avg_knn"])
    reference = pd.read_csv(out / "reference.csv")
    assert reference["avg_knn"].is_monotonic_decreasing
    assert len(reference) == 10
    for name in ("density", "rarest", "commonest"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert "minority" in capsys.readouterr().out
    assert json.loads((out / "settings.json").read_text())["reference"] == "tail:10"


def test_the_same_command_again_is_welcome_and_another_one_is_not(
    folders: tuple[Path, Path, Path],
) -> None:
    flags = ("--accelerator", "cpu", "--neighbours.lof", "5")
    out = _run(folders, "out", *flags)
    first = (out / "metrics.csv").read_bytes()
    _run(folders, "out", *flags)
    assert (out / "metrics.csv").read_bytes() == first
    with pytest.raises(SystemExit, match=r"^error: .*split is .*train.*all.*; give another"):
        _run(folders, "out", *flags, "--split", "all")
    (out / "settings.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*out holds .* but no settings.json"):
        _run(folders, "out", *flags)


def test_a_command_that_failed_does_not_keep_its_folder(
    folders: tuple[Path, Path, Path],
) -> None:
    whole = (folders[1] / "03.png").read_bytes()
    (folders[1] / "03.png").write_bytes(whole[:30])
    with pytest.raises(SystemExit, match=r"03\.png does not decode"):
        _run(folders, "out", "--neighbours.lof=5")
    (folders[1] / "03.png").write_bytes(whole)
    out = _run(folders, "out", "--neighbours.lof=6")
    assert (out / "metrics.csv").is_file()
    for kept in ('{"seed": 0}', "no JSON", "[]"):  # nor is what others wrote taken for a claim
        other = out.parent / "other"
        other.mkdir(exist_ok=True)
        (other / "settings.json").write_text(kept)
        with pytest.raises(SystemExit, match=r"^error: .*other.settings\.json is .* give another"):
            _run(folders, "other")
        assert (other / "settings.json").read_text() == kept


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--neighbours.precision=9"],
            "neighbours.precision is 9; with 9 images of minority, give",
        ),
        (["--neighbours.lof=25"], "neighbours.lof is 25; with 25 images of avatars .real., give"),
        (["--reference=tail:26"], "tail is 26; with 25 images of avatars .real., give 1 to 25"),
        (["--reference=tail:5"], "neighbours.density is 5; with 5 images in the tail, give 1"),
    ],
)
def test_too_few_images_are_said_before_anything_is_written(
    folders: tuple[Path, Path, Path], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=rf"^error: {message}"):
        _run(folders, "out", *flags)
    assert not (folders[0].parent / "out").exists()
    assert not (folders[0].parent / "cache").exists()


def test_inception_adds_its_other_frechet_distances(
    folders: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def means(source: str, weights: Path | None) -> Encoder:
        asked.append(source)
        scale = {"inception": 1.0, "inception-pytorch-fid": 2.0}.get(source, 3.0)
        preprocessing = Preprocessing(size=2, mean=[0, 0, 0], std=[1 / scale] * 3)
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Encoder.of(network, preprocessing, name=source)

    monkeypatch.setattr("recipes.chain.encoders.load_encoder", means)
    out = _run(folders, "out", "--encoder", "inception", "--accelerator", "cpu")
    assert asked == ["inception", "inception-pytorch-fid", "inception-pytorch-fid-6d"]
    table = pd.read_csv(out / "metrics.csv", index_col="set")
    assert np.isnan(table["sfid"].iloc[0])
    made = table.iloc[1:]
    np.testing.assert_allclose(made["fid_pytorch_fid"], 4 * made["frechet"], rtol=1e-3)
    np.testing.assert_allclose(made["sfid"], 9 * made["frechet"], rtol=1e-3)


@pytest.mark.parametrize("reference", ["tail", "tail:0", "tail:x", "head:3"])
def test_another_reference_is_refused(folders: tuple[Path, Path, Path], reference: str) -> None:
    with pytest.raises(SystemExit, match=rf"^error: reference is '{reference}'; give all"):
        _run(folders, "out", "--reference", reference)
    assert not (folders[0].parent / "out").exists()


def test_missing_weights_are_said_before_anything_is_written(
    folders: tuple[Path, Path, Path],
) -> None:
    with pytest.raises(
        SystemExit, match=r"^error: weights is gone.pth, which is missing; .* resnet50-"
    ):
        _run(folders, "out", "--encoder", "resnet50", "--weights", "gone.pth")
    assert not (folders[0].parent / "out").exists()
    assert not (folders[0].parent / "cache").exists()


def test_pixels_of_16_bits_are_measured_as_those_of_8(
    folders: tuple[Path, Path, Path],
) -> None:
    for path in folders[1].glob("*.png"):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        twin = folders[2].parent / "grey" / path.name
        twin.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(twin)
    out = _run((folders[0], folders[1], folders[2].parent / "grey"), "out", "--accelerator", "cpu")
    table = pd.read_csv(out / "metrics.csv", index_col="set")
    np.testing.assert_allclose(table.loc["plain", "avg_knn"], table.loc["grey", "avg_knn"])
