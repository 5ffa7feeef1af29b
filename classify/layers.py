"""Layers of a classification network that a fit may change: its last one, and its normalisation."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from classify.loss import LDAM_SCALE

__all__ = ["CosineLinear", "SplitNorm", "head", "rows_by_source"]


def head(network: nn.Module) -> nn.Module:
    """The layer that gives the outputs: timm's networks name it, of torchvision's it is the last
    that has weights.
    """
    named: object = getattr(network, "get_classifier", lambda: None)()
    if isinstance(named, (nn.Linear, nn.Conv2d)):
        return named
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    return layers[-1]


class CosineLinear(nn.Linear):
    """Cosine of the angle between features and weights, times 30, in place of a linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return LDAM_SCALE * F.linear(F.normalize(input), F.normalize(self.weight))

    @classmethod
    def replace_head(cls, network: nn.Module) -> None:
        """Make the network's last layer one of these, in place.

        Raises:
            ValueError: It is a convolution.
        """
        layer = head(network)
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                "loss.margin needs a network that ends with a linear layer, which this one does "
                "not; give another architecture, such as resnet18, or leave the margin out"
            )
        layer.__class__ = cls  # which holds nothing else
        layer.register_parameter("bias", None)


class SplitNorm(nn.BatchNorm2d):
    """Batch normalisation of synthetic rows by their own statistics, of real ones as always.

    An auxiliary batch norm (Xie et al., 2020) whose scale and offset are shared. The running
    statistics, by which a network in eval mode normalises, are those of the real rows.
    """

    rows: tuple[Tensor, Tensor] | None = None
    """Positions of the real and of the synthetic rows of the batch, int64; None: all are alike."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.rows is None:
            return super().forward(input)
        real, made = (input[rows] for rows in self.rows)
        made = F.batch_norm(made, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return torch.cat([super().forward(real), made])[torch.cat(self.rows).argsort()]

    @classmethod
    def replace_all(cls, network: nn.Module) -> list[SplitNorm]:
        """Make one of these, in place, of every batch normalisation, and return them.

        Raises:
            ValueError: The network has none.
        """
        layers = [m for m in network.modules() if type(m) is nn.BatchNorm2d]  # timm's do more
        if not layers:
            raise ValueError(
                "mixing.own_norm needs a network with batch normalisation, which this one has not; "
                "give another architecture, such as resnet18, or leave own_norm out"
            )
        for layer in layers:
            layer.__class__ = cls
        return cast("list[SplitNorm]", layers)


def rows_by_source(synthetic: Tensor) -> tuple[Tensor, Tensor] | None:
    """Positions of the real and the synthetic rows of a batch, of bool (N,); None where fewer than
    two are of either kind, which have no statistics of their own.
    """
    rows = (~synthetic).nonzero().flatten(), synthetic.nonzero().flatten()
    return rows if min(map(len, rows)) >= 2 else None
