"""Sets, their measures and the command, on small pictures with a network of no weights."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from augment.metrics import frechet_distance, kid
from augment.metrics.__main__ import main
from augment.metrics.encoder import Encoder, Preprocessing
from augment.metrics.pictures import contact_sheet, density_plot
from augment.metrics.reference import Orders, Reference, measure
from augment.metrics.report import claim, measure_sets, text_table
from augment.metrics.rows import distances, fidelity, image_rows, rareness
from augment.metrics.sets import ImageSet, generated_sets, real_set

SMALL = Orders(avg_knn=2, lof=4, rarity=2, precision=2, density=2)


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


def test_of_a_real_table_the_real_rows_of_the_split_are_taken(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "data", 4, 0)
    assert real_set(folder).file_names == ["00.png", "01.png", "02.png", "03.png"]
    source = ["real", "real", "", "synthetic"]
    _table(folder, split=["train", "test", "train", "train"], source=source)
    assert real_set(folder).file_names == ["00.png", "02.png"]
    assert real_set(folder / "metadata.csv", "test").file_names == ["01.png"]
    assert real_set(folder, None).file_names == ["00.png", "01.png", "02.png"]
    with pytest.raises(ValueError, match=r"has no real rows of the split val; allowed is 1 or"):
        real_set(folder, "val")


def test_of_a_generated_table_the_synthetic_rows_are_taken_if_any(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "data", 3, 0)
    _table(folder, source=["real", "synthetic", "synthetic"])
    assert generated_sets([folder])[0].file_names == ["01.png", "02.png"]
    _table(folder, source=["real"] * 3)
    assert len(generated_sets([folder])[0].paths) == 3


def test_names_of_sets_are_told_apart(tmp_path: Path) -> None:
    paths = [_pictures(tmp_path / run / "images", 1, 0) for run in ("a", "b")]
    paths.append(_pictures(tmp_path / "c", 1, 0))
    assert [s.name for s in generated_sets(paths)] == [str(paths[0]), str(paths[1]), "c"]
    assert [s.name for s in generated_sets(paths[2:], taken="c")] == [str(paths[2])]
    with pytest.raises(ValueError, match=r"c is given twice; allowed are distinct sets"):
        generated_sets([paths[2], paths[2]])


def test_a_path_that_is_the_real_sets_name_is_told_apart_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pictures(tmp_path / "real", 1, 0)
    monkeypatch.chdir(tmp_path)
    assert generated_sets([Path("real")], taken="real")[0].name == str(tmp_path / "real")


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone is missing; give a folder of images, or"):
        real_set(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"holds no image; allowed are the formats Pillow reads"):
        generated_sets([tmp_path])


def test_means_come_with_intervals_and_the_rarity_is_of_the_manifold() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(80, 3)).astype(np.float32)
    reference = Reference(real, SMALL)
    found = rareness(image_rows(measure(real + 0.01, reference)))
    for name in ("avg_knn", "lof", "rarity", "in_manifold"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    far = rareness(image_rows(measure(real + 50, reference)))
    assert far["avg_knn"] > found["avg_knn"] + 40
    assert far["in_manifold"] == 0
    assert np.isnan(far["rarity"])
    collapsed = np.tile(real[:1], (40, 1)) + generator.normal(scale=1e-3, size=(40, 3))
    spread = fidelity(measure(collapsed.astype(np.float32), reference))
    assert spread["precision"] == 1
    assert spread["recall_low"] <= spread["recall"] < 0.2


def test_kid_is_over_subsets_of_half_the_smaller_set() -> None:
    real, made = (np.random.default_rng(n).normal(size=(n, 3)) for n in (30, 41))
    found = distances(made, real)
    assert (found["kid"], found["kid_std"]) == kid(real, made, subset_size=15)
    assert found["kid_std"] > 0
    assert found["frechet"] == frechet_distance(real, made)
    assert distances(made + 1, real)["kid"] > found["kid"] + found["kid_std"]
    assert distances(made[:2], real)["kid_std"] > 0  # the fewest that have a variance


def _set(name: str, n: int) -> ImageSet:
    return ImageSet(name=name, folder=Path("."), file_names=[f"{i}.png" for i in range(n)])


def test_a_tail_changes_what_sets_are_compared_with_and_not_how_rare_they_are() -> None:
    generator = np.random.default_rng(0)
    real, made = (torch.tensor(generator.normal(size=(50, 2))) for _ in range(2))
    sets = _set("real", 50), [_set("made", 50)]
    whole = measure_sets(*sets, [real, made], orders=SMALL)
    tail = measure_sets(*sets, [real, made], tail_count=10, orders=SMALL)
    assert len(tail.reference) == 10
    rarest = whole.images["real"]["avg_knn"].nlargest(10)
    assert sorted(tail.reference["row"]) == sorted(rarest.index)
    assert whole.table.loc[1, "frechet"] != tail.table.loc[1, "frechet"]
    pd.testing.assert_frame_equal(whole.images["made"], tail.images["made"])
    tailed = kid(real[tail.reference["row"].to_list()], made, subset_size=5)
    assert (tail.table.loc[1, "kid"], tail.table.loc[1, "kid_std"]) == tailed
    assert whole.table.loc[0, ["frechet", "kid", "kid_std"]].isna().all()
    with pytest.raises(ValueError, match=r"tail"):
        measure_sets(*sets, [real, made], tail_count=51, orders=SMALL)
    printed = text_table(whole.table).splitlines()
    assert len(printed) == 3
    assert printed[1].split()[:4] == ["real", "50", "-", "-"]
    assert f"{whole.table.loc[1, 'kid']:.4g} (sd {whole.table.loc[1, 'kid_std']:.2g})" in printed[2]


def test_every_set_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    legends = []
    monkeypatch.setattr(Figure, "legend", lambda _, handles, **kwargs: legends.append(handles))
    rng = np.random.default_rng(0)
    measured = {
        f"{i}": pd.DataFrame(rng.normal(size=(9, 2)), columns=["avg_knn", "lof"]) for i in range(9)
    }
    density_plot(measured)
    strokes = {(line.get_color(), line.get_linestyle()) for line in legends[0]}
    assert [line.get_label() for line in legends[0]] == list(measured)
    assert len(strokes) == 9


def test_a_contact_sheet_holds_its_titles_and_says_between_which_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda _, at, text, *a, **k: written.append(text)
    )
    folder = _pictures(tmp_path / "a", 2, 0)
    images = ImageSet(name="a", folder=folder, file_names=["00.png", "01.png"])
    sheet = contact_sheet([images], {"a": pd.DataFrame({"avg_knn": [1.0, 2.5]})}, rarest=True)
    assert written == ["a: AvgkNN from 2.5 to 1"]
    with Image.open(BytesIO(sheet)) as picture:
        assert picture.width >= ImageFont.load_default(size=15).getlength(written[0])


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
    main([*sets, "--out", str(root / out), "--cache", str(root / "cache"), *more])
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
    assert list(images) == ["set", "file", "avg_knn", "lof", "rarity"]
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
    with pytest.raises(SystemExit, match=r"^error: .*out holds other results .*; give another"):
        _run(folders, "out", *flags, "--split", "all")
    (out / "settings.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*out holds metrics.csv but no settings.json"):
        _run(folders, "out", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--neighbours.precision=9"], "the k of precision is 9, but with 9 images of minority al"),
        (["--neighbours.lof=25"], "the k of lof is 25, but with 25 images of avatars .real. allo"),
        (["--reference=tail:26"], "tail is 26, but with 25 images of avatars .real. allowed are"),
        (["--reference=tail:5"], "the k of density is 5, but with 5 images in the tail allowed"),
    ],
)
def test_too_few_images_are_said_before_anything_is_written(
    folders: tuple[Path, Path, Path], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=rf"^error: {message}"):
        _run(folders, "out", *flags)
    assert not (folders[0].parent / "out").exists()
    assert not (folders[0].parent / "cache").exists()


def test_a_run_that_failed_does_not_keep_its_folder(tmp_path: Path) -> None:
    claim(tmp_path, {"encoder": "one"})
    claim(tmp_path, {"encoder": "two"})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"encoder": "two"}
    for kept in ('{"seed": 0}', "no JSON", "[]"):  # nor is what others wrote taken for a claim
        (tmp_path / "settings.json").write_text(kept)
        with pytest.raises(ValueError, match="holds other results"):
            claim(tmp_path, {"encoder": "three"})
        assert (tmp_path / "settings.json").read_text() == kept


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

    monkeypatch.setattr("augment.metrics.__main__.load_encoder", means)
    out = _run(folders, "out", "--encoder", "inception", "--accelerator", "cpu")
    assert asked == ["inception", "inception-pytorch-fid", "inception-pytorch-fid-6d"]
    table = pd.read_csv(out / "metrics.csv", index_col="set")
    assert np.isnan(table["sfid"].iloc[0])
    made = table.iloc[1:]
    np.testing.assert_allclose(made["fid_pytorch_fid"], 4 * made["frechet"], rtol=1e-3)
    np.testing.assert_allclose(made["sfid"], 9 * made["frechet"], rtol=1e-3)


@pytest.mark.parametrize("reference", ["tail", "tail:0", "tail:x", "head:3"])
def test_another_reference_is_refused(folders: tuple[Path, Path, Path], reference: str) -> None:
    with pytest.raises(SystemExit, match=rf"^error: reference is '{reference}'; allowed are all"):
        _run(folders, "out", "--reference", reference)
    assert not (folders[0].parent / "out").exists()


def test_missing_weights_are_said_before_anything_is_written(
    folders: tuple[Path, Path, Path],
) -> None:
    with pytest.raises(SystemExit, match=r"^error: weights .*gone.pth are missing; .* resnet50-"):
        _run(folders, "out", "--encoder", "resnet50", "--weights", "gone.pth")
    assert not (folders[0].parent / "out").exists()
    assert not (folders[0].parent / "cache").exists()
