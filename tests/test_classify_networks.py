"""Networks of torchvision and timm, their pretrained weights, and large images as a stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from classify import FitConfig, decode, decode_tables, fit, predict, save_checkpoint
from classify.data import at_a_time
from classify.datasets import images as module
from classify.files import claim
from classify.layers import SplitNorm, head
from classify.model import AttributeClassifier
from classify.networks import build
from labeling import Labeler, load_labeler

SMALL = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Twelve images whose brightness is their label, wider than they are high."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = []
    for number in range(12):
        path = str(root / f"{number}.png")
        pixels = rng.integers(0, 100, (20, 26, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        rows.append((path, "train" if number < 8 else "val", "real", float(number % 2)))
    return pd.DataFrame(rows, columns=["path", "split", "source", "Bright"])


def fitted(table: pd.DataFrame, **settings: Any) -> Any:
    settings = {"architecture": SMALL, "image_size": 16, "epochs": 1, "batch_size": 4, **settings}
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    return fit(train, val, ["Bright"], FitConfig(**settings), device=torch.device("cpu"))


@pytest.mark.parametrize("workers", [0, 1, 9])
def test_a_stream_trains_to_the_weights_of_images_that_are_held(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    augmentation = FitConfig.paper().augmentation
    held = fitted(table, augmentation=augmentation)
    loaders: list[Any] = []
    monkeypatch.setattr("classify.data.usable_cores", lambda: 1)
    monkeypatch.setattr(DataLoader, "__iter__", _counted(DataLoader.__iter__, loaders))
    monkeypatch.setattr(module, "_HELD", 8)
    streamed = fitted(table, augmentation=augmentation, workers=workers)
    assert {loader.num_workers for loader in loaders} == ({1} if workers else set())
    for name, value in held.module.state_dict().items():
        assert torch.equal(value, streamed.module.state_dict()[name])
    assert torch.equal(held.predict(table), streamed.predict(table))


def _counted(call: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def counted(self: object) -> Any:
        calls.append(self)
        return call(self)

    return counted


def test_a_stream_holds_nothing_and_gives_what_is_decoded(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, _ = decode(list(table["path"]), 130)
    images = decode_tables([table], 130, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert images.pixels.shape == whole.shape
    rows = table.iloc[[5, 2]]
    assert torch.equal(images.of(rows)[torch.tensor([1, 0])], whole[[2, 5]])
    monkeypatch.setattr(module, "_decode_one", None)
    with pytest.raises(TypeError):  # only now
        images.of(rows)[torch.tensor([0])]


def test_a_broken_large_image_is_refused_or_left_out(table: pd.DataFrame, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(table["path"][0]).read_bytes()[:60])
    worse = pd.concat([table, table[:1].assign(path=str(broken))], ignore_index=True)
    with pytest.raises(ValueError, match=r"broken\.png does not decode .*--skip_bad"):
        decode_tables([worse], 256)
    images = decode_tables([worse], 256, skip_bad=True)
    assert list(images.usable(worse)["path"]) == list(table["path"])
    broken.write_bytes(Path(table["path"][0]).read_bytes())
    images = decode_tables([worse], 256)
    broken.unlink()  # after it was checked
    with pytest.raises(ValueError, match=r"broken\.png does not decode any more; restore it"):
        images.pixels[images.rows(worse)]


def test_large_images_are_judged_fewer_at_a_time() -> None:
    assert [at_a_time(512, size) for size in (16, 128, 256, 4096)] == [512, 512, 128, 1]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pretrained_weights_are_taken_but_for_the_last_layer(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    given = torchvision.models.get_model(SMALL)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": given.state_dict()}, file)
    else:
        save_file(given.state_dict(), file)
    torch.manual_seed(2)
    found = AttributeClassifier(["a"], FitConfig(architecture=SMALL, weights=file)).network
    torch.manual_seed(2)
    random = AttributeClassifier(["a"], FitConfig(architecture=SMALL)).network
    for name, value in found.state_dict().items():
        of = random if name.startswith("fc.") else given
        assert torch.equal(value, of.state_dict()[name])


def test_a_fits_record_tells_its_pretrained_weights_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"one")
    config = FitConfig(architecture=SMALL, weights=file)
    record = config.record()
    claim(tmp_path / "unit" / "unit.json", record)
    claim(tmp_path / "unit" / "unit.json", config.record())
    file.write_bytes(b"two")
    with pytest.raises(ValueError, match="is of other work: weights is"):
        claim(tmp_path / "unit" / "unit.json", config.record())
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.weights .* is missing"):
        config.record()
    assert FitConfig().record()["weights"] is None


class Bomb:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"conv1.0.weight": Bomb()}, "no file of tensors alone"),
        (lambda: torchvision.models.get_model("squeezenet1_1").state_dict(), "of another network"),
        (lambda: [1, 2], "no file of tensors alone"),
    ],
)
def test_other_files_are_refused_unopened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: Callable[[], object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(), "weights.pth")
    config = FitConfig(architecture=SMALL, weights=Path("weights.pth"))
    with pytest.raises(ValueError, match=message) as refused:
        AttributeClassifier(["a"], config)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]
    with pytest.raises(FileNotFoundError, match="nowhere are no file"):
        AttributeClassifier(["a"], FitConfig(architecture=SMALL, weights=Path("nowhere")))


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_resnet", 40)])
def test_a_network_of_timm_trains_and_labels(
    table: pd.DataFrame, tmp_path: Path, name: str, size: int
) -> None:
    """One that fixes the size of its images, and one that takes any."""
    timm = pytest.importorskip("timm")
    file = tmp_path / "weights.safetensors"
    fixed = {"img_size": size} if name == "test_vit" else {}
    save_file(timm.create_model(name, **fixed).state_dict(), file)
    result = fitted(table, architecture=f"timm/{name}", image_size=size, weights=file)
    assert head(result.module.network) is result.module.network.get_classifier()
    save_checkpoint(
        tmp_path / "labeler", result.module, source="noise", licence="none", command="this test"
    )
    labeler = load_labeler(tmp_path / "labeler")
    assert isinstance(labeler, Labeler)
    pixels = decode(list(table["path"]), size)[0]
    torch.testing.assert_close(labeler(pixels), predict(result.module, pixels), atol=1e-5, rtol=0)


def test_unknown_names_and_norms_that_do_more_are_refused() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"no network of timm; .*resnet18"):
        FitConfig(architecture="timm/resnet81")
    with pytest.raises(ValueError, match=r"did you mean|timm's are written timm/<name>"):
        FitConfig(architecture="vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="needs a network with batch normalisation"):
        SplitNorm.replace_all(build("timm/efficientnet_lite0", 1, 64))


def test_torchvisions_networks_are_built_as_ever() -> None:
    torch.manual_seed(0)
    ours = build("resnet18", 3, 32)
    torch.manual_seed(0)
    theirs: nn.Module = torchvision.models.resnet18(num_classes=3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
