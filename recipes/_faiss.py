"""faiss' flat index as an engine of the same scores.

A file of its own: faiss brings another OpenMP, which our engine's process should not load.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
import torch

from augment.metrics import Measured, Neighbours
from augment.metrics.density import mean_distance, outlier_factor
from recipes._engine import Array, Engine

__all__ = ["Faiss"]

_BLOCK = 4096
"""Of distances that faiss computes for the balls, rows and columns."""

_Counts = dict[int, npt.NDArray[np.float64]]
"""By the balls' k."""
_Mask = npt.NDArray[np.bool_]


class Faiss(Engine):
    """`IndexFlatL2` for the neighbours; a ball each has no index, so blocks of all distances."""

    name = "faiss"

    def search(self) -> Neighbours:
        self.index = _index(self.real)
        self.own = _others(self.index, self.real, self.orders.most)
        return self.own

    def measure(self, generated: Array) -> Measured:
        orders = self.orders
        found = _neighbours(*self.index.search(generated, max(orders.avg_knn, orders.lof)))
        own = _others(_index(generated), generated, orders.precision)
        count, members, smallest, recalled = self._balls(generated, own)
        return Measured(
            avg_knn=mean_distance(found, orders.avg_knn),
            lof=outlier_factor(found, self.own, orders.lof),
            rarity=np.where(np.isfinite(smallest[orders.rarity]), smallest[orders.rarity], np.nan),
            inside=count[orders.precision] > 0,
            recalled=recalled,
            density=float(count[orders.density].mean()) / orders.density,
            coverage=float((members[orders.density] > 0).mean()),
        )

    def _balls(self, generated: Array, own: Neighbours) -> tuple[_Counts, _Counts, _Counts, _Mask]:
        """Balls that hold a generated image, their members and smallest radius; the recalled."""
        orders, n, m = self.orders, len(self.real), len(generated)
        kinds = {orders.rarity, orders.precision, orders.density}
        radii = {k: self.own.distances[:, k - 1].numpy() for k in kinds}
        reach = own.distances[:, -1].numpy()
        count, members = ({k: np.zeros(size) for k in kinds} for size in (m, n))
        smallest = {k: np.full(m, np.inf) for k in kinds}
        recalled = np.zeros(n, dtype=bool)
        for rows in _slices(m):
            for columns in _slices(n):
                apart = faiss.pairwise_distances(generated[rows], self.real[columns])
                apart = np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
                for k in kinds:
                    inside = apart < radii[k][columns].astype(np.float32)
                    count[k][rows] += inside.sum(axis=1)
                    members[k][columns] += inside.sum(axis=0)
                    row, column = inside.nonzero()
                    np.minimum.at(smallest[k][rows], row, radii[k][columns][column])
                recalled[columns] |= (apart < reach[rows, None].astype(np.float32)).any(axis=0)
        return count, members, smallest, recalled


def _index(points: Array) -> faiss.IndexFlatL2:
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    return index


def _others(index: faiss.IndexFlatL2, points: Array, k: int) -> Neighbours:
    """The k nearest without the point itself, which a duplicate may have pushed out of k + 1."""
    squares, indices = index.search(points, k + 1)
    own = indices == np.arange(len(points))[:, None]
    own[~own.any(axis=1), -1] = True
    return _neighbours(squares[~own].reshape(-1, k), indices[~own].reshape(-1, k))


def _neighbours(squares: Array, indices: npt.NDArray[np.int64]) -> Neighbours:
    return Neighbours(
        torch.from_numpy(np.sqrt(np.maximum(squares, 0), dtype=np.float64)),
        torch.from_numpy(indices),
    )


def _slices(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
