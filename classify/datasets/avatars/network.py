"""Bayesian networks of binary variables whose conditionals follow from moments in closed form.

A node says its marginal, its correlations with some earlier nodes, and which of them it needs or
excludes. With the gate g(p) in {0, 1} (needed parents on, excluding ones off) the conditional is

    P(c = 1 | p) = g(p) (a + b . p) + (1 - g(p)) EXCLUDED

and (a, b) solve the linear equations E[c] = marginal, Cov(c, p_j) = stated. So all stated moments
are exact wherever the solution is a probability; it is clipped to [FLOOR, 1 - FLOOR], which matters
only in cells of next to no mass. Both constants are above zero: an exclusion is soft, and every
vector has a finite log-probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FLOOR = 5e-4
"""Least probability of either value where nothing is excluded."""

EXCLUDED = 1e-4
"""Probability of a 1 that the logic excludes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Node:
    """One binary variable, stated by its moments."""

    name: str
    marginal: float
    """P(c = 1)."""
    correlations: Mapping[str, float] = field(default_factory=dict)
    """Phi coefficient with each of these earlier nodes."""
    needs: tuple[str, ...] = ()
    """Earlier nodes without which this one is all but impossible."""
    excluded_by: tuple[str, ...] = ()
    """Earlier nodes with which this one is all but impossible."""

    @property
    def parents(self) -> tuple[str, ...]:
        """All nodes that the conditional depends on, each once."""
        return tuple(dict.fromkeys([*self.needs, *self.excluded_by, *self.correlations]))


class Network:
    """The joint distribution of nodes given in an order in which parents come first."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self.column = {node.name: index for index, node in enumerate(nodes)}
        self.tables = _compile(self.nodes)
        """P(c = 1 | parents) of each node, (2 ** parents,), at the parents' binary digits."""

    def from_uniforms(self, uniforms: Floats) -> NDArray[np.int8]:
        """Sample by inversion: (n, nodes) uniforms in [0, 1) to 0/1 values of that shape."""
        values = np.zeros(uniforms.shape, dtype=np.int8)
        for column, node in enumerate(self.nodes):
            values[:, column] = uniforms[:, column] < self._conditional(node, values)
        return values

    def log_probability(self, values: NDArray[np.integer]) -> Floats:
        """Natural logarithm of the joint probability of (n, nodes) 0/1 values: (n,)."""
        total = np.zeros(len(values))
        for column, node in enumerate(self.nodes):
            p_one = self._conditional(node, values)
            total += np.log(np.where(values[:, column] == 1, p_one, 1 - p_one))
        return total

    def _conditional(self, node: Node, values: NDArray[np.integer]) -> Floats:
        digits = values[:, [self.column[parent] for parent in node.parents]]
        p_one: Floats = self.tables[self.column[node.name]][_code(digits)]
        return p_one


def _compile(nodes: Sequence[Node]) -> list[Floats]:
    """Conditional tables of all nodes, from the exact joint distribution of those that are parents.

    `states` (S, K) enumerates the K parents met so far, `weights` (S,) holds their probabilities.
    """
    inner = {parent for node in nodes for parent in node.parents}
    moments = {node.name: node.marginal for node in nodes}
    states, weights, known = np.zeros((1, 0), dtype=np.int8), np.ones(1), list[str]()
    tables = []
    for node in nodes:
        code = _code(states[:, [known.index(parent) for parent in node.parents]])
        mass: Floats = np.bincount(code, weights, 2 ** len(node.parents)).astype(np.float64)
        tables.append(_conditional_table(node, moments, mass))
        if node.name in inner:
            p_one = tables[-1][code]
            off, on = (np.insert(states, len(known), value, axis=1) for value in (0, 1))
            states = np.concatenate([off, on])
            weights = np.concatenate([weights * (1 - p_one), weights * p_one])
            known.append(node.name)
    return tables


def _conditional_table(node: Node, moments: Mapping[str, float], mass: Floats) -> Floats:
    """P(c = 1 | parents) of one node; `mass` (2 ** parents,) is the parents' joint distribution."""
    parents = node.parents
    cells = (np.arange(len(mass))[:, None] >> np.arange(len(parents))[::-1]) & 1
    gate = np.ones(len(mass), dtype=bool)
    for index, parent in enumerate(parents):
        if parent in node.needs:
            gate &= cells[:, index] == 1
        if parent in node.excluded_by:
            gate &= cells[:, index] == 0
    regressors = [parents.index(name) for name in node.correlations]
    design = np.concatenate([np.ones((len(mass), 1)), cells[:, regressors]], axis=1)
    wanted = node.marginal * (mass @ design)  # E[c] E[p], to which the covariances are added
    wanted[1:] += [
        phi * _deviation(node.marginal) * _deviation(moments[name])
        for name, phi in node.correlations.items()
    ]
    wanted -= EXCLUDED * (mass * ~gate) @ design
    solution = np.linalg.solve((design * (mass * gate)[:, None]).T @ design, wanted)
    return np.where(gate, np.clip(design @ solution, FLOOR, 1 - FLOOR), EXCLUDED)


def _deviation(marginal: float) -> float:
    """Standard deviation of a Bernoulli variable."""
    return float(np.sqrt(marginal * (1 - marginal)))


def _code(digits: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of binary digits (n, k), most significant first, as integers (n,)."""
    powers = 2 ** np.arange(digits.shape[1], dtype=np.int64)[::-1]
    return digits.astype(np.int64) @ powers
