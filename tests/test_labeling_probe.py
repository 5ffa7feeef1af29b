"""A probe: a labeler fitted on few images, judged on others, saved and read back to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

from labeling import Labeler, ProbeConfig, fit_probe, load_probe, save_probe

ONE = ProbeConfig(strengths=(1.0,))


class Halves(nn.Module):
    """Features of images: the means of the left and of the right half."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach())
        return images.mean(dim=(1, 2)).unflatten(1, (2, -1)).mean(dim=2)


def _rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images whose left half is bright where the first attribute is there; the second is noise, the
    third always absent.
    """
    rng = np.random.default_rng(seed)
    bright = rng.integers(2, size=count)
    pixels = rng.integers(0, 120, (count, 3, 8, 8))
    pixels[:, :, :, :4] += 100 * bright[:, None, None, None]
    labels = np.stack([bright, rng.integers(2, size=count), np.zeros(count)], axis=1)
    return torch.from_numpy(pixels).byte(), torch.from_numpy(labels).float()


def _probe(mirror: bool = False, features: Halves | None = None) -> Labeler:
    return fit_probe(
        features or Halves(), _rows(60, 0), _rows(40, 1), list("ABC"), mirror=mirror, config=ONE
    )


def test_it_learns_what_the_features_show_and_leaves_out_what_has_one_value() -> None:
    labeler = _probe()
    assert labeler.attributes == ("A", "B")
    images, labels = _rows(200, 2)
    found = labeler(images)[:, 0] >= labeler.thresholds["A"]
    assert (found == labels[:, 0].bool()).float().mean() > 0.97


def test_the_card_has_thresholds_and_scores_of_the_val_rows() -> None:
    labeler = _probe()
    images, labels = _rows(40, 1)
    decided = labeler(images)[:, 1].numpy() >= labeler.thresholds["B"]
    assert labeler.card.scores is not None
    assert labeler.card.scores["B"]["f1"] == pytest.approx(f1_score(labels[:, 1], decided))


def test_mirrored_images_are_fitted_on_only_if_they_mean_the_same() -> None:
    plain, mirrored = Halves(), Halves()
    _probe(mirror=False, features=plain)
    _probe(mirror=True, features=mirrored)
    assert sum(map(len, plain.seen)) == 1 + 60 + 40  # one tells how wide features are
    assert sum(map(len, mirrored.seen)) == 1 + 2 * 60 + 40
    torch.testing.assert_close(mirrored.seen[2], mirrored.seen[1].flip(-1))


@pytest.mark.parametrize("mirror", [False, True])
def test_wide_features_are_held_of_some_rows_at_a_time(
    mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are fitted on all the same, each under its own label."""
    monkeypatch.setattr("labeling.head._FEWEST", 1)
    whole = _probe(mirror=mirror)
    narrow = ProbeConfig(strengths=(1.0,), values=100)
    rows = (_rows(60, 0), _rows(60, 1))
    features = Halves()
    labeler = fit_probe(features, *rows, list("ABC"), mirror=mirror, config=narrow)
    assert max(map(len, features.seen)) == (25 if mirror else 50)
    images, _ = _rows(100, 2)
    # Its components are those of some rows, so that it is nearly the same.
    torch.testing.assert_close(labeler(images), whole(images), atol=0.1, rtol=0)


def test_what_it_sees_lies_in_minus_1_to_1() -> None:
    features = Halves()
    _probe(features=features)
    images, _ = _rows(60, 0)
    torch.testing.assert_close(features.seen[1], images.float() / 127.5 - 1)


def test_it_is_read_back_to_the_bit(tmp_path: Path) -> None:
    labeler = _probe()
    save_probe(tmp_path / "probe", labeler)
    again = load_probe(tmp_path / "probe", Halves())
    images, _ = _rows(5, 3)
    torch.testing.assert_close(again(images), labeler(images), rtol=0, atol=0)
    assert (again.card, again.sha256) == (labeler.card, labeler.sha256)


def test_damaged_or_missing_files_are_named(tmp_path: Path) -> None:
    save_probe(tmp_path, _probe())
    with pytest.raises(ValueError, match="exists and is not overwritten"):
        save_probe(tmp_path, _probe())
    weights = tmp_path / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(ValueError, match="is not the head of its card"):
        load_probe(tmp_path, Halves())
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no head\.safetensors"):
        load_probe(tmp_path, Halves())


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    save_probe(tmp_path, _probe())
    with pytest.raises(ValueError, match="takes 2 features, and these are 192"):
        load_probe(tmp_path, nn.Flatten())


def test_rows_with_one_value_of_everything_are_refused() -> None:
    images, labels = _rows(10, 0)
    with pytest.raises(ValueError, match="none of 3 attributes has both values"):
        fit_probe(Halves(), (images, labels * 0), _rows(10, 1), list("ABC"))


class Asked:
    """Images that are read when they are asked for, by how many at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.shape = images, images.shape
        self.counts: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, positions: Tensor) -> Tensor:
        self.counts.append(len(positions))
        return self.images[positions]


def test_images_are_read_a_batch_at_a_time_and_the_fit_is_that_of_tensors() -> None:
    (images, labels), (others, theirs), config = _rows(300, 0), _rows(40, 1), ProbeConfig(rows=200)
    given = Asked(images), Asked(others)
    probes = [
        fit_probe(Halves(), (train, labels), (val, theirs), list("ABC"), config=config)
        for train, val in ((images, others), given)
    ]
    assert probes[0].sha256 == probes[1].sha256
    assert (given[0].counts, given[1].counts) == ([1, *[128, 72] * 2], [40])


def test_of_many_rows_some_are_drawn() -> None:
    features, config = Halves(), ProbeConfig(strengths=(1.0,), rows=30)
    fit_probe(features, _rows(60, 0), _rows(40, 1), list("ABC"), mirror=False, config=config)
    assert sum(map(len, features.seen)) == 1 + 30 + 40
