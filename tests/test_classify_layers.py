"""Layers that a fit may change: cosines as logits, and batch norms with statistics by source."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from classify.layers import CosineLinear, SplitNorm, head, rows_by_source


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3"), ("densenet121", "classifier"),
        ("convnext_tiny", "classifier.2"), ("swin_t", "head"), ("squeezenet1_1", "classifier.1"),
        ("shufflenet_v2_x0_5", "fc"), ("efficientnet_b0", "classifier.1"),
    ],
)  # fmt: skip
def test_the_head_is_the_layer_with_an_output_an_attribute(architecture: str, name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(architecture, num_classes=7)
    assert head(network) is network.get_submodule(name)
    assert head(network).weight.shape[0] == 7  # type: ignore[union-attr,operator]


def test_cosines_do_not_depend_on_the_length_of_features_or_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    CosineLinear.replace_head(network)
    layer, features = network[1], torch.randn(6, 5)
    expected = 30 * F.cosine_similarity(features[:, None], layer.weight[None], dim=2)  # type: ignore[arg-type]
    torch.testing.assert_close(layer(features), expected)
    torch.testing.assert_close(layer(3 * features), expected)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert type(network[0]) is nn.Linear


def test_a_head_that_is_a_convolution_has_no_cosines() -> None:
    with pytest.raises(ValueError, match=r"loss\.margin needs .*give another architecture"):
        CosineLinear.replace_head(nn.Sequential(nn.Linear(2, 3), nn.Conv2d(3, 2, 1)))


def _norms() -> tuple[SplitNorm, nn.BatchNorm2d]:
    """A split norm and an ordinary one of the same parameters."""
    plain = nn.BatchNorm2d(3)
    with torch.no_grad():
        plain.weight.uniform_(0.5, 2)
        plain.bias.normal_()
    network = nn.Sequential(copy.deepcopy(plain))
    (split,) = SplitNorm.replace_all(network)
    return split, plain


def test_each_kind_is_normalised_as_if_it_were_a_batch_of_its_own() -> None:
    split, plain = _norms()
    synthetic = torch.tensor([False, True, True, False, True, False])
    images = torch.randn(6, 3, 4, 4) + 5 * synthetic[:, None, None, None]
    split.rows = rows_by_source(synthetic)
    found = split(images)
    torch.testing.assert_close(found[~synthetic], plain(images[~synthetic]))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(split, name), getattr(plain, name))
    torch.testing.assert_close(found[synthetic], copy.deepcopy(plain)(images[synthetic]))


def test_predictions_use_the_statistics_of_real_rows_and_names_stay() -> None:
    split, plain = _norms()
    split.rows = rows_by_source(torch.tensor([True, True, False, False]))
    images = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(split.eval()(images), plain.eval()(images))
    assert split.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("synthetic", [[False] * 4, [True] * 4, [True, False, False, False]])
def test_a_lone_row_has_no_statistics_of_its_own(synthetic: list[bool]) -> None:
    split, plain = _norms()
    split.rows = rows_by_source(torch.tensor(synthetic))
    images = torch.randn(4, 3, 1, 1)
    torch.testing.assert_close(split(images), plain(images))


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"own_norm needs .*give another architecture"):
        SplitNorm.replace_all(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
