"""The loss of an attribute classifier: binary cross-entropy, and what imbalance may change in it.

The published losses for rare labels are settings of one formula. Of a cell with logit z and label
y, of an attribute that n+ training labels hold and n- deny:

    w (1 - p)^g+ y softplus(-(z' - s d))  +  q^g- (1 - y) softplus(l z') / l
    z' = z + tau log(n+ / n-)

w is what a positive counts as, d LDAM's margin, s the scale of its logits, l the tolerance, p and q
the predicted probabilities of the two terms. A loss without settings is the plain cross-entropy.
Labels may be probabilities; an empty one has a gradient of exactly zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LDAM_SCALE", "AttributeLoss", "LossConfig", "masked_bce"]

LDAM_SCALE = 30.0
"""Scale of the cosines that are a network's logits under a margin (Cao et al., 2019)."""
_SMOOTH_FLOOR, _SMOOTH_SLOPE, _SMOOTH_MIDDLE = 0.1, 10.0, 0.2
"""Alpha, beta and mu of the distribution-balanced loss, those of its authors for COCO."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Changes of the binary cross-entropy for labels that are rare; by default none."""

    balance: float = 0.0
    """A positive label counts as (negatives / positives) ** balance negative ones, of its
    attribute in train; 0 counts them alike, 1 gives both values the same weight."""
    beta: float = 0.0
    """A positive label counts as E(negatives) / E(positives) negative ones, with the effective
    number E(n) = (1 - beta^n) / (1 - beta) (Cui et al., 2019); 0 counts them alike, .999 is usual.
    """
    defer: float = 0.0
    """Share of the steps, the first, without the weights of `balance` or `beta` (deferred
    re-weighting, Cao et al., 2019)."""
    tau: float = 0.0
    """Trains on the logit plus tau log(positives / negatives) (logit adjustment, Menon et al.,
    2021); 1 aims at the balanced error."""
    margin: float = 0.0
    """Positive labels of the rarest attribute are to be predicted by this margin of the cosine, of
    others by less, n^(-1/4) (LDAM, Cao et al., 2019); .5 is usual. Logits are cosines times 30."""
    gamma_positive: float = 0.0
    """Focusing on positives that are not yet predicted (asymmetric loss, Ridnik et al., 2021)."""
    gamma_negative: float = 0.0
    """Likewise on negatives; 4 is usual."""
    clip: float = 0.0
    """Probability up to which a negative costs nothing (asymmetric loss); .05 is usual."""
    rebalance: bool = False
    """Weighs cells so that rare attributes of an image count more than the common ones that come
    along (distribution-balanced loss, Wu et al., 2020)."""
    tolerance: float = 1.0
    """Logits of negatives times this, their loss divided by it (the same paper); 2 is usual."""

    def __post_init__(self) -> None:
        allowed = {
            "balance": (0 <= self.balance <= 1, "a number in [0, 1]"),
            "beta": (0 <= self.beta < 1, "a number in [0, 1), such as 0.999"),
            "defer": (0 <= self.defer < 1, "a share in [0, 1)"),
            "tau": (0 <= self.tau < math.inf, "a number from 0 up"),
            "margin": (0 <= self.margin < 2, "a number in [0, 2)"),
            "gamma_positive": (0 <= self.gamma_positive < math.inf, "a number from 0 up"),
            "gamma_negative": (0 <= self.gamma_negative < math.inf, "a number from 0 up"),
            "clip": (0 <= self.clip < 1, "a probability in [0, 1)"),
            "tolerance": (0 < self.tolerance < math.inf, "a number above 0"),
        }
        for name, (holds, what) in allowed.items():
            if not holds:
                raise ValueError(f"loss.{name} is {getattr(self, name)}; give {what}")
        if self.balance and self.beta:
            raise ValueError(
                f"loss.balance is {self.balance} and loss.beta {self.beta}; both say what a "
                "positive counts as; give one of them"
            )
        if self.defer and not (self.balance or self.beta):
            raise ValueError(
                f"loss.defer is {self.defer}, but there is no weight to defer; give loss.balance "
                "or loss.beta too"
            )


class AttributeLoss(nn.Module):
    """A loss with the label counts that it needs, which are no part of a checkpoint."""

    weight: Tensor | None
    shift: Tensor | None
    margin: Tensor | None
    rarity: Tensor | None

    def __init__(self, config: LossConfig | None = None, labels: Tensor | None = None) -> None:
        """Count the labels.

        Args:
            config: Which loss; left out, the plain cross-entropy.
            labels: Those trained on, float32 (n, A) in [0, 1] or NaN, a row as often as it comes
                up; needed by what depends on how rare an attribute is. An attribute that lacks
                either value is neither weighed nor shifted.
        """
        super().__init__()
        self.config = how = config or LossConfig()
        n = torch.zeros(2, 0) if labels is None else _counts(labels)
        both = (n > 0).all(0)
        ratio = torch.where(both, n[1] / n[0].clamp(min=1), 1.0)
        weight = margin = None
        if how.balance:
            weight = ratio**how.balance
        elif how.beta:
            effective = -torch.expm1(n.double() * math.log(how.beta)).float()
            weight = torch.where(both, effective[1] / effective[0], 1.0)
        if how.margin:
            margin = how.margin * (n[0].clamp(min=1) / n[0].clamp(min=1).min()) ** -0.25
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("shift", -how.tau * ratio.log() if how.tau else None, persistent=False)
        self.register_buffer("margin", margin, persistent=False)
        rarity = 1 / n[0].clamp(min=1) if how.rebalance else None
        self.register_buffer("rarity", rarity, persistent=False)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        *,
        progress: float = 1.0,
    ) -> Tensor:
        """The mean over the labels that are there.

        Args:
            logits: (N, A).
            labels: (N, A): 1, 0, a probability in between, or NaN = unlabelled.
            weight: (N,) from 0 up, what an image counts as; left out, 1.
            progress: Share of the fit's steps that are done, for what is deferred.

        Returns:
            Scalar; 0 if there is no label at all. The published asymmetric loss is a sum over
            batch and attributes, so its learning rates are others; AdamW does not mind.
        """
        counts = (~labels.isnan()).to(logits.dtype)
        if weight is not None:
            counts = counts * weight.to(logits.dtype)[:, None]
        y = labels.nan_to_num(0.0)
        z = logits if self.shift is None else logits + self.shift
        positive = None if progress < self.config.defer else self.weight
        total = self._cells(z, y, counts * self._rebalancing(y), positive).sum()
        return total / counts.sum().clamp(min=torch.finfo(logits.dtype).tiny)

    def _cells(self, z: Tensor, y: Tensor, weight: Tensor, positive: Tensor | None) -> Tensor:
        """Weighed loss (N, A) of each cell."""
        how = self.config
        focused = how.gamma_positive or how.gamma_negative or how.clip
        if self.margin is None and not focused and how.tolerance == 1:
            return F.binary_cross_entropy_with_logits(
                z, y, weight=weight, reduction="none", pos_weight=positive
            )
        reached = z if self.margin is None else z - LDAM_SCALE * self.margin
        feared = (how.tolerance * z).sigmoid()
        if how.clip:
            feared = (feared - how.clip).clamp(min=0)
            absent = -torch.log1p(-feared) / how.tolerance
        else:
            absent = F.softplus(how.tolerance * z) / how.tolerance
        # the focusing factors have no gradient, as in the authors' code
        present = F.softplus(-reached) * (-reached).sigmoid().detach() ** how.gamma_positive
        absent = absent * feared.detach() ** how.gamma_negative
        return weight * ((1.0 if positive is None else positive) * y * present + (1 - y) * absent)

    def _rebalancing(self, y: Tensor) -> Tensor | float:
        """Weights (N, A) by how often an attribute would come up if all were drawn alike, over how
        often its image does; 1.1 for an image that has no attribute.
        """
        if self.rarity is None:
            return 1.0
        share = self.rarity / (y * self.rarity).sum(1, keepdim=True)
        return _SMOOTH_FLOOR + torch.sigmoid(_SMOOTH_SLOPE * (share - _SMOOTH_MIDDLE))


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the labels that are there; see `AttributeLoss`."""
    loss: Tensor = AttributeLoss()(logits, labels)
    return loss


def _counts(labels: Tensor) -> Tensor:
    """Positive and negative labels of each attribute, float32 (2, A); of a probability, its
    share.
    """
    return torch.stack([labels.nansum(0), (1 - labels).nansum(0)])
