"""Copies are found however they were changed, distinct images are not; blocks change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import augment.selection.near_copies
from augment.selection.near_copies import Calibration, Signatures, calibrate, nearest
from classify.datasets.avatars import draw, sample


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """Avatars, uint8 (240, 3, 32, 32): distinct faces that look much alike."""
    rng = np.random.default_rng(0)
    drawn = [draw(row, seed, size=32) for seed, row in enumerate(sample(240, rng))]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def calibration(faces: Tensor) -> Calibration:
    return calibrate(faces)


def _jpeg(images: Tensor) -> Tensor:
    decoded = []
    for image in images:
        file = BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=75)
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def _noisy(images: Tensor) -> Tensor:
    noise = torch.randint(-2, 3, images.shape, generator=torch.Generator().manual_seed(0))
    return (images.int() + noise).clamp(0, 255).byte()


EDITS: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": lambda images: images,
    "jpeg": _jpeg,
    "noise": _noisy,
    "moved right": lambda images: images.roll(1, 3),
    "moved down and left": lambda images: images.roll((1, -1), (2, 3)),
    "mirrored": lambda images: images.flip(3),
    "brighter": lambda images: (images.float() * 1.05 + 5).clamp(0, 255).byte(),
    "all of it": lambda images: _noisy(_jpeg(images.roll((1, -1), (2, 3)).flip(3))),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_copy_is_found_with_its_original_whatever_was_done_to_it(
    faces: Tensor, calibration: Calibration, edit: Callable[[Tensor], Tensor]
) -> None:
    distance, position = nearest(edit(faces[40:60]), Signatures.of(faces))
    assert (distance < calibration.threshold).all()
    assert position.tolist() == list(range(40, 60))


def test_distinct_faces_are_no_copies(faces: Tensor) -> None:
    calibration = calibrate(faces[:160])
    distance, _ = nearest(faces[160:], Signatures.of(faces[:160]))
    assert not (distance < calibration.threshold).any()
    assert calibration.found >= 0.99
    assert calibration.false_alarms <= 0.001
    assert calibration.chance == pytest.approx(1 / 161 / 160)  # none of 160 came near one of 160
    assert calibration.certain < calibration.threshold


def test_repeats_within_the_real_set_do_not_pull_the_threshold_down(
    faces: Tensor, calibration: Calibration
) -> None:
    repeated = calibrate(torch.cat([faces, _noisy(faces[:60])]))
    assert repeated.threshold == pytest.approx(calibration.threshold, rel=0.15)
    assert repeated.false_alarms == pytest.approx(120 / 300)


def test_where_distinct_images_are_as_near_as_copies_few_are_taken_for_them() -> None:
    noise = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (1, 1, 4, 4), generator=noise).repeat_interleave(8, 2)
    alike = one.repeat_interleave(8, 3) + torch.randint(-13, 14, (200, 1, 32, 32), generator=noise)
    calibration = calibrate(alike.clamp(0, 255).byte(), false_alarms=0.01)
    assert calibration.false_alarms <= 0.02
    assert calibration.found < 0.9  # and it says so
    assert calibration.certain == calibration.threshold
    assert calibration.chance * 200 > calibration.false_alarms


def test_blocks_are_a_matter_of_memory_only(faces: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.arange(30)
    whole = nearest(faces[:30], Signatures.of(faces), own=own)
    monkeypatch.setattr(augment.selection.near_copies, "_IMAGES", 7)
    monkeypatch.setattr(augment.selection.near_copies, "_REFERENCES", 11)
    parts = nearest(faces[:30], Signatures.of(faces), own=own)
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    assert (whole[1] != own).all()


@pytest.mark.parametrize("within", [0.02, 0.1, 0.3, 0.6, 1.2])
def test_what_lies_within_a_distance_is_found_as_without_it(faces: Tensor, within: float) -> None:
    images = torch.cat([edit(faces[:20]) for edit in EDITS.values()] + [faces[200:]])
    whole = nearest(images, Signatures.of(faces[:200]))
    found = nearest(images, Signatures.of(faces[:200]), within=within)
    inside = whole[0] <= within
    assert torch.equal(found[0] <= within, inside)
    torch.testing.assert_close(found[0][inside], whole[0][inside], atol=1e-3, rtol=0)
    assert torch.equal(found[1][inside], whole[1][inside])


def test_of_references_far_away_few_poses_are_looked_at(
    faces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    multiply = Tensor.__matmul__

    def counting(self: Tensor, other: Tensor) -> Tensor:
        product = multiply(self, other)
        compared.append(product.numel())
        return product

    monkeypatch.setattr(Tensor, "__matmul__", counting)
    nearest(faces[200:], Signatures.of(faces[:200]), within=0.05)
    assert sum(compared) < 18 * 40 * 200 / 3


def test_a_pose_costs_nothing_and_one_colour_is_like_nothing(faces: Tensor) -> None:
    inner = faces[:, :, 4:28, 4:28]
    moved = faces[:, :, 5:29, 3:27].flip(3)
    assert nearest(moved, Signatures.of(inner))[0].max() < 2e-3
    grey = torch.full((1, 3, 32, 32), 90, dtype=torch.uint8)
    assert nearest(grey, Signatures.of(torch.cat([faces, grey])))[0].item() == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("images", "references", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "float32"),
        (torch.zeros(2, 3, 8, 8).byte(), torch.zeros(2, 3, 9, 9).byte(), r"\(8, 8\).*\(9, 9\)"),
        (torch.zeros(2, 3, 8, 8).byte(), torch.zeros(0, 3, 8, 8).byte(), "no reference"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    images: Tensor, references: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(images, Signatures.of(references))


def test_too_few_images_or_nothing_but_repeats_leave_only_what_is_the_same(faces: Tensor) -> None:
    for images in (faces[:19], faces[:1].repeat(30, 1, 1, 1)):
        calibration = calibrate(images)
        assert math.isnan(calibration.found)
        same, other = nearest(faces[[0, 25]], Signatures.of(images))[0]
        assert same < calibration.threshold < other


def test_of_real_images_a_batch_and_the_sample_are_read_at_a_time(faces: Tensor) -> None:
    """All of them were decoded and copied: 80 GB for CelebA at 256 pixels."""

    class Reading:
        """Images that stand in a file, and how many were asked for at a time."""

        def __init__(self) -> None:
            self.asked: list[int] = []

        def __len__(self) -> int:
            return len(faces)

        def __getitem__(self, positions: Tensor) -> Tensor:
            self.asked.append(len(positions))
            return faces[positions]

    real = Reading()
    known = Signatures.of(real)
    assert (known.values.shape, known.size) == ((240, 256), (32, 32))
    assert real.asked == [128, 112]
    real.asked.clear()
    found = calibrate(real, known, sample=50)
    assert real.asked == [50]
    assert found == calibrate(faces, sample=50)
