"""Several labelers as one: each attribute is the first's that knows it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from labeling import Combination, Labeler, LabelerCard, label_probabilities, pseudo_label


class _Brightness(nn.Module):
    """The mean brightness times each attribute's factor."""

    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.factors = torch.tensor(factors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None] * self.factors


def _labeler(factors: dict[str, float], size: int = 8, threshold: float = 0.5) -> Labeler:
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
    first, second = _labeler({"a": 1, "b": 2}), _labeler({"b": -3, "c": 4}, 16, 0.9)
    both, table = Combination([first, second]), _table(tmp_path)
    assert both.attributes == ("a", "b", "c")
    assert both.thresholds == {"a": 0.5, "b": 0.5, "c": 0.9}
    one, other = (label_probabilities(table, labeler) for labeler in (first, second))
    expected = np.column_stack([one, other[:, 1]])
    np.testing.assert_array_equal(label_probabilities(table, both, batch_size=2), expected)


def test_images_are_seen_by_each_as_by_itself() -> None:
    images = torch.randint(256, (3, 3, 20, 20), dtype=torch.uint8)
    first, second = _labeler({"a": 1}), _labeler({"b": 2}, 16)
    expected = torch.cat([first(images), second(images)], 1)
    torch.testing.assert_close(Combination([first, second])(images), expected, rtol=0, atol=0)


def test_what_none_knows_stays_empty(tmp_path: Path) -> None:
    labelled = pseudo_label(
        _table(tmp_path), Combination([_labeler({"a": 1}), _labeler({"b": 2})]), ["b", "z"]
    )
    assert labelled["z"].isna().all()
    assert labelled["b"].notna().all()


def test_a_part_that_adds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="labeler b adds nothing"):
        Combination([_labeler({"a": 1, "b": 2}), _labeler({"b": 2})])
    with pytest.raises(ValueError, match="expected at least one"):
        Combination([])
