"""Fits that learned nothing, and arms that do not differ, are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from classify import Predictions, attribute_scores, cautions

ATTRIBUTES = ("a", "b")
LABELS = (np.random.default_rng(0).random((60, 2)) < 0.4).astype(np.float32)


def _cautions(**arms: NDArray[np.float32]) -> list[str]:
    """Of arms -> probabilities (S, N, A)."""
    parts = [
        attribute_scores(
            torch.from_numpy(p), torch.from_numpy(LABELS), ATTRIBUTES, split="test"
        ).assign(arm=arm, seed=seed)
        for arm, fits in arms.items()
        for seed, p in enumerate(fits)
    ]
    files = pd.Index([f"{i}.png" for i in range(len(LABELS))])
    predictions = Predictions(files=files, attributes=ATTRIBUTES, labels=LABELS, probabilities=arms)
    return cautions(pd.concat(parts), predictions)


def _fits(seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0, 0.4, (2, *LABELS.shape))
    return np.clip(LABELS + noise, 0, 1).astype(np.float32)


def test_fits_that_learned_something_else_each_are_beyond_reproach() -> None:
    assert _cautions(real=_fits(0), plain=_fits(1)) == []


def test_a_constant_fit_is_named_and_an_arm_that_is_never_right() -> None:
    constant, never = _fits(0), _fits(1)
    constant[1] = 0.9
    never[:] = 0.1
    assert _cautions(real=_fits(2), one=constant, never=never) == [
        "Every test image is predicted the same by one with seed 1, never with seed 0 and never "
        "with seed 1: nothing was learned.",
        "F1 is 0 with every seed and in every attribute for never.",
    ]


def test_an_attribute_that_no_arm_finds_is_named() -> None:
    fits = {"real": _fits(0), "plain": _fits(1)}
    for p in fits.values():
        p[..., 1] = 0.2
    assert _cautions(**fits) == ["F1 is 0 with every seed and in every arm for b."]


def test_arms_that_are_equal_to_three_digits_are_named() -> None:
    [caution] = _cautions(real=_fits(0), plain=_fits(1), again=_fits(0))
    assert caution.startswith("The macro scores of again and real are equal to three digits")
