"""The minority score against Eq. 5 in a loop, an exact mixture, and the official code's choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from augment_doubles import class_denoiser, mixture_denoiser, tiny_denoiser
from PIL import Image
from torch import Tensor

from augment import L1, L2, Schedule
from augment.minority_score import (
    ScoreConfig,
    minority_classes,
    minority_score,
    score_files,
)
from augment.noise import SCORE, NoiseStream


def _images(n: int, channels: int = 3, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def test_it_is_equation_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("augment.minority_score._seeds", lambda images, seed: range(3))
    denoiser, images = tiny_denoiser(), _images(3)
    config = ScoreConfig(perturb=40, samples=2)
    found = minority_score(denoiser, images, L1(), config)
    chain = denoiser.schedule.respaced(100)
    signal, tau = float(chain.alpha_bar[40]), int(chain.timesteps[40])
    noise = NoiseStream(range(3), SCORE, (3, 8, 8), torch.device("cpu"))
    x = images.float() / 127.5 - 1
    scores = torch.zeros(3)
    for _ in range(2):
        x_t = signal**0.5 * x + (1 - signal) ** 0.5 * noise.draw()
        with torch.no_grad():
            eps = denoiser.network(x_t, torch.full((3,), tau))[:, :3]
        x0 = ((x_t - (1 - signal) ** 0.5 * eps) / signal**0.5).clamp(-1, 1)
        scores += (x - x0).abs().sum(dim=(1, 2, 3)) / 2
    torch.testing.assert_close(found, scores, rtol=1e-4, atol=1e-4)


def test_an_image_of_the_rare_mode_scores_higher() -> None:
    denoiser = mixture_denoiser(means=(0.5, -0.5), weights=(0.95, 0.05))
    grey = [torch.full((1, 4, 4), level, dtype=torch.uint8) for level in (191, 64)]
    scores = minority_score(denoiser, torch.stack(grey), L2(), ScoreConfig(samples=20))
    assert scores[1] > 1.5 * scores[0]


def test_a_score_depends_on_the_image_and_the_seed_alone() -> None:
    denoiser, images = tiny_denoiser(), _images(4)
    together = minority_score(denoiser, images, L2())
    backwards = minority_score(denoiser, images.flip(0), L2()).flip(0)
    alone = torch.cat([minority_score(denoiser, image[None], L2()) for image in images])
    torch.testing.assert_close(together, backwards)
    torch.testing.assert_close(together, alone)
    other = minority_score(denoiser, images, L2(), ScoreConfig(seed=1))
    assert (other != together).all()


def test_the_noise_left_out_is_the_papers() -> None:
    assert ScoreConfig().index(Schedule.linear().respaced(100)) == 60
    assert ScoreConfig().index(Schedule.cosine().respaced(100)) == 90
    assert ScoreConfig(perturb=7).index(Schedule.linear().respaced(100)) == 7


def test_classes_are_quantiles_open_below() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(100.0))
    found = minority_classes(scores, 7)
    bounds = [np.quantile(scores, (j + 1) / 7) for j in range(7)]
    naive = [next(j for j in range(7) if score <= bounds[j]) for score in scores]
    assert found.tolist() == naive
    assert found[scores.argmax()] == 6
    assert np.ptp(np.bincount(found)) <= 1
    assert minority_classes([-1.0, 1.0, 2.0, 99.0], 2, fitted_on=[0.0, 1, 2]).tolist() == [
        *(0, 0),
        *(1, 1),
    ]
    for count in (1, 101):
        with pytest.raises(ValueError, match=f"^classes is {count} for 100 scores; give 2"):
            minority_classes(scores, count)


def test_a_generator_with_classes_needs_and_takes_them() -> None:
    denoiser, images = class_denoiser(), _images(3, channels=1)
    with pytest.raises(ValueError, match=r"^the model is class-conditional and got no labels"):
        minority_score(denoiser, images, L2())
    scores = [
        minority_score(denoiser, images, L2(), labels=torch.full((3,), label)) for label in (0, 3)
    ]
    assert (scores[0] != scores[1]).all()


def test_equal_scores_are_of_one_class_the_lowest_that_holds_them() -> None:
    assert minority_classes([1.0, 1, 1, 1, 2, 3], 3).tolist() == [0, 0, 0, 0, 2, 2]
    assert minority_classes([5.0] * 4, 4).tolist() == [0] * 4


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, _images(6, size=11), strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)

    def broken(a: Tensor, b: Tensor) -> Tensor:
        distances = L2()(a, b)
        distances[-1] = torch.nan
        return distances

    with pytest.raises(ValueError, match=r"^the score of .*3\.png is not finite; take another gen"):
        score_files(
            tiny_denoiser(), paths, broken, read=Image.open, config=ScoreConfig(batch_size=4)
        )


def test_images_of_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^images are .* \(2, 3, 9, 9\); give uint8"):
        minority_score(tiny_denoiser(), _images(2, size=9), L2())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perturb": 100}, "score.perturb is 100; give 0 to 99"),
        ({"samples": 0}, "score.samples is 0; give at least 1"),
        ({"seed": -1}, "score.seed is -1; give at least 0"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreConfig(**settings)  # type: ignore[arg-type]
