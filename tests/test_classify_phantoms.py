"""Phantoms: what is drawn, how often, split by subject, and its density."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import multivariate_normal, spearmanr

from classify import attribute_columns, load_table
from classify.datasets.phantoms import FINDINGS, TRUTH, Pool, log_density, phantom_table
from classify.datasets.phantoms.anatomy import MODES, templates
from classify.datasets.phantoms.distribution import draw_subject

NOISE = 4.0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 subjects."""
    root = tmp_path_factory.mktemp("phantoms")
    phantom_table(root, train=200, val=50, test=50)
    return root


def pictures(root: Path, names: pd.Series[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(root / name)) for name in names])


def test_table_is_the_toolkits_own(drawn: Path) -> None:
    table = load_table(drawn)
    assert attribute_columns(table) == list(FINDINGS)
    assert table["split"].value_counts().to_dict() == {"train": 800, "val": 200, "test": 200}
    with Image.open(table["path"].iloc[0]) as image:
        assert (image.mode, image.size) == ("L", (32, 32))
    frequencies = table[list(FINDINGS)].mean()
    for name, finding in FINDINGS.items():
        spread = np.sqrt(finding.probability / 300)  # 300 subjects, each four times
        assert frequencies[name] == pytest.approx(finding.probability, abs=4 * spread)


def test_no_subject_is_in_two_splits_or_pools(drawn: Path, tmp_path: Path) -> None:
    first = load_table(drawn).groupby("split").head(8)
    other = phantom_table(tmp_path, train=2, val=2, test=2, pool=Pool.GENERATOR)
    everything = [*pictures(drawn, first["file_name"]), *pictures(tmp_path, other["file_name"])]
    assert len({picture.tobytes() for picture in everything}) == len(first) + len(other)
    truth = pd.read_csv(tmp_path / TRUTH)
    split = other["split"].to_numpy()
    assert (pd.Series(split).groupby(truth["subject"]).nunique() == 1).all()


def test_slices_of_a_subject_are_alike() -> None:
    subjects = [draw_subject(np.random.default_rng(seed), 32)[0].astype(float) for seed in range(9)]
    within = np.mean([np.abs(s[0] - s[1]).mean() for s in subjects])
    between = np.mean([np.abs(a[0] - b[0]).mean() for a, b in itertools.pairwise(subjects)])
    assert within < 0.7 * between


def test_density_of_a_picture_is_that_of_what_was_drawn(drawn: Path) -> None:
    truth = pd.read_csv(drawn / TRUTH)[::8]
    found = log_density(pictures(drawn, truth["file_name"]))
    assert spearmanr(found, truth["log_density"]).statistic > 0.98
    assert np.median(np.abs(found - truth["log_density"])) < 0.2


def test_density_is_that_of_the_best_of_all_explanations() -> None:
    """Each of the 11,550 weighed by its full covariance, in a picture of 8 pixels per side."""
    mean, modes, sites = templates(8)
    numbers = itertools.product(*(range(len(f.chances)) for f in FINDINGS.values()))
    places = np.array(list(numbers))
    first = np.cumsum([0, *(len(f.sites) for f in FINDINGS.values())])
    added = np.zeros((len(places), mean.size))
    prior = np.zeros(len(places))
    for k, finding in enumerate(FINDINGS.values()):
        own = np.vstack([np.zeros(mean.size), sites[first[k] : first[k + 1]]])
        added += own[places[:, k]]
        prior += np.log(finding.chances)[places[:, k]]
    noise = multivariate_normal(cov=modes.T @ modes + NOISE**2 * np.eye(mean.size))
    pictures, _, _ = draw_subject(np.random.default_rng(3), 8)
    for picture, found in zip(pictures, log_density(pictures), strict=True):
        x = picture.ravel() - mean
        best = (prior + noise.logpdf(x - added)).argmax()
        z = modes @ np.linalg.solve(modes.T @ modes + NOISE**2 * np.eye(mean.size), x - added[best])
        assert found == pytest.approx(
            prior[best] + multivariate_normal(cov=np.eye(len(MODES))).logpdf(z)
        )


def test_every_finding_is_seen_and_rare_ones_are_less_dense() -> None:
    mean, _, sites = templates(32)
    assert (np.abs(sites).max(axis=1) > 6 * NOISE).all()
    once = np.cumsum([0, *(len(f.sites) for f in FINDINGS.values())][:-1])
    shown = (mean + np.vstack([np.zeros(mean.size), sites[once]])).round().astype(np.uint8)
    density = log_density(shown.reshape(-1, 32, 32))
    assert (np.diff(density) < 0).sum() >= 5  # from none to the rarest, but for the sites' chances
    assert density[0] == density.max()


def test_other_settings_are_refused(drawn: Path) -> None:
    with pytest.raises(ValueError, match=r"holds phantoms with .*'seed': 0.* give another path"):
        phantom_table(drawn, train=200, val=50, test=50, seed=1)


def test_drawing_is_the_one_the_shipped_weights_know(drawn: Path) -> None:
    """Golden numbers of the drawing that the generator is trained on (version 1).

    A change here means: train it again and raise the table's version.
    """
    shown = pictures(drawn, load_table(drawn)["file_name"])
    assert shown.mean() == pytest.approx(61.8, abs=0.3)
    assert shown.std() == pytest.approx(37.7, abs=0.3)
