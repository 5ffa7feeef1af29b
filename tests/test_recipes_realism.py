"""A set unlike the real images stops the chain; a rare one does not; what is found is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from recipe_doubles import save_generator, tiny_flags

from recipes import measure, realism
from recipes.celeba_augment import main
from recipes.chain.images.realism import seen

SIDE = 16


def _scene(rng: np.random.Generator, *, red: bool) -> np.ndarray:
    """A disc on a shaded ground, uint8 (16, 16, 3)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.uniform(90, 160, 3) + rng.uniform(-3, 3) * (x[..., None] - 8)
    disc = np.hypot(x - rng.uniform(6, 10), y - rng.uniform(6, 10)) < rng.uniform(2.5, 4.5)
    image[disc] = 60
    image[disc, 0 if red else 2] = 220
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def _save(folder: Path, images: list[np.ndarray]) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{number:03d}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real scenes, one disc in eight red; sets of red ones alone, and of noise; a generator."""
    root, rng = tmp_path_factory.mktemp("realism"), np.random.default_rng(0)
    red = np.arange(112) % 8 == 0
    table = pd.DataFrame({"file_name": _save(root / "data", [_scene(rng, red=r) for r in red])})
    splits = np.repeat(["train", "val", "test"], [80, 16, 16])
    table = table.assign(split=splits, Red=red.astype(int), Warm=np.arange(112) // 2 % 2)
    table.to_csv(root / "data" / "metadata.csv", index=False)
    _save(root / "rare", [_scene(rng, red=True) for _ in range(40)])
    _save(root / "noise", list(rng.integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)))
    save_generator(root / "generator", size=SIDE)
    return root


def _flags(root: Path, out: Path, name: str) -> list[str]:
    sets = json.dumps({name: {"folder": str(root / name)}})
    return [
        *tiny_flags(root / "data", root / "generator", out),
        *(f"--sets={sets}", f"--arms=[real,{name}]"),
    ]


def test_noise_is_refused_before_a_classifier_is_trained_and_may_be_allowed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"set noise is unlike.*100%.*metadata\.csv.*--allow_unl"):
        main(_flags(root, out, "noise"))
    assert not (out / "real").exists()
    table = pd.read_csv(out / "synthetic" / "noise" / "metadata.csv")
    assert (table["realism"] < 0).all()

    main([*_flags(root, out, "noise"), "--allow_unlike"])  # goes on in the same folder
    assert re.search("Verdict: .*Images of noise are unlike the real", capsys.readouterr().out)
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Images of noise are unlike the real ones: 100%", "The farthest from real"):
        assert words in page
    card = (out / "synthetic" / "noise" / "README.md").read_text(encoding="utf-8")
    assert "The kept images are unlike the real ones: 100%" in card


def test_a_set_of_what_is_rare_goes_on(root: Path, tmp_path: Path) -> None:
    main(_flags(root, tmp_path, "rare"))
    found = pd.read_csv(tmp_path / "realism.csv")
    assert set(found["verdict"]) == {"recognisably synthetic"}
    assert list(found["view"]) == ["pixels", "spectrum", "random network", "generator"]
    assert (found["outside"] < 0.5).all()


def test_folders_are_measured_with_a_verdict(root: Path, tmp_path: Path) -> None:
    sets = [str(root / name) for name in ("noise", "rare")]
    out = [f"--out={tmp_path / 'out'}", f"--cache={tmp_path / 'cache'}"]
    measure.main([str(root / "data"), *sets, *out])
    table = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index("set")
    assert table.loc["noise", "verdict"] == "unlike the real ones"
    assert table.loc["rare", "verdict"] == "recognisably synthetic"
    images = pd.read_csv(tmp_path / "out" / "per_image.csv").set_index("set")
    assert (images.loc["noise", "realism"] < 0).all()


def test_error_rates_are_told_by_set_and_size(root: Path, tmp_path: Path) -> None:
    flags = [f"--out={tmp_path}", "--draws=1", "--sizes=[32]", "--split=all"]
    table = realism.main([str(root / "data"), f"--generated=[{root / 'noise'}]", *flags])
    assert set(table["images"]) == {32}
    unlike = table.set_index("set")["unlike the real ones"]
    assert unlike["real halves"] == 0
    assert (unlike[["noise", "uniform noise", "mosaic", "one colour"]] == 1).all()
    shares = table[["like the real ones", "recognisably synthetic", "unlike the real ones"]]
    assert np.allclose(shares.sum(axis=1), 1)
    assert len(pd.read_csv(tmp_path / "realism.csv")) == len(table)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_the_same_images_are_looked_at_together_by_any_number_of_processes(
    root: Path, world: int
) -> None:
    paths = [str(path) for path in sorted((root / "rare").iterdir())[:11]]
    views = {"whole batch": lambda batch: batch.float().mean().expand(len(batch), 1)}
    alone, together = seen(paths, views, 256)["whole batch"], torch.zeros(11, 1)
    assert len(alone.unique()) == 3  # 4 images of this size make a batch
    for rank in range(world):
        fabric = SimpleNamespace(
            global_rank=rank,
            world_size=world,
            device=torch.device("cpu"),
            to_device=lambda own: own,
            all_reduce=lambda own, reduce_op: own,
        )
        together += seen(paths, views, 256, fabric)["whole batch"]  # type: ignore[arg-type]
    assert together.equal(alone)
