"""The diversity of each target's images, on sets whose spread is known."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from recipes.chain.measures.diversity import Seen, diversity, spread

COUNT = 4000


def _seen(features: Tensor, pixels: Tensor, **columns: Any) -> Seen:
    return Seen(table=pd.DataFrame(columns), features=features, few_pixels=pixels)


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _pixels(colour: float, layout: float, seed: int) -> Tensor:
    """RGB at 8 x 8 whose mean colours and whose light and dark vary by so much."""
    tint, light = _normal(COUNT, 3, 1, seed=seed), _normal(COUNT, 1, 64, seed=seed + 1)
    light = light - light.mean(dim=2, keepdim=True)
    return (colour * tint + layout * light).flatten(1)


def test_each_view_sees_its_own_spread() -> None:
    real = _seen(_normal(COUNT, 5, seed=0), _pixels(0.2, 0.1, 1), Bald=[1, 0] * (COUNT // 2))
    made = _seen(
        0.5 * _normal(COUNT, 5, seed=3), _pixels(0.05, 0.2, 4), target_Bald=[1, None] * (COUNT // 2)
    )
    table = diversity(real, {"steered": made})
    assert table[["set", "attribute", "value", "images", "real"]].to_numpy().tolist() == [
        ["steered", "Bald", 1, COUNT // 2, COUNT // 2]
    ]
    ratios = table[["features", "colours", "layout"]].to_numpy()[0]
    assert ratios == pytest.approx([0.5, 0.25, 2], rel=0.05)


def test_only_the_images_of_the_target_count() -> None:
    target = torch.tensor([1.0, 0.0]).repeat(COUNT // 2)
    features = _normal(COUNT, 3, seed=0) * (1 + 9 * (1 - target))[:, None]
    real = _seen(features, _pixels(1, 1, 1), Bald=target.numpy())
    made = _seen(features, _pixels(1, 1, 1), target_Bald=target.numpy())
    assert diversity(real, {"same": made})["features"].tolist() == [1, 1]
    assert spread(features[target == 1]) == pytest.approx(3**0.5, rel=0.05)


@pytest.mark.parametrize("asked", [3, 0])
def test_too_few_images_and_unknown_attributes_have_no_row(asked: int) -> None:
    some = [1] * asked + [None] * (COUNT - asked)
    real = _seen(_normal(COUNT, 3, seed=0), _pixels(1, 1, 1), Bald=[1] * COUNT)
    made = _seen(real.features, real.few_pixels, target_Bald=some, target_Hat=[1] * COUNT)
    assert diversity(real, {"few": made}).empty
