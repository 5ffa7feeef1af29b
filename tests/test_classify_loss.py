"""Losses: each published one's limit cases and closed forms, empty cells, soft labels, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from classify import LossConfig
from classify.loss import LDAM_SCALE, AttributeLoss, masked_bce

NAN = float("nan")
LOSSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "balance": {"balance": 1.0},
    "class-balanced": {"beta": 0.9},
    "logit adjustment": {"tau": 1.0},
    "asymmetric": {"gamma_positive": 1.0, "gamma_negative": 4.0, "clip": 0.05},
    "LDAM-DRW": {"margin": 0.5, "beta": 0.9, "defer": 0.8},
    "distribution-balanced": {"rebalance": True, "tau": 0.05, "tolerance": 2.0},
    "all at once": {
        **{"balance": 0.5, "defer": 0.5, "tau": 0.3, "margin": 0.1, "gamma_positive": 2.0},
        **{"gamma_negative": 1.0, "clip": 0.2, "rebalance": True, "tolerance": 3.0},
    },
}


def _labels(*rates: float, rows: int = 60) -> Tensor:
    """Labels float32 (rows, A) of which exactly the given shares are 1."""
    place = torch.arange(rows)[:, None]
    return (place < torch.tensor(rates) * rows).float()


def _loss(labels: Tensor, **settings: Any) -> AttributeLoss:
    return AttributeLoss(LossConfig(**settings), labels)


def _case(rows: int = 12, attributes: int = 3) -> tuple[Tensor, Tensor]:
    """Logits that want a gradient, and labels."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(rows, attributes, generator=draw, dtype=torch.float64)
    labels = torch.randint(2, (rows, attributes), generator=draw).double()
    return logits.requires_grad_(), labels


def _gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("settings", LOSSES.values(), ids=LOSSES)
def test_an_empty_cell_has_no_gradient_and_counts_for_nothing(settings: dict[str, Any]) -> None:
    logits, labels = _case()
    labels[0, 1] = labels[3] = NAN
    loss = _loss(_labels(0.1, 0.3, 0.5), **settings)
    value = loss(logits, labels)
    gradient = _gradient(value, logits)
    assert (gradient[labels.isnan()] == 0).all()
    assert gradient[~labels.isnan()].isfinite().all()
    rows = [0, 1, 2, *range(4, 12)]
    torch.testing.assert_close(value, loss(logits[rows], labels[rows]))
    huge = logits.detach().masked_fill(labels.isnan(), 1e30)
    torch.testing.assert_close(value, loss(huge, labels))


@pytest.mark.parametrize("settings", LOSSES.values(), ids=LOSSES)
def test_no_label_at_all_is_zero_with_zero_gradient(settings: dict[str, Any]) -> None:
    logits, labels = _case()
    value = _loss(_labels(0.1, 0.3, 0.5), **settings)(logits, torch.full_like(labels, NAN))
    assert value == 0
    assert not _gradient(value, logits).any()


@pytest.mark.parametrize(
    "name", [name for name, settings in LOSSES.items() if "rebalance" not in settings]
)
def test_a_soft_label_costs_what_its_values_cost_in_its_proportions(name: str) -> None:
    loss = _loss(_labels(0.3), **LOSSES[name])
    for z in (-3.0, -0.5, 2.0):
        logit = torch.full((1, 1), z, dtype=torch.float64)
        none, soft, full = (loss(logit, torch.full_like(logit, y)) for y in (0.0, 0.3, 1.0))
        torch.testing.assert_close(soft, 0.7 * none + 0.3 * full)


@pytest.mark.parametrize("settings", LOSSES.values(), ids=LOSSES)
def test_float32_logits_however_far_out_give_finite_losses_and_gradients(
    settings: dict[str, Any],
) -> None:
    logits = torch.tensor([[-200.0, 200.0, 30.0]] * 2, requires_grad=True)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    value = _loss(_labels(0.1, 0.3, 0.5), **settings)(logits, labels)
    assert value.isfinite()
    assert _gradient(value, logits).isfinite().all()


def test_without_settings_it_is_torchs_cross_entropy_to_the_bit() -> None:
    logits, labels = _case()
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    assert masked_bce(logits, labels) == expected
    weighed = _loss(_labels(0.25, 0.5, 0.1), balance=1.0)
    assert weighed.weight is not None
    torch.testing.assert_close(weighed.weight, torch.tensor([3.0, 1.0, 9.0]))
    assert weighed(logits, labels) == F.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=weighed.weight
    )


@pytest.mark.parametrize(
    "settings", [{"tolerance": 1 + 1e-12}, {"clip": 1e-12}, {"margin": 1e-12}], ids=str
)
def test_where_its_numbers_vanish_the_long_formula_is_the_cross_entropy(
    settings: dict[str, float],
) -> None:
    logits, labels = _case()
    value = _loss(_labels(0.1, 0.3, 0.5), **settings)(logits, labels)
    torch.testing.assert_close(value, masked_bce(logits, labels))
    torch.testing.assert_close(
        _gradient(value, logits), _gradient(masked_bce(logits, labels), logits)
    )


def test_an_attribute_that_lacks_a_value_is_neither_weighed_nor_shifted() -> None:
    labels = torch.tensor([[1.0, 0, NAN, 1], [1, 0, NAN, 0], [1, 0, NAN, 0], [1, 0, NAN, NAN]])
    for settings in ({"balance": 1.0}, {"beta": 0.5}):
        weight = _loss(labels, **settings).weight
        assert weight is not None
        assert weight[:3].tolist() == [1, 1, 1]
        assert weight[3] > 1
    shift = _loss(labels, tau=1.0).shift
    assert shift is not None
    assert shift.tolist() == pytest.approx([0, 0, 0, math.log(1 / 2)])


def test_a_probability_counts_as_its_share_of_a_label() -> None:
    soft = torch.tensor([[0.5], [0.25], [0.25], [NAN]])
    weight = _loss(soft, balance=1.0).weight
    assert weight is not None
    assert weight.item() == pytest.approx(2.0)


def test_class_balanced_weights_go_from_none_to_those_of_balance() -> None:
    labels = _labels(0.05, 0.25, 0.5)
    nearly = _loss(labels, beta=1 - 1e-9).weight
    torch.testing.assert_close(nearly, _loss(labels, balance=1.0).weight)
    torch.testing.assert_close(_loss(labels, beta=1e-9).weight, torch.ones(3))
    one = _loss(labels, beta=0.9).weight
    assert one is not None
    effective = [(1 - 0.9**n) / (1 - 0.9) for n in (57, 3)]
    assert one[0].item() == pytest.approx(effective[0] / effective[1])


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjustment_of_features_that_tell_nothing_ends_at_the_balanced_prior(
    tau: float,
) -> None:
    """At tau 1 the trained logit is 0; at others (1 - tau) of the prior's log-odds."""
    labels = _labels(0.05, 0.25, 0.5)
    prior = torch.tensor([0.05, 0.25, 0.5]).logit()
    logits = ((1 - tau) * prior).expand(60, -1).clone().requires_grad_()
    gradient = _gradient(_loss(labels, tau=tau)(logits, labels), logits)
    torch.testing.assert_close(gradient.sum(0), torch.zeros(3), atol=1e-7, rtol=0)


def test_asymmetric_loss_with_equal_focusing_is_torchvisions_focal_loss() -> None:
    logits, labels = _case()
    value = _loss(labels, gamma_positive=2.0, gamma_negative=2.0)(logits, labels)
    focal = torchvision.ops.sigmoid_focal_loss(logits, labels, alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(value, focal)


def test_asymmetric_loss_is_its_papers_formula_and_its_factors_have_no_gradient() -> None:
    logits, labels = _case()
    value = _loss(labels, gamma_positive=1.0, gamma_negative=4.0, clip=0.05)(logits, labels)
    expected = 0.0
    for z, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        low = max(p - 0.05, 0)
        expected -= (1 - p) * math.log(p) if y else low**4 * math.log(1 - low)
    assert value.item() == pytest.approx(expected / logits.numel())
    alone = _loss(labels, gamma_positive=3.0)(logits, labels)
    p = logits.sigmoid()
    cells = torch.where(labels == 1, (1 - p) ** 3 * (p - 1), p) / logits.numel()
    torch.testing.assert_close(_gradient(alone, logits), cells)


def test_a_negative_below_the_clip_costs_nothing() -> None:
    logits = torch.tensor([[-3.0, -2.9]], requires_grad=True)  # probabilities .047 and .052
    value = _loss(torch.zeros(1, 2), clip=0.05)(logits, torch.zeros(1, 2))
    assert (_gradient(value, logits) != 0).tolist() == [[False, True]]


def test_margins_are_a_fourth_root_of_rarity_and_move_positives_alone() -> None:
    labels = _labels(2 / 60, 32 / 60)  # 16 times as many: half the margin
    loss = _loss(labels, margin=0.5)
    assert loss.margin is not None
    torch.testing.assert_close(loss.margin, torch.tensor([0.5, 0.25]))
    logits = torch.randn(5, 2)
    ones, zeros = torch.ones(5, 2), torch.zeros(5, 2)
    torch.testing.assert_close(
        loss(logits, ones), masked_bce(logits - LDAM_SCALE * loss.margin, ones)
    )
    torch.testing.assert_close(loss(logits, zeros), masked_bce(logits, zeros))


def test_deferred_weights_set_in_at_their_step() -> None:
    logits, labels = _case()
    deferred = _loss(labels, margin=0.3, beta=0.9, defer=0.8)
    without, throughout = _loss(labels, margin=0.3), _loss(labels, margin=0.3, beta=0.9)
    assert deferred(logits, labels, progress=0.79) == without(logits, labels)
    assert deferred(logits, labels, progress=0.8) == throughout(logits, labels)
    assert without(logits, labels) != throughout(logits, labels)


def test_rebalancing_weights_are_those_of_a_naive_loop() -> None:
    train = _labels(0.05, 0.25, 0.5)  # 3, 15, 30 positives
    logits, labels = _case()
    value = _loss(train, rebalance=True)(logits, labels)
    expected = 0.0
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        chance = sum(1 / n for n, has in zip((3, 15, 30), y, strict=True) if has)
        for z, cell, n in zip(row, y, (3, 15, 30), strict=True):
            share = (1 / n) / chance if chance else math.inf
            weight = 0.1 + 1 / (1 + math.exp(-10 * (share - 0.2)))
            expected += weight * math.log1p(math.exp(-z if cell else z))
    assert value.item() == pytest.approx(expected / logits.numel())


def test_rebalancing_tells_nothing_apart_where_each_image_has_one_of_equal_attributes() -> None:
    labels = torch.eye(4).repeat(3, 1).double()
    logits = torch.randn(12, 4, dtype=torch.float64)
    constant = 0.1 + torch.sigmoid(torch.tensor(8.0)).item()
    torch.testing.assert_close(
        _loss(labels, rebalance=True)(logits, labels), constant * masked_bce(logits, labels)
    )


def test_tolerance_scales_negatives_and_leaves_their_slope_at_zero() -> None:
    logits = torch.zeros(1, 1, requires_grad=True)
    for labels in (torch.zeros(1, 1), torch.ones(1, 1)):
        gradients = [
            _gradient(_loss(labels, tolerance=t)(logits, labels), logits) for t in (1.0, 2.0)
        ]
        assert gradients[0] == gradients[1]
    far = torch.full((1, 1), -1.0)
    value = _loss(far, tolerance=2.0)(far, torch.zeros(1, 1))
    assert value.item() == pytest.approx(math.log1p(math.exp(-2)) / 2)


@pytest.mark.parametrize("settings", LOSSES.values(), ids=LOSSES)
def test_an_images_weight_is_how_often_it_comes_up(settings: dict[str, Any]) -> None:
    logits, labels = _case(4)
    labels[1, 1] = NAN
    loss = _loss(_labels(0.1, 0.3, 0.5), **settings)
    weighed = loss(logits, labels, torch.tensor([1.0, 2, 0, 3]))
    often = [0, 1, 1, 3, 3, 3]
    torch.testing.assert_close(weighed, loss(logits[often], labels[often]))
    assert loss(logits, labels, torch.ones(4)) == loss(logits, labels)


def test_counts_move_with_a_module_but_stay_out_of_its_checkpoint() -> None:
    loss = _loss(_labels(0.1), balance=1.0, tau=1.0, margin=0.5, rebalance=True)
    assert loss.state_dict() == {}
    assert {name for name, _ in loss.to(torch.float64).named_buffers()} == {
        "weight", "shift", "margin", "rarity",
    }  # fmt: skip
    assert loss.shift is not None
    assert loss.shift.dtype == torch.float64


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"balance": 2.0}, "balance is 2.0; give a number in"),
        ({"balance": NAN}, "balance is nan; give"),
        ({"beta": 1.0}, "beta is 1.0; give a number in"),
        ({"defer": 0.5}, "no weight to defer; give loss.balance or loss.beta"),
        ({"balance": 1.0, "beta": 0.9}, "both say what a positive counts as; give one"),
        ({"tau": -1.0}, "tau is -1.0; give a number from 0"),
        ({"margin": 2.0}, "margin is 2.0; give"),
        ({"gamma_negative": math.inf}, "gamma_negative is inf; give"),
        ({"clip": 1.0}, "clip is 1.0; give a probability"),
        ({"tolerance": 0.0}, "tolerance is 0.0; give a number above 0"),
    ],
)
def test_a_loss_says_what_is_allowed(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^loss\..*{message}") as refused:
        LossConfig(**bad)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
