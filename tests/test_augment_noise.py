"""Noise streams: one per image and purpose, standard normal, the same wherever they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from augment.noise import PERTURBATION, REVERSE, NoiseStream, uniform_labels

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


def test_an_images_draws_depend_on_neither_its_place_nor_its_neighbours() -> None:
    alone = NoiseStream([7], REVERSE, SHAPE, CPU)
    among = NoiseStream([3, 9, 7], REVERSE, SHAPE, CPU)
    for _ in range(3):
        assert torch.equal(alone.draw()[0], among.draw()[2])


def test_the_two_purposes_are_apart_and_do_not_advance_each_other() -> None:
    reverse, undisturbed = (NoiseStream([5], REVERSE, SHAPE, CPU) for _ in range(2))
    perturbation = NoiseStream([5], PERTURBATION, SHAPE, CPU)
    for _ in range(3):
        assert not torch.equal(reverse.draw(), perturbation.draw())
    for _ in range(3):
        undisturbed.draw()
    assert torch.equal(reverse.draw(), undisturbed.draw())


@pytest.mark.parametrize("seed", [5, 0, 2**31])
def test_no_stream_is_another_ones_whatever_the_seed(seed: int) -> None:
    """Seeds beyond 32 bits, whose words could run into the purpose's."""
    draws = [
        NoiseStream([s], purpose, SHAPE, CPU).draw()
        for s in (seed, seed + 1, seed + 2**32, seed + 2**64)
        for purpose in (REVERSE, PERTURBATION)
    ]
    assert len(torch.cat(draws).unique(dim=0)) == len(draws)


def test_draws_are_standard_normal_and_uncorrelated_over_seeds_purposes_and_time() -> None:
    seeds = range(400)
    streams = [NoiseStream(seeds, purpose, SHAPE, CPU) for purpose in (REVERSE, PERTURBATION)]
    draws = torch.stack([stream.draw() for stream in streams for _ in range(2)])  # (4, 400, ...)
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3
    rows = draws.flatten(2)
    bound = 4 / (rows[0].numel()) ** 0.5
    correlation = np.corrcoef(rows.flatten(1).numpy())
    assert np.abs(correlation - np.eye(4)).max() < bound
    neighbours = np.corrcoef(rows[0, :-1].flatten(), rows[0, 1:].flatten())[0, 1]
    assert abs(neighbours) < bound


def test_a_draw_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    NoiseStream([1, 2], REVERSE, SHAPE, CPU).draw()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_draw_is_float32_of_the_batchs_shape() -> None:
    draw = NoiseStream([1, 2, 3], REVERSE, (3, 4, 5), CPU).draw()
    assert (draw.shape, draw.dtype) == ((3, 3, 4, 5), torch.float32)


def test_some_of_the_images_draw_what_they_would_have_drawn_with_all() -> None:
    whole, parted = (NoiseStream([3, 9, 7], REVERSE, SHAPE, CPU) for _ in range(2))
    whole.draw()
    parts = [parted.rows(slice(0, 2)), parted.rows(slice(2, 3))]
    torch.cat([part.draw() for part in parts])
    assert torch.equal(torch.cat([part.draw() for part in parts]), whole.draw())
    assert torch.equal(parted.draw(), whole.draw())


def test_draws_of_a_block_that_fails_are_taken_back_and_no_others() -> None:
    stream, expected = (NoiseStream([3, 9], REVERSE, SHAPE, CPU) for _ in range(2))
    with stream.undone_on_error():
        assert torch.equal(stream.draw(), expected.draw())
    with pytest.raises(ZeroDivisionError), stream.undone_on_error():
        stream.draw().sum().item() / 0
    assert torch.equal(stream.draw(), expected.draw())


def test_classes_are_uniform_and_apart_from_the_noise() -> None:
    labels = uniform_labels(range(5000), 10)
    assert labels.dtype == torch.int64
    assert stats.chisquare(torch.bincount(labels, minlength=10).numpy()).pvalue > 1e-3
    assert torch.equal(uniform_labels([42, 7], 10), labels[[42, 7]])
