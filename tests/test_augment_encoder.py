"""An encoder's preprocessing against Pillow and closed forms, and what its card depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from augment.metrics import Encoder, Preprocessing

PLAIN = Preprocessing(size=8, mean=[0, 0, 0], std=[1, 1, 1])


def _images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _encoder(preprocessing: Preprocessing = PLAIN, name: str = "pixels") -> Encoder:
    return Encoder.of(nn.Flatten(), preprocessing, name=name)


def test_values_are_normalised_by_channel() -> None:
    preprocessing = Preprocessing(size=2, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 4.0])
    found = preprocessing(torch.full((1, 1, 5, 3), 51, dtype=torch.uint8))
    expected = torch.tensor([0.1, 0.0, -0.025]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [8, 50])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_pillows_without_its_rounding(interpolation: str, size: int) -> None:
    preprocessing = replace(PLAIN, size=size, interpolation=interpolation)  # type: ignore[arg-type]
    image = _images(1, 3, 20, 32) // 2 + 64  # so that nothing overshoots
    found = preprocessing(image) * 255
    resample = Image.Resampling[interpolation.upper()]
    pillow = pil_to_tensor(to_pil_image(image[0]).resize((size, size), resample)).float()
    # Pillow rounds to whole levels, once along each side.
    assert (found[0] - pillow).abs().max() < 1.6
    assert 0 <= found.min() <= found.max() <= 255


def test_without_antialias_pixels_in_between_are_not_seen() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[..., 0::4] = 255
    assert replace(PLAIN, antialias=False)(image).max() == 0
    assert PLAIN(image).min() > 0.1


def test_images_of_unlike_sizes_are_encoded_as_each_alone() -> None:
    images = [_images(3, 8, 8), _images(3, 20, 10), _images(1, 9, 9)]
    together = _encoder()(images)
    assert together.shape == (3, 192)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat([_encoder()(i[None]) for i in images]))


def test_the_network_is_frozen_and_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5))
    features = Encoder.of(network, PLAIN, name="small")(_images(2, 3, 8, 8))
    assert not features.requires_grad
    assert not network.training


def test_the_key_is_of_what_decides_the_features() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Conv2d(3, 2, 1)
    card = Encoder.of(network, PLAIN, name="a").card
    same = replace(card, name="b", source="elsewhere")
    others = [
        replace(card, preprocessing=replace(PLAIN, interpolation="bicubic")),
        replace(card, preprocessing=replace(PLAIN, antialias=False)),
        replace(card, layer="other"),
        replace(card, sha256="0"),
        Encoder.of(nn.Conv2d(3, 2, 1), PLAIN, name="a").card,
        Encoder.of(nn.Flatten(), PLAIN, name="a").card,
    ]
    assert same.key == card.key
    assert len({card.key, *(other.key for other in others)}) == 7


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"images are torch.float32 \(2, 3, 8, 8\); give uint8 \(N"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), r"\(2, 4, 8, 8\); give uint8 \(N, 1"),
        ([], "there is no image to encode"),
    ],
)
def test_other_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _encoder()(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0; give the side in pixels, 1 or more"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; give 3 finite numbers"),
        ({"std": [1.0, 0.0, 1.0]}, "std is .* give 3 numbers above 0"),
        ({"interpolation": "lanczos"}, "interpolation is 'lanczos'; give bilinear or bicubic"),
    ],
)
def test_other_preprocessing_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **change)  # type: ignore[arg-type]
