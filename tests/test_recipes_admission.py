"""A folder of generated images with one of every kind of bad image among them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import Tensor

import recipes.chain.images.admission
from augment import Quota, merge, select
from classify import decode_tables, load_table
from classify.datasets.avatars import avatar_table, draw, sample
from recipes.chain.images.admission import Judge


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("avatars") / "data"
    avatar_table(folder, train=60, val=20, test=20)
    return load_table(folder)


@pytest.fixture
def generated(tmp_path: Path, real: pd.DataFrame) -> pd.DataFrame:
    """0 and 1 new faces, 2 a train image as JPEG, 3 a test image mirrored, 4 black, 5 broken."""
    rng = np.random.default_rng(1)
    for seed, row in enumerate(sample(2, rng)):
        Image.fromarray(draw(row, 1000 + seed)).save(tmp_path / f"{seed}.png")
    paths = real.groupby("split")["path"].first()
    Image.open(paths["train"]).save(tmp_path / "2.jpg", quality=75)
    shutil.move(tmp_path / "2.jpg", tmp_path / "2.png")
    Image.open(paths["test"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "3.png")
    Image.new("RGB", (32, 32)).save(tmp_path / "4.png")
    (tmp_path / "5.png").write_bytes(b"no picture")
    names = [f"{i}.png" for i in range(6)]
    table = pd.DataFrame({"file_name": names, "split": "train", "source": "synthetic"})
    return table.assign(path=[str(tmp_path / name) for name in names])


def test_bad_images_are_told_from_new_faces_and_stay_on_disk(
    real: pd.DataFrame, generated: pd.DataFrame
) -> None:
    judge = Judge(real, decode_tables([real], 32))
    judged = judge(generated)
    assert judged["admission"].tolist() == [
        *("kept", "kept", "copy of train", "copy of test", "blank", "unreadable")
    ]
    assert judged["copied"].dropna().tolist() == [
        real.loc[real["split"] == split, "file_name"].iloc[0] for split in ("train", "test")
    ]
    assert all(Path(path).is_file() for path in judged["path"])


def test_a_leak_can_stop_a_run(real: pd.DataFrame, generated: pd.DataFrame) -> None:
    judge = Judge(real, decode_tables([real], 32))
    judged = judge(generated)
    with pytest.raises(ValueError, match=r"^1 generated images copy .*ly 3\.png \(copy of te"):
        judge.refuse_leaks(judged)


def test_an_encoder_judges_by_the_real_manifold(
    real: pd.DataFrame, generated: pd.DataFrame
) -> None:
    def brightness(images: Tensor) -> Tensor:
        return images.float().mean(dim=(1, 2, 3))[:, None]

    white = str(Path(generated["path"].iloc[0]).with_name("6.png"))
    noise = np.random.default_rng(0).integers(235, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(white)
    new = generated.iloc[[0, 1]].assign(path=[generated["path"].iloc[0], white])
    judged = Judge(real, decode_tables([real], 32), encoder=brightness)(new)
    assert judged["admission"].tolist() == ["kept", "off manifold"]


def test_a_set_made_elsewhere_is_judged_chosen_and_merged(
    real: pd.DataFrame, generated: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images have no seed; blocks of the judge change nothing."""
    judge = Judge(real, decode_tables([real], 32))
    whole = judge(generated)
    monkeypatch.setattr(recipes.chain.images.admission, "_DECODED", 4)
    judged = judge(generated)
    pd.testing.assert_frame_equal(judged, whole)
    chosen = select(judged.assign(Bald=[1.0, 0.0] * 3), Quota(wanted={"Bald=1": 1}), n_real=60)
    assert chosen.table["file_name"].tolist() == ["0.png"]
    merged = merge(real, chosen.table)
    assert len(merged) == 101
    assert merged["source"].value_counts().to_dict() == {"real": 100, "synthetic": 1}


def test_no_real_image_is_held(real: pd.DataFrame) -> None:
    images = decode_tables([real], 32)
    judge = Judge(real, images)
    held = [split.signatures.values for split in judge.real.values()]
    assert [len(values) for values in held] == [60, 20, 20]
    assert all(values.shape[1] == 256 for values in held)
    assert not any(value is images or value is images.pixels for value in vars(judge).values())


def test_nothing_real_to_compare_with_is_refused(real: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"^no real train image decodes; give images to compare"):
        Judge(real[real["split"] == "test"], decode_tables([real], 32))
