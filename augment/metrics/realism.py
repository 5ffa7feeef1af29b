"""Whether generated images are like real ones, judged by nothing that made or labelled them.

Two questions, which have different answers for images that are rare by design:

- *Can they be told apart?* A logistic regression learns to tell real from generated images, and its
  accuracy on images it has not seen is .5 where the two sets have one distribution (Lopez-Paz &
  Oquab 2017, https://arxiv.org/abs/1610.06545). Minorities can be told apart, and so can the images
  of nearly every generator.
- *Do they lie where nothing real lies?* An image is real by r_j / |x - x_j|, the largest over
  the real images x_j, whose balls of radius r_j reach to their k-th nearest other (Kynkäänniemi et
  al. 2019, https://arxiv.org/abs/1904.06991, Eq. 3; no ball is left out, as the large ones
  belong to what is rare). That holds of distances and of directions from the mean: pictures of
  everything at once lie near the mean, where balls reach but no real image is. The smallest over
  all views counts, each in units of what real images have among one another. A rare image lies
  near rare real ones; noise lies nowhere.

So the share of images outside says whether a set is *unlike*: nearly all of it, or a good part
where texture besides gives nearly every image away, as it does those of a generator that was
trained too little. Accuracy alone tells the other two verdicts apart. The Frechet distance and
precision stand beside them, over what two halves of the real images have of each other, so that 1
is as good as real at any size and of any data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from augment.metrics.fidelity import frechet_distance
from augment.metrics.scores import Scores, precision_mask
from augment.metrics.vectors import Vectors, check_count, vectors, vectors_alike
from augment.metrics.views import TEXTURE

__all__ = [
    "LEAST",
    "LIKE",
    "MOST",
    "SYNTHETIC",
    "TOO_FEW",
    "UNLIKE",
    "Balls",
    "Realism",
    "RealismGate",
    "two_sample_accuracy",
]

Verdict = Literal[
    "like the real ones", "recognisably synthetic", "unlike the real ones", "too few to judge"
]
LIKE: Verdict = "like the real ones"
SYNTHETIC: Verdict = "recognisably synthetic"
UNLIKE: Verdict = "unlike the real ones"
TOO_FEW: Verdict = "too few to judge"

LEAST = 32
"""Distinct images, of either set, from which on they are judged."""
_ENOUGH = 100
"""Images, of either set, of which most of what is bad is found: of a generator trained for 200
steps 6 of 10 such sets were unlike, all of 300 images and none of 32 (`recipes/realism.py`)."""
MOST = 2000
"""Images, of either set, that are compared; of more, so many are drawn."""
_AT_ONCE = 2000
"""Images scored together, which bounds memory."""
_REAL_OUTSIDE = 0.05
"""Share of the real images that the border leaves outside."""
_UNLIKE = 0.75
"""Share outside from which, less two of its standard errors, a set is unlike. Against 300 real
avatars .02 of 300 ordinary samples lie outside, .34 of minority samples, .63 to .68 of samples
steered to rare attributes, which are still good to train on, .86 or .94 of those of a generator
trained for 200 steps, and all of noise, mosaics and clothes."""
_UNLIKE_TEXTURED, _GIVEN_AWAY = 0.3, 0.93
"""The share outside that is enough where texture gives a set away, and the accuracy from which,
less two of its standard errors, it does. Of the generator trained for 200 steps it is .95, .99 and
1.00 with 32, 100 and 300 images; of ordinary, minority and steered samples .69, .66 and .78 with
300. Alone it says too little: all the rare images there are can be told from a set that has few."""
_ALIKE = 0.1
"""How far from .5 an accuracy may be, besides two of its standard errors, for a set to be like."""
_K = 3
"""Neighbours of a ball: the paper's."""
_COMPONENTS, _FOLDS, _SPLITS = 64, 5, 3


@dataclass(frozen=True, kw_only=True)
class Realism:
    """What was found of a set of M generated images."""

    scores: Scores
    """Score of each, (M,): at least 0 inside of what is real, where all but 5 % of the real images
    are, and the lower the farther outside, in standard deviations of the real images' own. NaN
    where nothing could be judged."""
    outside: float
    """Share of the distinct images below 0."""
    images: tuple[int, int]
    """Real and generated images compared, all distinct."""
    views: pd.DataFrame
    """Index view, columns `accuracy` (balanced, of held-out images; .5 is chance, and less than
    that is what copies of the real images give), `frechet` and `precision` (over what halves of
    the real images have, 1 being theirs). Without rows where nothing could be judged."""

    @property
    def verdict(self) -> Verdict:
        """One of four, in words."""
        if self.views.empty:
            return TOO_FEW
        error = np.sqrt(sum(0.25 / count for count in self.images))  # of a difference of shares
        outside = self.outside - 2 * error
        if outside >= _UNLIKE or (outside >= _UNLIKE_TEXTURED and self._is_given_away):
            return UNLIKE
        is_told = abs(self.telling["accuracy"] - 0.5) > _ALIKE + error  # a mean of two shares
        return SYNTHETIC if is_told else LIKE

    @property
    def _is_given_away(self) -> bool:
        """Whether the texture shows what nearly every image is."""
        if TEXTURE not in self.views.index:
            return False
        told = float(self.views["accuracy"].to_dict()[TEXTURE])
        error = np.sqrt(told * (1 - told) / sum(self.images))
        return bool(told - 2 * error >= _GIVEN_AWAY)

    @property
    def telling(self) -> pd.Series[float]:
        """The row of the view that tells them apart best."""
        return self.views.iloc[int((self.views["accuracy"] - 0.5).abs().argmax())]

    def sentence(self) -> str:
        """The verdict and its reasons."""
        real, generated = self.images
        if self.verdict == TOO_FEW:
            return (
                f"{TOO_FEW}: {generated} distinct images beside {real} real ones, of which "
                f"{LEAST} each are needed"
            )
        told = (
            f"{self.verdict}: {self.outside:.0%} of them lie outside of all that is real (of real "
            f"images {_REAL_OUTSIDE:.0%}), and a classifier tells them from real ones with "
            f"accuracy {self.telling['accuracy']:.2f} (chance .50; view {self.telling.name})"
        )
        if self.verdict != UNLIKE and min(self.images) < 0.8 * _ENOUGH:
            told += (
                f"; {generated} images beside {real} hardly show a generator that was trained too "
                f"little, {_ENOUGH} each do mostly: look at them"
            )
        return told


class RealismGate:
    """Real images as a set of others is judged by them, called on the features of each such set."""

    def __init__(self, real: Mapping[str, Vectors], *, seed: int = 0) -> None:
        """
        Args:
            real: view -> floating (N, D) of the real images, in the same order in every view.
            seed: of what is drawn.

        Raises:
            ValueError: refused features.
        """
        self._seed = seed
        drawn = _drawn({name: vectors(name, found) for name, found in real.items()}, seed)
        self._scale = {name: _scale(found) for name, found in drawn.items()}
        kept = _distinct([self._scaled(drawn)])
        self._real = self._scaled({name: found[kept] for name, found in drawn.items()})
        self.count = len(kept)
        """Distinct real images that others are compared with."""
        if self.count >= LEAST:
            self._balls = [Balls(one) for one in _geometries(self._real)]
            own = [balls.own() for balls in self._balls]
            self._own = [(x.mean(), x.std() or 1.0) for x in own]
            self._border = np.quantile(self._least(own), _REAL_OUTSIDE)

    def __call__(self, generated: Mapping[str, Vectors]) -> Realism:
        """Judge a set by its features, view -> floating (M, D), M >= 1.

        Raises:
            ValueError: refused features, or of other views.
        """
        if generated.keys() != self._real.keys():
            raise ValueError(
                f"the views are {', '.join(generated)}; give {', '.join(self._real)}, those of the "
                "real images"
            )
        features = {name: vectors(name, generated[name]) for name in self._real}
        kept = _distinct(map(self._scaled, _blocks(features)))
        images = (self.count, min(len(kept), MOST))
        if min(images) < LEAST:
            nothing = np.full(len(next(iter(features.values()))), np.nan)
            return Realism(scores=nothing, outside=np.nan, images=images, views=pd.DataFrame())
        scores = np.concatenate([self._scores(one) for one in map(self._scaled, _blocks(features))])
        drawn = _drawn({name: found[kept] for name, found in features.items()}, self._seed)
        rows = {name: self._compared(name, found) for name, found in self._scaled(drawn).items()}
        return Realism(
            scores=scores,
            outside=float((scores[kept] < 0).mean()),
            images=images,
            views=pd.DataFrame.from_dict(rows, orient="index"),
        )

    def _scores(self, features: Mapping[str, Tensor]) -> Scores:
        pairs = zip(self._balls, _geometries(features), strict=True)
        return self._least([balls(x) for balls, x in pairs]) - self._border

    def _least(self, ratios: Sequence[Scores]) -> Scores:
        """The smallest over the views, each in units of the real images' own."""
        own = zip(ratios, self._own, strict=True)
        least: Scores = np.min([(ratio - mean) / std for ratio, (mean, std) in own], axis=0)
        return least

    def _scaled(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: (features[name].double() - mean) / std
            for name, (mean, std) in self._scale.items()
        }

    def _compared(self, name: str, generated: Tensor) -> dict[str, float]:
        """Accuracy, and Frechet distance and precision over those of the real halves."""
        real = self._real[name]
        accuracy = two_sample_accuracy(real, generated, seed=self._seed)
        size = min(len(real) // 2, len(generated))
        sums = np.zeros((2, 2))
        rng = np.random.default_rng(self._seed)
        a, b = _components(real, generated)
        for _ in range(_SPLITS):
            halves = torch.from_numpy(rng.permutation(len(a)))
            reference, other = a[halves[:size]], a[halves[size : 2 * size]]
            other_than = b[torch.from_numpy(rng.permutation(len(b))[:size])]
            for row, one in enumerate((other_than, other)):
                inside = precision_mask(one, reference, k=_K).mean()
                sums[row] += frechet_distance(one, reference), inside
        frechet, precision = sums[0] / np.maximum(sums[1], 1e-12)
        return {"accuracy": accuracy, "frechet": frechet, "precision": precision}


def two_sample_accuracy(a: Vectors, b: Vectors, *, seed: int = 0) -> float:
    """How well a classifier tells two sets apart (Lopez-Paz & Oquab 2017).

    Balanced accuracy of a logistic regression on the first principal components of both sets,
    cross-validated. Of Gaussians of one covariance whose means lie d standard deviations apart
    it is at most Phi(d/2).

    Args:
        a: floating (N, D), N >= 5.
        b: floating (M, D), M >= 5.
        seed: of the folds.

    Returns:
        In [0, 1]; .5 is chance. Images that occur in both sets make it less.
    """
    a, b = vectors_alike(a=a, b=b)
    check_count("folds", _FOLDS, min(len(a), len(b)), "the smaller set's images")
    both = torch.cat(_components(a, b)).numpy()
    truth = np.repeat((0, 1), (len(a), len(b)))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
    told = cross_val_predict(model, both, truth, cv=folds)
    return float(np.mean([(told[truth == label] == label).mean() for label in (0, 1)]))


class Balls:
    """Balls that reach from each real image to its k-th nearest other.

    How far inside them an image lies is the log of the largest r_j / |x - x_j|; it is above 0 for
    the images that lie inside any ball (Kynkäänniemi et al. 2019, Eq. 3).
    """

    def __init__(self, real: Vectors, *, k: int = _K) -> None:
        """
        Args:
            real: floating (N, D), distinct, N > k + 1.
            k: neighbours that a ball reaches to.
        """
        self._real, self._k = vectors("real", real).double(), k
        check_count("k", k, len(self._real) - 2, f"{len(self._real)} real images")
        self._reach = self._among().topk(k + 1, largest=False).values

    def __call__(self, generated: Vectors) -> Scores:
        """How far inside others lie, floating (M, D) to float64 (M,)."""
        radius = self._reach[None, :, self._k - 1]
        return _log_ratio(radius, torch.cdist(vectors("generated", generated).double(), self._real))

    def own(self) -> Scores:
        """How far inside each real image lies among the balls of the others, which are those of the
        set without it; float64 (N,).
        """
        k, among = self._k, self._among()
        nearest, further = self._reach[:, k - 1 : k], self._reach[:, k:]
        # Without this image a ball that held it reaches further.
        return _log_ratio(torch.where(among <= nearest, further, nearest).T, among)

    def _among(self) -> Tensor:
        return torch.cdist(self._real, self._real).fill_diagonal_(torch.inf)


def _log_ratio(radius: Tensor, distance: Tensor) -> Scores:
    tiny = 1e-9  # of what is the same
    return (radius / distance.clamp(min=tiny)).amax(dim=1).clamp(min=tiny).log().numpy()


def _components(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The first principal components of both sets together, each of variance 1 (no labels)."""
    both = torch.cat([a, b]).cpu().numpy()
    count = min(_COMPONENTS, both.shape[1], len(both) // 4)
    reduce = make_pipeline(StandardScaler(), PCA(count, random_state=0), StandardScaler())
    found = reduce.fit_transform(both)
    return torch.from_numpy(found[: len(a)]), torch.from_numpy(found[len(a) :])


def _geometries(features: Mapping[str, Tensor]) -> list[Tensor]:
    """The scaled features of every view, and their directions from the mean."""
    return [one for x in features.values() for one in (x, F.normalize(x, dim=1))]


def _scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation; what hardly varies is not blown up."""
    mean, std = features.double().mean(dim=0), features.double().std(dim=0, correction=0)
    return mean, std + 0.01 * std.square().mean().sqrt() + 1e-9


def _drawn(features: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """At most `MOST` rows, the same of every view."""
    count = len(next(iter(features.values())))
    if count <= MOST:
        return dict(features)
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(count)[:MOST])
    return {name: found[rows] for name, found in features.items()}


def _blocks(features: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    count = len(next(iter(features.values())))
    for first in range(0, count, _AT_ONCE):
        yield {name: found[first : first + _AT_ONCE] for name, found in features.items()}


def _distinct(blocks: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """First row of each distinct image, ascending, int64; the last digits of features may differ
    by the batch.
    """
    known: dict[bytes, int] = {}
    count = 0
    for block in blocks:
        rows = torch.cat(list(block.values()), dim=1).mul(1000).round().to(torch.int64).numpy()
        for number, row in enumerate(rows, count):
            known.setdefault(hashlib.sha256(row).digest(), number)
        count += len(rows)
    return torch.tensor(list(known.values()))
