"""Labeler: preprocessing, card, device, several as one, and loading by folder and by name."""

import functools
import json
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
from torchvision.transforms.v2 import functional as T

from labeling import (
    Combination,
    Labeler,
    LabelerCard,
    embedded_labelers,
    label_probabilities,
    load_labeler,
    pseudo_label,
)

CARD: dict[str, Any] = {
    "architecture": "resnet18",
    "attributes": ["Bald", "Bangs"],
    "image_size": 16,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.25, 0.3],
    "thresholds": {"Bald": 0.3},
    "source": "drawn",
    "licence": "MIT",
    "command": "python recipes/train_labeler.py",
    "scores": None,
}


@functools.cache
def _network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = torchvision.models.resnet18(num_classes=2)
    return network.eval()


def _write(folder: Path, half: bool = False, **changes: object) -> nn.Module:
    network = _network()
    state = {
        k: v.half() if half and v.is_floating_point() else v
        for k, v in network.state_dict().items()
    }
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps(CARD | changes))
    return network


def _images(n: int = 3, channels: int = 3, height: int = 20, width: int = 24) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, channels, height, width), dtype=np.uint8))


def test_probabilities_are_those_of_the_network_behind_the_stated_preprocessing(
    tmp_path: Path,
) -> None:
    network = _write(tmp_path)
    images = _images()
    x = T.resize(images.float() / 255, [16, 16], T.InterpolationMode.BICUBIC, antialias=True)
    x = T.normalize(x, CARD["mean"], CARD["std"])
    with torch.no_grad():
        expected = network(x).sigmoid()
    got = load_labeler(tmp_path)(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_half_precision_weights_are_loaded_into_float32(tmp_path: Path) -> None:
    _write(tmp_path / "half", half=True)
    _write(tmp_path / "full")
    half = load_labeler(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in half.network.parameters())
    full = load_labeler(tmp_path / "full")(_images())
    torch.testing.assert_close(half(_images()), full, rtol=0, atol=5e-3)


def test_grey_is_repeated(tmp_path: Path) -> None:
    _write(tmp_path)
    labeler, grey = load_labeler(tmp_path), _images(channels=1)
    torch.testing.assert_close(labeler(grey), labeler(grey.repeat(1, 3, 1, 1)))


def test_preprocess_is_differentiable_and_the_network_frozen(tmp_path: Path) -> None:
    _write(tmp_path)
    labeler = load_labeler(tmp_path)
    images = (_images().float() / 255).requires_grad_()
    labeler.network(labeler.preprocess(images)).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not labeler.network.training
    assert not any(p.requires_grad for p in labeler.network.parameters())


def test_each_image_has_its_own_probabilities_whatever_the_batch(tmp_path: Path) -> None:
    _write(tmp_path)
    labeler, images = load_labeler(tmp_path), _images(4)
    apart = torch.cat([labeler(image[None]) for image in images])
    torch.testing.assert_close(labeler(images), apart, rtol=0, atol=1e-5)
    assert labeler(images[:0]).shape == (0, 2)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    _write(tmp_path)
    before = torch.get_rng_state()
    load_labeler(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_thresholds_default_to_one_half(tmp_path: Path) -> None:
    _write(tmp_path)
    assert load_labeler(tmp_path).thresholds == {"Bald": 0.3, "Bangs": 0.5}


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 8, 8), _images(channels=4), _images()[0]],
    ids=["float", "four channels", "no batch"],
)
def test_other_images_are_refused(tmp_path: Path, images: torch.Tensor) -> None:
    _write(tmp_path)
    with pytest.raises(ValueError, match=r"a labeler takes uint8 \(N, 1 or 3, H, W\)"):
        load_labeler(tmp_path)(images)


def test_a_labeler_works_where_its_network_is() -> None:
    """Whoever shares the network may have moved it since."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    labeler = Labeler(LabelerCard(**CARD), network)
    assert labeler.device == torch.device("cpu")
    network.to("meta")
    assert labeler.device == torch.device("meta")
    assert labeler(_images()).device == torch.device("meta")
    assert labeler(_images()[:0]).device == torch.device("meta")


def test_any_network_can_be_a_labeler() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    labeler = Labeler(LabelerCard(**CARD | {"architecture": "linear"}), network)
    assert labeler(_images()).shape == (3, 2)
    assert labeler.attributes == ("Bald", "Bangs")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": []}, "attributes has none"),
        ({"attributes": ["a", "a"], "thresholds": {}}, "attributes has 'a' twice"),
        ({"attributes": "Bald"}, "attributes is 'Bald'; it has to be a list"),
        ({"attributes": ["Bald", 1]}, r"attributes is \(.Bald., 1\); it has to be names"),
        ({"architecture": ["resnet18"]}, r"architecture is \[.resnet18.\]; it has to be text"),
        ({"scores": ["f1"]}, r"scores is .*; it has to be attribute: \{measure: number\}"),
        ({"scores": {"Bald": 0.5}}, "scores is .*; it has to be attribute"),
        ({"scores": {"Bald": {"f1": "high"}}}, "scores is .*; it has to be attribute"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 10**9}, "image_size is 1000000000; it has to be a whole number of pixels"),
        ({"architecture": "vit_h_14"}, "keys .* do not fit the card's architecture"),
        ({"mean": [0.5]}, "mean is .*; it has to be 3 finite numbers"),
        ({"std": [0.5, 0.0, 0.5]}, "std is .*; it has to be 3 numbers above 0"),
        ({"thresholds": {"Hat": 0.5}}, "thresholds names 'Hat'"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; it has to be bicubic or"),
        ({"thresholds": {"Bald": 1.5}}, "the threshold of 'Bald' is 1.5"),
        ({"architecture": "os.system"}, "'os.system' .* is not a torchvision classification"),
        ({"architecture": "fcn_resnet50"}, "'fcn_resnet50' .* is not a torchvision classif"),
        (
            {"attributes": ["a"], "thresholds": {}},
            r"2 keys .* fc.weight is \(2, 512\), by the card \(1",
        ),
        ({"architecture": "resnet34"}, r"96 keys .* layer1.2.conv1.weight is absent, by the card"),
    ],
)
def test_a_card_that_does_not_hold_is_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    _write(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_labeler(tmp_path)
    assert "\n" not in str(caught.value)


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no card.json and no model.safetensors"):
        load_labeler(tmp_path)
    _write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"model.safetensors is not a safetensors file"):
        load_labeler(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card.json is not JSON"):
        load_labeler(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(ValueError, match=r"card.json lacks architecture, attributes, image_size"):
        load_labeler(tmp_path)


def test_an_unknown_name_lists_the_embedded_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _write(tmp_path / "ours")
    monkeypatch.setattr("labeling.load._EMBEDDED", tmp_path)
    assert embedded_labelers() == ["ours"]
    assert load_labeler("ours").attributes == ("Bald", "Bangs")
    with pytest.raises(FileNotFoundError, match=r"'nobody' is neither an embedded name \(ours\)"):
        load_labeler("nobody")


def test_an_embedded_name_always_means_the_embedded_labeler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A local folder of that name is given as a path."""
    here = tmp_path / "here"
    _write(tmp_path / "ours")
    here.mkdir()
    _write(here / "ours", attributes=["Bangs", "Hat"], thresholds={})
    monkeypatch.setattr("labeling.load._EMBEDDED", tmp_path)
    monkeypatch.chdir(here)
    assert load_labeler("ours").attributes == ("Bald", "Bangs")
    for local in ("./ours", "ours/", Path("ours"), str(here / "ours")):
        assert load_labeler(local).attributes == ("Bangs", "Hat")
    assert "always means the embedded labeler" in " ".join((load_labeler.__doc__ or "").split())


def test_several_sources_are_a_combination_and_one_is_itself(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    _write(tmp_path / "b", attributes=["Bangs", "Hat"], thresholds={"Hat": 0.7})
    both = load_labeler([tmp_path / "a", tmp_path / "b"])
    assert both.attributes == ("Bald", "Bangs", "Hat")
    assert both.thresholds == {"Bald": 0.3, "Bangs": 0.5, "Hat": 0.7}
    assert isinstance(load_labeler([tmp_path / "a"]), Labeler)


def test_only_a_name_of_two_parts_is_looked_for_on_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("labeling.load.load_hf", asked.append)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    load_labeler("owner/some-model.v2")
    for name in ("here/missing", "../owner/name", "/owner/name", "a/b/c", "owner\\name"):
        with pytest.raises(FileNotFoundError, match="nor a folder"):
            load_labeler(name)
    assert asked == ["owner/some-model.v2"]


@pytest.mark.parametrize("name", embedded_labelers())
def test_what_is_embedded_loads(name: str) -> None:
    labeler = load_labeler(name)
    assert labeler(_images()).shape == (3, len(labeler.attributes))


class _Brightness(nn.Module):
    """The mean brightness times each attribute's factor."""

    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.factors = torch.tensor(factors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None] * self.factors


def _brightness(factors: dict[str, float], size: int = 8, threshold: float = 0.5) -> Labeler:
    card = LabelerCard(
        architecture="brightness",
        attributes=list(factors),
        image_size=size,
        mean=[0.0] * 3,
        std=[1.0] * 3,
        thresholds=dict.fromkeys(factors, threshold),
        source=" and ".join(factors),
        licence="MIT",
        command="",
    )
    return Labeler(card, _Brightness(list(factors.values())))


def _table(folder: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return pd.DataFrame({"path": [str(folder / f"{i}.png") for i in range(5)]})


def test_the_first_that_knows_an_attribute_gives_it(tmp_path: Path) -> None:
    first, second = _brightness({"a": 1, "b": 2}), _brightness({"b": -3, "c": 4}, 16, 0.9)
    both, table = Combination([first, second]), _table(tmp_path)
    assert both.attributes == ("a", "b", "c")
    assert both.thresholds == {"a": 0.5, "b": 0.5, "c": 0.9}
    one, other = (label_probabilities(table, labeler) for labeler in (first, second))
    expected = np.column_stack([one, other[:, 1]])
    np.testing.assert_array_equal(label_probabilities(table, both, batch_size=2), expected)


def test_images_are_seen_by_each_as_by_itself() -> None:
    images = torch.randint(256, (3, 3, 20, 20), dtype=torch.uint8)
    first, second = _brightness({"a": 1}), _brightness({"b": 2}, 16)
    expected = torch.cat([first(images), second(images)], 1)
    torch.testing.assert_close(Combination([first, second])(images), expected, rtol=0, atol=0)


def test_what_none_knows_stays_empty(tmp_path: Path) -> None:
    labelled = pseudo_label(
        _table(tmp_path), Combination([_brightness({"a": 1}), _brightness({"b": 2})]), ["b", "z"]
    )
    assert labelled["z"].isna().all()
    assert labelled["b"].notna().all()


def test_a_part_that_adds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="labeler b adds nothing"):
        Combination([_brightness({"a": 1, "b": 2}), _brightness({"b": 2})])
    with pytest.raises(ValueError, match="no labeler is given; name at least one"):
        Combination([])
