"""Encoders against the libraries that their networks are from, with random weights."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from augment.metrics import Encoder, load_encoder
from augment.metrics.encoders import _without_head

fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(autouse=True)
def _without_a_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no connection")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _images(size: int, n: int = 2) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8)


def test_resnet50_gives_its_global_average_pool(tmp_path: Path) -> None:
    network = torchvision.models.resnet50().eval()
    torch.save(network.state_dict(), tmp_path / "resnet50.pth")
    encoder = load_encoder("resnet50", weights=tmp_path / "resnet50.pth")
    images = _images(80)
    pooled: list[Tensor] = []
    network.avgpool.register_forward_hook(lambda _m, _i, output: pooled.append(output))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    resized = nn.functional.interpolate(images.float(), (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        network((resized / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    found = encoder(images)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, pooled[0].flatten(1), atol=1e-4, rtol=1e-4)


def test_vgg16_gives_its_second_fully_connected_layer_after_the_relu() -> None:
    with torch.device("meta"):
        network = torchvision.models.vgg16()
    head = list(_without_head(network, "vgg16").get_submodule("classifier").children())
    assert [type(module) for module in head[-4:]] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Identity]
    assert head[-4].out_features == 4096


class _Random(fidelity.FeatureExtractorInceptionV3):  # type: ignore[misc]
    """torch-fidelity's network with the random weights it starts from."""

    def load_state_dict(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _Random("inception", ["2048"], feature_extractor_weights_path=path)
    torch.save(network.state_dict(), path)
    return network, path


def test_inception_is_torch_fidelitys(inception: tuple[nn.Module, Path]) -> None:
    network, path = inception
    images = _images(299)  # a size at which nobody resizes
    taps: dict[str, Tensor] = {}
    for name in ("Mixed_6d", "Mixed_6e"):
        network.get_submodule(f"{name}.branch1x1").register_forward_hook(
            lambda _m, _i, output, name=name: taps.update({name: output[:, :7].flatten(1)})
        )
    (pooled,) = network(images)
    torch.testing.assert_close(load_encoder("inception", weights=path)(images), pooled)
    for layer in ("6d", "6e"):
        found = load_encoder(f"inception-{layer}", weights=path)(images)
        assert found.shape == (2, 2023)
        torch.testing.assert_close(found, taps[f"Mixed_{layer}"])


def test_inceptions_preprocessings_are_clean_fids_and_pytorch_fids(
    inception: tuple[nn.Module, Path],
) -> None:
    images = _images(400, n=1)
    clean = load_encoder("inception", weights=inception[1]).card.preprocessing(images)
    other = load_encoder("inception-pytorch-fid", weights=inception[1]).card.preprocessing(images)
    resize = nn.functional.interpolate
    expected = resize(images.float(), (299, 299), mode="bicubic", antialias=True).clip(0, 255)
    torch.testing.assert_close(clean, (expected - 128) / 128, atol=1e-5, rtol=0)
    expected = resize(images.float() / 255, (299, 299), mode="bilinear", align_corners=False)
    torch.testing.assert_close(other, 2 * expected - 1, atol=1e-5, rtol=0)


def test_timm_gives_pooled_features_from_weights_with_a_head(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")

    network = timm.create_model("test_resnet.r160_in1k", num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    encoder = load_encoder("timm:test_resnet", weights=tmp_path / "weights.safetensors")
    images = _images(encoder.card.preprocessing.size)
    with torch.no_grad():
        maps = network.forward_features(encoder.card.preprocessing(images))
        expected = network.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(encoder(images), expected)
    card = {"architecture": "timm/test_resnet", "image_size": 160}  # as labelers have it
    card |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    folder = tmp_path / "labeler"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps(card))
    assert load_encoder(folder)(images).shape == expected.shape
    with pytest.raises(ValueError, match=r"^timm has no model nonesuch; give one of timm.list"):
        load_encoder("timm:nonesuch")


def test_without_timm_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"^timm is not installed, .*; pip install"):
        load_encoder("timm:resnet18")


def _folder(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    network = torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=3)
    save_file(network.state_dict(), folder / "model.safetensors")
    card = {
        "architecture": "shufflenet_v2_x0_5",
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    (folder / "card.json").write_text(json.dumps(card | changes))
    return folder


def test_a_folder_needs_no_more_than_a_short_card(tmp_path: Path) -> None:
    encoder = load_encoder(_folder(tmp_path / "mine", interpolation="bilinear"))
    assert encoder(_images(40)).shape == (2, 1024)
    assert encoder.card.name == "mine"
    assert encoder.card.preprocessing.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "os.system"}, "architecture in .* is 'os.system'; give a classification"),
        ({"architecture": "resnet18"}, "tensors of .* do not fit resnet18"),
        ({"std": [1, 1]}, r"card.json: std is \[1, 1\]; give 3 finite"),
        ({"image_size": None}, "card.json: size is None"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_encoder(_folder(tmp_path / "mine", **changes))


def test_a_folder_that_lacks_something_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "mine")
    (folder / "card.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(ValueError, match=r"lacks image_size, mean, std; write an object with arch"):
        load_encoder(folder)
    (folder / "card.json").write_text("[]")
    with pytest.raises(ValueError, match=r"lacks an object"):
        load_encoder(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"is not JSON"):
        load_encoder(folder)
    (folder / "card.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"card.json is missing; write a JSON object with arch"
    ):
        load_encoder(folder)


def test_torchscript_with_a_card_beside_it(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)).eval()
    path = tmp_path / "mine.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(
        FileNotFoundError, match=r"mine.ts.json is missing; write a JSON object with image"
    ):
        load_encoder(path)
    card = {"image_size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    path.with_name("mine.ts.json").write_text(json.dumps(card))
    encoder = load_encoder(path)
    images = _images(20)
    with torch.no_grad():
        expected = module(encoder.card.preprocessing(images)).flatten(1)
    torch.testing.assert_close(encoder(images), expected)
    torch.save(module.state_dict(), path)
    with pytest.raises(ValueError, match=r"mine.ts is no TorchScript file"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50", "resnet50-0676ba61.pth"),
        ("vgg16", "vgg16-397923af.pth"),
        ("inception", "weights-inception-2015-12-05-6726825d.pth"),
        ("inception-pytorch-fid-6e", "weights-inception-2015-12-05-6726825d.pth"),
    ],
)
def test_missing_weights_are_named_with_where_to_put_them(
    name: str, file: str, tmp_path: Path
) -> None:
    place = tmp_path / "hub" / "checkpoints" / file
    with pytest.raises(FileNotFoundError) as caught:
        load_encoder(name)
    assert f"encoder {name} needs {file}" in str(caught.value)
    assert f"put it at {place}, or give its path by --weights" in str(caught.value)
    with pytest.raises(
        FileNotFoundError, match=rf"gone.pth, which is missing; .* needs the file {file}"
    ):
        load_encoder(name, weights=tmp_path / "gone.pth")


def test_torch_hubs_cache_is_used_and_other_weights_are_refused(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), cached)
    assert load_encoder("resnet18")(_images(32)).shape == (2, 512)
    with pytest.raises(ValueError, match=r"tensors of .* do not fit resnet34"):
        load_encoder("resnet34", weights=cached)
    with pytest.raises(ValueError, match=r"holds weights of another network than FID's Inception"):
        load_encoder("inception", weights=cached)


def test_an_unknown_source_or_needless_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^encoder is 'nonesuch', no folder or file; give"):
        load_encoder("nonesuch")
    with pytest.raises(
        ValueError, match=r"^weights is .* with the encoder mine, which has its own"
    ):
        load_encoder("mine", weights=tmp_path / "weights.pth")


def test_a_published_name_wins_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _folder(tmp_path / "resnet50")
    monkeypatch.chdir(tmp_path)
    assert load_encoder("./resnet50").card.architecture == "shufflenet_v2_x0_5"
    with pytest.raises(FileNotFoundError, match=r"^encoder resnet50 needs resnet50-0676ba61.pth"):
        load_encoder("resnet50")


def test_an_encoder_works_where_its_network_was(tmp_path: Path) -> None:
    encoder = load_encoder(_folder(tmp_path / "mine"))
    again = Encoder(encoder.network.to("meta"), encoder.card)
    assert again(_images(40)).device.type == "meta"
