"""Distances against the `lpips` package, closed forms and a naive loop, with usable gradients."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import lpips
import pytest
import torch
import torchvision
from augment_doubles import random_alexnet, save_trunk
from torch import Tensor, nn

from augment import L1, L2, LPIPS, FeatureDistance
from augment.distance import Distance


def _images(seed: int, n: int = 3, channels: int = 3, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(n, channels, size, size, generator=generator)


@pytest.fixture(scope="module")
def alexnet() -> nn.Module:
    return random_alexnet()


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trunk(tmp_path_factory.mktemp("trunk") / "alexnet.pth")


@pytest.fixture(scope="module")
def distance(trunk: Path) -> LPIPS:
    return LPIPS("alex", trunk=trunk)


@pytest.fixture
def reference(alexnet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The package itself, that cuts the slices out of the same network."""
    monkeypatch.setattr(lpips.pretrained_networks.tv, "alexnet", lambda **_: alexnet)
    model: nn.Module = lpips.LPIPS(net="alex", verbose=False).eval()
    return model


@pytest.mark.parametrize("size", [32, 64])
def test_lpips_is_the_package_with_the_trunk_of_the_file(
    distance: LPIPS, reference: nn.Module, size: int
) -> None:
    a, b = (_images(seed, size=size) for seed in (0, 1))
    found = distance(a, b)
    assert found.shape == (3,)
    torch.testing.assert_close(found, reference(a, b).flatten())
    assert (found > 1e-4).all()


def test_lpips_of_grey_images_is_that_of_three_equal_channels(
    distance: LPIPS, reference: nn.Module
) -> None:
    a, b = (_images(seed, channels=1) for seed in (0, 1))
    expected = reference(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(distance(a, b), expected)


def test_lpips_gradient_is_the_packages(distance: LPIPS, reference: nn.Module) -> None:
    a, b = _images(0).requires_grad_(True), _images(1)
    (found,) = torch.autograd.grad(distance(a, b).sum(), a)
    (expected,) = torch.autograd.grad(reference(a, b).sum(), a)
    torch.testing.assert_close(found, expected)
    assert all(not p.requires_grad for p in distance._model.parameters())


def test_lpips_has_a_finite_gradient_where_no_feature_passes_the_relu(
    alexnet: nn.Module, tmp_path: Path
) -> None:
    """The derivative of the norm of zero is not finite, but does not pass the ReLU either."""
    dead = alexnet.state_dict()
    dead["features.10.bias"] = torch.full_like(dead["features.10.bias"], -1e3)
    torch.save(dead, tmp_path / "dead.pth")
    a = _images(0).requires_grad_(True)
    (gradient,) = torch.autograd.grad(LPIPS(trunk=tmp_path / "dead.pth")(a, _images(1)).sum(), a)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_lpips_runs_in_float32_whatever_is_cast_around_it(distance: LPIPS) -> None:
    a, b = _images(0), _images(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distance(a, b)
    assert torch.equal(found, distance(a, b))


@pytest.mark.parametrize("net", ["vgg", "squeeze"])
def test_other_trunks_are_the_packages_too(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = {"vgg": "vgg16", "squeeze": "squeezenet1_1"}[net]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(torchvision.models, builder)(num_classes=2)
    if net == "vgg":
        network.classifier = nn.Linear(2, 2)  # Else half a gigabyte.
    torch.save(network.state_dict(), tmp_path / "trunk.pth")
    monkeypatch.setattr(lpips.pretrained_networks.tv, builder, lambda **_: network)
    reference = lpips.LPIPS(net=net, verbose=False).eval()
    a, b = _images(0), _images(1)
    found = LPIPS(net, trunk=tmp_path / "trunk.pth")(a, b)  # type: ignore[arg-type]
    torch.testing.assert_close(found, reference(a, b).flatten(), atol=1e-6, rtol=1e-4)


def test_l1_is_the_sum_of_differences_and_its_gradient_their_sign() -> None:
    a, b = _images(0).requires_grad_(True), _images(1)
    found = L1()(a, b)
    expected = torch.linalg.vector_norm((a - b).flatten(1), ord=1, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert torch.equal(gradient, (a - b).sign())


@pytest.mark.parametrize(
    ("write", "kind", "message"),
    [
        (None, FileNotFoundError, "is missing; give the file alexnet-owt-7be5be79.pth"),
        ({}, ValueError, r"10 of .* 10 tensors .*, the first features\.0\.weight; give"),
        ({"features.0.bias": torch.zeros(3)}, ValueError, "10 of the LPIPS trunk's 10 tensors"),
        ("rubbish", ValueError, "does not load; give the file alexnet-owt-7be5be79.pth"),
    ],
)
def test_a_trunk_that_is_none_is_refused_in_one_line(
    tmp_path: Path, write: object, kind: type[Exception], message: str
) -> None:
    path = tmp_path / "trunk.pth"
    if isinstance(write, str):
        path.write_text(write)
    elif write is not None:
        torch.save(write, path)
    with pytest.raises(kind, match=message) as refusal:
        LPIPS(trunk=path)
    assert "\n" not in str(refusal.value)


def test_a_trunk_that_cannot_be_downloaded_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(FileNotFoundError) as refusal:
        LPIPS()
    where = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert str(refusal.value) == (
        "LPIPS needs torchvision's alexnet-owt-7be5be79.pth, which is not on this machine and "
        f"could not be downloaded; put it at {where}, give a local copy of it, or choose another "
        "distance, such as l2"
    )


def test_l2_is_the_euclidean_norm_and_its_gradient_the_unit_vector() -> None:
    a, b = _images(0).requires_grad_(True), _images(1)
    found = L2()(a, b)
    expected = torch.linalg.vector_norm((a - b).flatten(1), dim=1)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    torch.testing.assert_close(gradient, (a - b) / expected[:, None, None, None])


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.ReLU(),
            nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(5, 4, 3)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def _naive(network: nn.Sequential, layers: list[int], a: Tensor, b: Tensor) -> Tensor:
    totals = []
    for x, y in zip(a, b, strict=True):
        f, g, total = (x[None] + 1) / 2, (y[None] + 1) / 2, 0.0
        for number, layer in enumerate(network):
            f, g = layer(f), layer(g)
            if number in layers:
                places = [(r, c) for r in range(f.shape[2]) for c in range(f.shape[3])]
                for r, c in places:
                    u, v = f[0, :, r, c], g[0, :, r, c]
                    u, v = u / max(float(u.norm()), 1e-10), v / max(float(v.norm()), 1e-10)
                    total += float(((u - v) ** 2).sum()) / len(places)
        totals.append(total)
    return torch.tensor(totals)


@pytest.mark.parametrize(("names", "numbers"), [(None, [1, 2]), (["1"], [1]), (["2"], [2])])
def test_features_equal_a_naive_loop_over_layers_and_places(
    names: list[str] | None, numbers: list[int]
) -> None:
    network, a, b = _network(), _images(0, size=8), _images(1, size=8)
    found = FeatureDistance(network, layers=names)(a, b)
    torch.testing.assert_close(found, _naive(network, numbers, a, b), atol=1e-5, rtol=1e-5)


def test_features_are_of_the_preprocessed_image_in_unit_range() -> None:
    seen: list[Tensor] = []

    def preprocess(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    a = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    FeatureDistance(_network(), preprocess=preprocess)(a, a)
    assert seen[0].shape == (1, 3, 8, 8)  # Grey is repeated.
    assert (seen[0].min().item(), seen[0].max().item()) == (0.0, 1.0)


def test_left_out_the_layers_are_the_last_at_each_resolution() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
    )
    a, b = _images(0, size=8), _images(1, size=8)
    named = FeatureDistance(network, layers=["1", "3"])(a, b)
    torch.testing.assert_close(FeatureDistance(network)(a, b), named)


def test_features_freeze_the_network_and_leave_no_hook() -> None:
    network = _network().train()
    FeatureDistance(network)(_images(0, size=8), _images(1, size=8))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_layers_that_do_not_exist_or_give_no_map_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^layers \['9'\] are not in the network; give some of 0"):
        FeatureDistance(_network(), layers=["1", "9"])
    with pytest.raises(
        ValueError, match=r"no layer of the network gives a feature map .* `layers`"
    ):
        FeatureDistance(_network(), layers=["3", "4"])(_images(0, size=8), _images(1, size=8))


def _distances() -> list[Distance]:
    return [L1(), L2(), FeatureDistance(_network())]


@pytest.mark.parametrize("metric", _distances(), ids=repr)
def test_distances_are_zero_at_home_symmetric_and_blind_to_neighbours(metric: Distance) -> None:
    a, b = _images(0, size=8), _images(1, size=8)
    torch.testing.assert_close(metric(a, a), torch.zeros(3))
    torch.testing.assert_close(metric(a, b), metric(b, a))
    assert (metric(a, b) > 1e-3).all()
    torch.testing.assert_close(metric(a[1:2], b[1:2]), metric(a, b)[1:2])


@pytest.mark.parametrize("metric", _distances(), ids=repr)
def test_the_gradient_is_finite_even_at_home_and_at_zero_features(metric: Distance) -> None:
    for a in (_images(0, size=8), torch.full((1, 3, 8, 8), -1.0)):
        leaf = a.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(metric(leaf, a).sum(), leaf)
        assert gradient.isfinite().all()
    dead = _network()
    nn.init.constant_(dead[0].bias, -1e3)  # Nothing passes the ReLU.
    leaf = _images(0, size=8).requires_grad_(True)
    features = FeatureDistance(dead, layers=["1"])
    (gradient,) = torch.autograd.grad(features(leaf, _images(1, size=8)).sum(), leaf)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("metric", _distances(), ids=repr)
def test_the_gradient_is_the_finite_difference(metric: Distance) -> None:
    a, b = _images(0, n=1, size=8), _images(1, n=1, size=8)
    leaf = a.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(metric(leaf, b).sum(), leaf)
    unit = gradient / gradient.norm()
    h = 1e-2
    slope = (metric(a + h * unit, b) - metric(a - h * unit, b)) / (2 * h)
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=0.05)
