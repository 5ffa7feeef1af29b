"""Verdicts against theory: Phi(d/2), halves of one set, balls of precision; and known bad sets."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

import augment.metrics.realism
from augment.metrics import precision_mask
from augment.metrics.realism import (
    LIKE,
    SYNTHETIC,
    TOO_FEW,
    UNLIKE,
    Balls,
    Realism,
    RealismGate,
    two_sample_accuracy,
)
from augment.metrics.views import TEXTURE, look, plain_views

VIEWS = plain_views()


def _normal(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def _scenes(count: int, seed: int = 0, *, red: float = 0.5) -> Tensor:
    """uint8 (N, 3, 32, 32): a disc of some place and size on a ground of some colour; red by
    `red`, else blue, and smooth shading over it.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    images = np.empty((count, 3, 32, 32))
    for image in images:
        image[:] = rng.uniform(90, 160, (3, 1, 1)) + rng.uniform(-1.5, 1.5) * (x - 16)
        disc = np.hypot(x - rng.uniform(11, 21), y - rng.uniform(11, 21)) < rng.uniform(5, 9)
        image[:, disc] = 60
        image[0 if rng.random() < red else 2, disc] = 220
        image += rng.normal(0, 4, image.shape)
    return torch.from_numpy(images.clip(0, 255)).byte()


def _judged(generated: Tensor, real: Tensor | None = None) -> Realism:
    real = _scenes(150) if real is None else real
    return RealismGate(look(real, VIEWS))(look(generated, VIEWS))


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_the_accuracy_on_two_gaussians_is_phi_of_half_their_distance(distance: float) -> None:
    a, b = _normal(1500, 4), _normal(1500, 4, 1)
    b[:, 0] += distance
    error = np.sqrt(2 * 0.25 / 1500) / 2
    expected = stats.norm.cdf(distance / 2)
    assert two_sample_accuracy(a, b) == pytest.approx(expected, abs=4 * error)


def test_unequal_sets_have_the_accuracy_of_equal_ones() -> None:
    a, b = _normal(3000, 3), _normal(150, 3, 1) + torch.tensor([2.0, 0, 0])
    assert two_sample_accuracy(a, b) == pytest.approx(stats.norm.cdf(1), abs=0.06)
    assert two_sample_accuracy(b, a) == pytest.approx(two_sample_accuracy(a, b), abs=0.02)


def test_copies_of_real_images_are_told_worse_than_by_chance() -> None:
    real = _normal(200, 8)
    assert two_sample_accuracy(real, real + 0.01 * _normal(200, 8, 1)) < 0.4


def test_an_image_is_in_a_ball_where_precision_says_so() -> None:
    real, generated = _normal(80, 5), 1.5 * _normal(60, 5, 1)
    inside = precision_mask(generated, real, k=3)
    assert 5 < inside.sum() < 55
    assert np.array_equal(Balls(real)(generated) > 0, inside)


def test_a_real_image_is_placed_as_if_it_were_not_there() -> None:
    real = _normal(30, 4)
    rest = [torch.cat([real[:i], real[i + 1 :]]) for i in range(len(real))]
    alone = [Balls(others)(real[i : i + 1])[0] for i, others in enumerate(rest)]
    assert np.allclose(Balls(real).own(), alone)


def test_a_set_in_blocks_is_judged_as_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = _scenes(60), _scenes(50, 1)
    generated = torch.cat([generated, generated[7:8], generated[40:41]])
    whole = _judged(generated, real)
    assert whole.images == (60, 50)
    monkeypatch.setattr(augment.metrics.realism, "_AT_ONCE", 9)
    parts = _judged(generated, real)
    assert np.allclose(parts.scores, whole.scores)
    assert (parts.images, parts.outside) == (whole.images, whole.outside)
    pd.testing.assert_frame_equal(parts.views, whole.views)


def test_halves_of_one_set_are_like_one_another() -> None:
    found = [_judged(_scenes(150, seed), _scenes(150, 99 - seed)) for seed in range(1, 5)]
    assert [one.verdict for one in found] == [LIKE] * 4
    assert np.mean([one.outside for one in found]) == pytest.approx(0.05, abs=0.04)
    figures = np.mean([one.views[["frechet", "precision"]] for one in found], axis=(0, 1))
    assert figures == pytest.approx([1, 1], abs=0.15)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *product(["noise", "mosaic", "constant", "inverted"], [64, 150]),
        ("shuffled", 150),  # of fewer, not enough lie outside to be sure
        ("blurred", 150),
    ],
)
def test_bad_sets_are_unlike(kind: str, count: int) -> None:
    real, torch_seed = _scenes(count, 7), torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, 32, 32), generator=torch_seed, dtype=torch.uint8)
    quarters = real.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)  # (N, 3, 16, 8, 8)
    order = torch.randperm(16, generator=torch_seed)
    shuffled = quarters[:, :, order].unflatten(2, (4, 4)).transpose(3, 4).reshape(real.shape)
    bad = {
        "noise": noise,
        "mosaic": noise[:, :, :8, :8].repeat_interleave(4, 2).repeat_interleave(4, 3),
        "shuffled": shuffled,
        "blurred": F.avg_pool2d(real.float(), 9, 1, 4, count_include_pad=False).byte(),
        "constant": noise[:, :, :1, :1].expand_as(real),
        "inverted": 255 - real,
    }[kind]
    found = _judged(bad, _scenes(count))
    assert found.verdict == UNLIKE
    assert (found.scores < 0).mean() == pytest.approx(found.outside, abs=0.05)


def test_grey_images_and_half_noise_are_judged() -> None:
    grey = [_scenes(100, seed)[:, :1].expand(-1, 3, -1, -1) for seed in (0, 1)]
    assert _judged(grey[1], grey[0]).verdict == LIKE
    assert _judged(_scenes(100, 1), grey[0]).verdict == UNLIKE  # coloured ones beside them


def test_a_set_of_what_is_rare_is_told_apart_but_not_unlike() -> None:
    real = _scenes(300, red=0.05)
    found = _judged(_scenes(100, 1, red=1.0), real)
    assert found.verdict == SYNTHETIC
    assert found.telling["accuracy"] > 0.9
    assert found.outside < 0.3


def test_repeats_vouch_for_nothing() -> None:
    noise = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    good = _scenes(1, 5).expand(300, -1, -1, -1)
    found = _judged(torch.cat([good, noise]))
    assert found.verdict == UNLIKE
    assert found.images == (150, 41)
    assert len(found.scores) == 340
    assert _judged(good).verdict == TOO_FEW


def test_few_images_are_not_judged_and_it_is_said() -> None:
    for real, generated in ((31, 100), (100, 31)):
        found = _judged(_scenes(generated, 1), _scenes(real))
        assert found.verdict == TOO_FEW
        assert np.isnan(found.scores).all()
        assert "31" in found.sentence()


def test_it_is_said_where_images_are_too_few_to_show_all_that_is_bad() -> None:
    """By the margin of two standard errors, 27 of 32 may be chance, 270 of 320 are unlike."""
    views = pd.DataFrame({"accuracy": [0.9]}, index=["pixels"])
    few, many, inside = (
        Realism(scores=np.zeros(n), outside=share, images=(n, n), views=views)
        for n, share in ((32, 27 / 32), (320, 27 / 32), (320, 0.1))
    )
    assert (few.verdict, many.verdict, inside.verdict) == (SYNTHETIC, UNLIKE, SYNTHETIC)
    assert "; 32 images beside 32 hardly show a generator that was trained too" in few.sentence()
    assert not any("hardly show" in one.sentence() for one in (many, inside))


def test_texture_that_gives_every_image_away_needs_fewer_of_them_outside() -> None:
    def verdict(view: str, outside: float) -> str:
        views = pd.DataFrame({"accuracy": [0.99]}, index=[view])
        return Realism(
            scores=np.zeros(100), outside=outside, images=(100, 100), views=views
        ).verdict

    assert verdict(TEXTURE, 0.6) == UNLIKE
    assert verdict(TEXTURE, 0.2) == SYNTHETIC  # all there is of something rare
    assert verdict("spectrum", 0.6) == SYNTHETIC  # so does any change of size


def test_the_views_are_the_same_wherever_they_are_made() -> None:
    images, stream = _scenes(3), torch.random.get_rng_state()
    again = look(images, plain_views())
    assert torch.equal(torch.random.get_rng_state(), stream)
    for name, found in look(images, VIEWS).items():
        assert torch.equal(found, again[name])


def test_a_wave_is_found_at_its_frequency() -> None:
    wave = 127.5 + 100 * torch.sin(2 * torch.pi * 5 * torch.arange(32) / 32)
    image = wave.expand(1, 3, 32, 32).round().byte()
    assert int(look(image, VIEWS)["spectrum"][0, :16].argmax()) == 5 - 1


def test_features_of_other_views_are_refused() -> None:
    gate = RealismGate(look(_scenes(40), VIEWS))
    with pytest.raises(ValueError, match="the views are pixels; give pixels, spectrum, random"):
        gate({"pixels": _normal(40, 192)})
