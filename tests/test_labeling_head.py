"""A linear head: against scikit-learn on all features, rows left out, and other rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from labeling import ProbeConfig, fit_head

RNG = np.random.default_rng(0)
FEATURES = torch.from_numpy(RNG.normal(size=(80, 12)) * RNG.uniform(0.1, 9, 12) + 3).float()
TRUTH = (FEATURES[:, :2] - 3 + torch.from_numpy(RNG.normal(size=(80, 2))) > 0).double().numpy()
ONE = ProbeConfig(strengths=(0.1,))


def _whitened(features: torch.Tensor) -> NDArray[np.float64]:
    """Standardised features times (Sigma + shrinkage x mean variance)^(-1/2), without components:
    a rotation of these, which a penalised fit does not see.
    """
    x = StandardScaler().fit_transform(features.double().numpy())
    sigma = np.cov(x.T)
    ridge = ONE.shrinkage * np.trace(sigma) / min(x.shape) * np.eye(len(sigma))
    return x @ np.linalg.inv(np.real(sqrtm(sigma + ridge)))


def _expected(x: NDArray[np.float64], labels: NDArray[np.float64]) -> LogisticRegression:
    return LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit(x, labels)


@pytest.mark.parametrize("rows", [80, 10])
def test_it_is_the_logistic_regression_of_the_whitened_features(rows: int) -> None:
    """Of fewer rows than features too: nothing is lost by the projection."""
    head = fit_head(FEATURES[:rows], TRUTH[:rows], config=ONE)
    x = _whitened(FEATURES[:rows])
    log_odds = head(FEATURES[:rows]).detach().numpy()
    for attribute, labels in enumerate(TRUTH[:rows].T):
        expected = _expected(x, labels).decision_function(x)
        np.testing.assert_allclose(log_odds[:, attribute], expected, atol=2e-3)


def test_a_small_mark_is_seen_beside_a_large_nuisance() -> None:
    """One weak direction holds the label, and thirty features share a strong one."""
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=(400, 1)).astype(float)
    nuisance = rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 30))
    mark = nuisance[:, :1] + 0.1 * (2 * labels - 1)
    features = torch.from_numpy(np.column_stack([nuisance, mark])).float()

    def loss(shrinkage: float) -> float:
        config = ProbeConfig(strengths=(0.1,), shrinkage=shrinkage)
        head = fit_head(features[:200], labels[:200], config=config)
        p = head(features[200:]).sigmoid().detach().numpy()
        return float(log_loss(labels[200:, 0], p[:, 0]))

    assert loss(0.01) < 0.5 * loss(1.0)


def test_unlabelled_cells_take_no_part() -> None:
    empty = TRUTH.copy()
    empty[40:, 0] = np.nan
    changed = empty.copy()
    changed[40:, 1] = empty[40:, 1]
    one, other = fit_head(FEATURES, empty, config=ONE), fit_head(FEATURES, changed, config=ONE)
    torch.testing.assert_close(one.weight, other.weight)
    x = _whitened(FEATURES)
    expected = _expected(x[:40], TRUTH[:40, 0])
    np.testing.assert_allclose(
        one(FEATURES)[:, 0].detach().numpy(), expected.decision_function(x), atol=2e-3
    )


def test_the_strength_is_the_one_of_the_least_loss_on_rows_left_out() -> None:
    noise = torch.from_numpy(RNG.normal(size=(60, 200))).float()
    labels = RNG.integers(2, size=(60, 1)).astype(float)
    nothing_to_learn = fit_head(noise, labels, config=ProbeConfig(strengths=(1e-4, 1.0)))
    assert nothing_to_learn.strength == 1e-4
    clear = torch.from_numpy(labels * 2 - 1 + 0.1 * RNG.normal(size=(60, 1))).float()
    assert fit_head(clear, labels, config=ProbeConfig(strengths=(1e-4, 1.0))).strength == 1.0


def test_no_fold_is_judged_on_an_image_it_was_fitted_on() -> None:
    """Each row twice: were folds to split the pairs, memorising noise would look best."""
    noise = torch.from_numpy(RNG.normal(size=(40, 100))).float()
    labels = RNG.integers(2, size=(40, 1)).astype(float)
    config = ProbeConfig(strengths=(1e-4, 1.0))
    twice = {"features": noise.repeat(2, 1), "labels": np.tile(labels, (2, 1)), "config": config}
    assert fit_head(**twice, images=np.tile(np.arange(40), 2)).strength == 1e-4
    assert fit_head(**twice).strength == 1.0


def test_a_head_that_is_too_sure_is_tempered_on_the_val_rows() -> None:
    val = torch.from_numpy(RNG.normal(size=(200, 12)) * 3 + 3).float()
    labels = RNG.integers(2, size=(200, 2)).astype(float)
    raw = fit_head(FEATURES, TRUTH, config=ONE)
    tempered = fit_head(FEATURES, TRUTH, val_features=val, val_labels=labels, config=ONE)
    ratio = tempered(val) / raw(val)
    assert (ratio < 0.5).all()  # these labels say that it knows nothing
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)


def test_an_attribute_with_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="attribute number 1 has not both values"):
        fit_head(FEATURES, np.column_stack([TRUTH[:, 0], np.zeros(80)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strengths": ()}, "strengths"),
        ({"folds": 1}, "folds"),
        ({"shrinkage": 0.0}, "shrinkage"),
        ({"components": 0}, "components"),
        ({"rows": 0}, "rows"),
        ({"values": 0}, "values"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeConfig(**settings)  # type: ignore[arg-type]
