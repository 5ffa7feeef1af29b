"""CADS by its closed forms, whose noise an image's seed and step alone decide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from augment_doubles import tiny_denoiser, tiny_unet
from torch import Tensor

from augment import CADS, Denoiser, ImageFormat, SamplerConfig, Schedule, generate, sample
from augment.classifier_free import towards_class


def _denoiser() -> Denoiser:
    """Knows four classes and none, whose embeddings are far apart."""
    network = tiny_unet(num_class_embeds=5)
    torch.nn.init.normal_(
        network.class_embedding.weight, generator=torch.Generator().manual_seed(0)
    )
    network.class_embedding.weight.data *= 5
    image = ImageFormat(channels=3, size=8)
    return Denoiser(network, Schedule.cosine(), image, classes=4, null_class=4)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_class_is_unknown_at_noise_and_known_at_the_image() -> None:
    cads = CADS(clean=0.6, unknown=0.9)
    found = [cads.gamma(t) for t in (0.0, 0.6, 0.75, 0.9, 1.0)]
    assert found == pytest.approx([1, 1, 0.5, 0, 0])


def test_without_noise_and_rescaling_the_class_shrinks() -> None:
    y, n = _normal(3, 32), _normal(3, 32, seed=1)
    torch.testing.assert_close(CADS(noise=0, mixing=0).corrupted(y, n, 0.3), 0.3**0.5 * y)


@pytest.mark.parametrize("mixing", [0.0, 0.4, 1.0])
def test_a_known_class_is_left_alone(mixing: float) -> None:
    y, n = 2 + _normal(3, 32), _normal(3, 32, seed=1)
    torch.testing.assert_close(CADS(noise=0.5, mixing=mixing).corrupted(y, n, 1.0), y)


def test_rescaled_noise_has_the_classes_moments_whatever_its_size() -> None:
    y, n = 2 + 3 * _normal(3, 32), _normal(3, 32, seed=1)
    small, large = (CADS(noise=s).corrupted(y, n, 0.0) for s in (0.01, 1.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(small.std(dim=1), y.std(dim=1))
    torch.testing.assert_close(small.mean(dim=1), y.mean(dim=1))


def test_images_depend_on_their_seed_alone_and_the_classes_stay_as_they_were() -> None:
    denoiser, options = _denoiser(), {"steps": 6, "labels": [1, 2, 3]}
    plain = sample(denoiser, range(3), **options).int()  # type: ignore[arg-type]
    noised = CADS(noise=1.0).applied(denoiser)
    whole = sample(noised, range(3), **options).int()  # type: ignore[arg-type]
    alone = sample(noised, range(3), batch_size=1, **options).int()  # type: ignore[arg-type]
    assert (whole - alone).abs().max() <= 1
    assert (whole - plain).abs().max() > 1
    after = sample(denoiser, range(3), **options).int()  # type: ignore[arg-type]
    assert torch.equal(after, plain)


def test_with_class_guidance_only_the_half_with_the_class_is_noised() -> None:
    denoiser, seen = _denoiser(), list[Tensor]()
    table = denoiser.network.class_embedding
    guided = CADS(noise=1.0).applied(towards_class(denoiser, 2.0))
    kept, labels = denoiser.schedule.respaced(5), torch.tensor([1, 2])
    assert guided.condition is not None
    with guided.condition((0, 1), 4, kept):
        table.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        guided(_normal(2, 3, 8, 8), 4, kept, labels)
    none = table.weight[[4, 4]]  # type: ignore[index]
    torch.testing.assert_close(seen[0][2:], none)
    assert not torch.allclose(seen[0][:2], table.weight[labels], atol=0.1)  # type: ignore[index]


def test_the_settings_reach_the_record_and_a_model_without_classes_is_refused(
    tmp_path: Path,
) -> None:
    sampler = SamplerConfig(steps=2, cads=CADS())
    generate(_denoiser(), range(2), tmp_path / "cads", sampler=sampler)
    record = json.loads((tmp_path / "cads" / "settings.json").read_text())
    assert record["cads"] == vars(CADS())
    with pytest.raises(ValueError, match="cads is given, and the generator has no embedding of c"):
        generate(tiny_denoiser(), range(2), tmp_path / "new", sampler=sampler)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -1.0}, r"cads\.noise is -1"),
        ({"clean": 0.9}, r"cads\.clean is 0\.9 and cads\.unknown 0\.9"),
        ({"mixing": 2.0}, r"cads\.mixing is 2"),
    ],
)
def test_what_is_no_schedule_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CADS(**settings)
