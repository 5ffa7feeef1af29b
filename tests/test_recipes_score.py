"""The command that scores a folder: what it adds to a table, and what it refuses beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from augment_doubles import tiny_unet
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image

from augment import L2, load_denoiser
from augment.minority_score import score_files
from classify.datasets import read_image
from recipes.chain.command.command_line import run
from recipes.score import main


def _folder(tmp_path: Path, **columns: object) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    names = [f"{i}.png" for i in range(6)]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 11, 11, 3), dtype=np.uint8)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / name)
    split = ["train"] * 4 + ["test"] * 2
    table = pd.DataFrame({"file_name": names, "split": split, "Smiling": ["1", "", "0"] * 2})
    table.assign(**columns).to_csv(folder / "metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "pipeline"
    DDPMPipeline(tiny_unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


def test_the_command_adds_columns_to_a_copy(tmp_path: Path, generator: Path) -> None:
    folder = _folder(tmp_path)
    before = (folder / "metadata.csv").read_bytes()
    out = folder / "scored.csv"
    arguments = [str(generator), str(folder), "--distance", "l2", "--out", str(out)]
    main([*arguments, "--classes", "2", "--score.batch_size", "4", "--devices", "1"])
    assert (folder / "metadata.csv").read_bytes() == before
    table = pd.read_csv(out)
    assert list(table) == ["file_name", "split", "Smiling", "minority_score", "minority_class"]
    assert pd.read_csv(out, dtype=str)["Smiling"].fillna("").tolist() == ["1", "", "0"] * 2
    train = table["minority_score"][:4]
    assert table["minority_class"].tolist() == [
        int(s > train.median()) for s in table.minority_score
    ]
    paths = [folder / name for name in table["file_name"]]
    expected = score_files(load_denoiser(generator), paths, L2(), read=read_image)
    np.testing.assert_allclose(table["minority_score"], expected, rtol=1e-5)
    with pytest.raises(SystemExit, match=r"^error: .*scored.csv exists, and nothing is overwritt"):
        run(lambda: main(arguments))


def test_a_folder_without_a_table_is_scored_beside_its_images(
    tmp_path: Path, generator: Path
) -> None:
    folder = _folder(tmp_path)
    (folder / "metadata.csv").unlink()
    out = main([str(generator), str(folder), "--distance", "l2", "--devices", "1"])
    assert out == folder / "scored.csv"
    table = pd.read_csv(out)
    assert list(table) == ["file_name", "minority_score"]
    assert table["file_name"].tolist() == [f"{i}.png" for i in range(6)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--classes=5"], "classes is 5 for 4 scores"),
        (["--out=nowhere/new.csv"], "nowhere, for the new table, is not a folder; make it"),
    ],
)
def test_what_the_end_would_refuse_is_said_before_anything_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
) -> None:
    monkeypatch.delattr("recipes.score.score_files")
    arguments = ["avatars-32", str(_folder(tmp_path)), f"--out={tmp_path / 'new.csv'}"]
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        run(lambda: main([*arguments, "--distance=l2", *flags]))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("nonesuch", "the table has no column nonesuch; it has file_name, split"),
        ("kind", "column kind holds 'x'; give class numbers"),
    ],
)
def test_the_command_wants_classes_that_it_can_use(
    tmp_path: Path, generator: Path, column: str, message: str
) -> None:
    folder = _folder(tmp_path, kind=["0", "1", "2.0", "x", "1", "1"])
    arguments = [str(generator), str(folder), "--distance", "l2", "--out", str(tmp_path / "new")]
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        run(lambda: main([*arguments, "--label_column", column]))
    assert not (tmp_path / "new").exists()
