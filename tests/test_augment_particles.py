"""Particle guidance by a naive loop, its symmetries, and that groups alone couple images."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from augment_doubles import class_denoiser, mixture_denoiser, step_of, tiny_denoiser
from torch import Tensor

from augment import SamplerConfig, SelfGuidance, Sum, generate, reverse_process, sample
from augment.devices import Backoff
from augment.guidance import ParticleGuidance
from augment.step import group_of


def _points(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _force(x: Tensor, group: int = 4, first: int = 0, **settings: object) -> Tensor:
    guidance = ParticleGuidance(group=group, scale=1.0, unit="fixed", **settings)  # type: ignore[arg-type]
    denoiser = tiny_denoiser("fixed_small", channels=1)
    seeds = range(first, first + len(x))
    return guidance.shift(step_of(denoiser, 40, x=x, seeds=seeds, linear=2.0))


def test_the_force_is_that_of_a_naive_loop() -> None:
    x = _points(8)
    for i in range(8):
        others = [j for j in range(8) if j // 4 == i // 4 and j != i]
        squared = {j: float((x[i] - x[j]).square().sum()) for j in others}
        h = sorted(squared.values())[1] / math.log(4)
        force = torch.zeros(1, 8, 8)
        for j in others:
            force += 2 * math.exp(-squared[j] / h) * (x[i] - x[j]) / h
        torch.testing.assert_close(_force(x)[i], force / force.abs().max(), rtol=1e-4, atol=1e-5)


def test_two_particles_repel_one_another_equally() -> None:
    x = _points(2)
    one, other = _force(x, group=2)
    torch.testing.assert_close(one, -other)
    torch.testing.assert_close(one, (x[0] - x[1]) / (x[0] - x[1]).abs().max())


def test_where_the_group_lies_and_what_else_there_is_does_not_matter() -> None:
    x = _points(8)
    torch.testing.assert_close(_force(x + 3), _force(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(_force(x[4:], first=4), _force(x)[4:])
    order = [2, 0, 3, 1]
    torch.testing.assert_close(_force(x[order]), _force(x[:4])[order])


def test_features_of_the_estimate_repel_as_its_pixels_do() -> None:
    """Where the estimate is 2 x, whose widths scale alike."""
    x = _points(4)
    torch.testing.assert_close(_force(x, features=lambda x0: x0.flatten(1)), _force(x))


def test_images_that_are_the_same_are_left_alone() -> None:
    assert not _force(_points(1).expand(4, -1, -1, -1)).any()


def test_batches_and_broken_groups_change_nothing() -> None:
    denoiser, guidance = tiny_denoiser(), ParticleGuidance(group=3, scale=2.0)
    options = {"steps": 6, "guidance": guidance}
    whole = sample(denoiser, range(6), **options).int()  # type: ignore[arg-type]
    for batch_size in (3, 2, 1):
        parts = sample(denoiser, range(6), batch_size=batch_size, **options).int()  # type: ignore[arg-type]
        assert (whole - parts).abs().max() <= 1
    some = sample(denoiser, [4, 1], **options).int()  # type: ignore[arg-type]
    assert (whole[[4, 1]] - some).abs().max() <= 1
    assert (whole - sample(denoiser, range(6), steps=6).int()).abs().max() > 1


def test_no_strength_is_plain_sampling_and_a_step_costs_no_forward() -> None:
    denoiser = tiny_denoiser()
    plain = sample(denoiser, range(4), steps=8)
    assert torch.equal(sample(denoiser, range(4), steps=8, guidance=_off()), plain)
    denoiser.network.forwards = denoiser.network.backwards = 0  # type: ignore[assignment]
    sample(denoiser, range(4), steps=8, guidance=ParticleGuidance())
    assert (denoiser.network.forwards, denoiser.network.backwards) == (8, 0)


def _off() -> ParticleGuidance:
    return ParticleGuidance(scale=0.0)


def test_only_the_steps_of_much_noise_are_guided() -> None:
    denoiser, guidance = tiny_denoiser(), ParticleGuidance()
    kept = denoiser.schedule.respaced(100)
    differs = [guidance.active(i, 100) != (kept.alpha_bar[i] < 0.5) for i in range(100)]
    assert sum(differs) < 3


def test_a_group_of_a_known_mixture_lies_farther_apart() -> None:
    denoiser = mixture_denoiser((0.5, -0.5), (0.8, 0.2))

    def within(guidance: ParticleGuidance | None) -> float:
        images = sample(denoiser, range(400), steps=30, guidance=guidance).float()
        bright = (images.mean(dim=(1, 2, 3)) > 127.5).reshape(-1, 2)
        return float((bright[:, 0] != bright[:, 1]).float().mean())

    alone = within(None)  # 2 * .8 * .2
    assert alone == pytest.approx(0.32, abs=0.1)
    assert within(ParticleGuidance(group=2, scale=2.0)) > alone + 0.1


def test_groups_of_a_sum_are_made_of_whole_groups_of_its_parts() -> None:
    assert group_of(Sum(ParticleGuidance(group=4), SelfGuidance())) == 4
    assert group_of(Sum(ParticleGuidance(group=4), ParticleGuidance(group=6))) == 12
    assert group_of(SelfGuidance()) == group_of(None) == 1


def test_a_batch_that_is_too_large_is_parted_between_groups() -> None:
    def room_for_six(rows: slice) -> list[int]:
        if rows.stop - rows.start > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(rows.start, rows.stop))

    assert [len(part) for part in Backoff(4).parts(12, room_for_six)] == [4, 4, 4]
    with pytest.raises(torch.OutOfMemoryError):
        Backoff(8).parts(16, room_for_six)


def test_the_record_and_the_table_tell_the_groups(tmp_path: Path) -> None:
    sampler, guidance = SamplerConfig(steps=3, batch_size=5), ParticleGuidance(group=2)
    generate(tiny_denoiser(), range(5), tmp_path, sampler=sampler, guidance=guidance)
    table = pd.read_csv(tmp_path / "metadata.csv")
    assert table["seed_group"].tolist() == [0, 0, 1, 1, 2]
    assert "group=2" in (tmp_path / "settings.json").read_text()


def test_classes_go_with_their_seeds_and_those_of_a_whole_group_are_needed() -> None:
    denoiser, guidance = class_denoiser(), ParticleGuidance(group=2)
    sample(denoiser, [3, 2], steps=1, labels=[1, 0], guidance=guidance)
    assert denoiser.network.seen[-1].tolist() == [0, 1]  # type: ignore[union-attr, index]
    with pytest.raises(ValueError, match="seed 2 has no class, and others of this batch depend"):
        sample(denoiser, [3], steps=1, labels=[1], guidance=guidance)


def test_what_is_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match=r"particles\.group is 1; give at least 2 images"):
        ParticleGuidance(group=1)
    run = reverse_process(tiny_denoiser(), [1, 2], steps=9, guidance=ParticleGuidance(group=2))
    with pytest.raises(ValueError, match="the seeds 1 to 2 break a group of 2; give whole groups"):
        next(run)
