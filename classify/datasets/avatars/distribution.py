"""The joint distribution of the 40 attributes: CelebA's marginals and strong dependencies.

Marginals and the correlations of `STATED` are CelebA's own (Liu et al., "Deep Learning Face
Attributes in the Wild", 2015; `list_attr_celeba.txt`, 202,599 images), rounded; two are taken a
shade weaker because the rounded figures are beyond what their marginals allow. The further
dependencies are of CelebA's direction and about its size. Logical exclusions (two hair colours,
straight and wavy, hair on the bald) are soft, see `network`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from classify.datasets.avatars.network import Network, Node

MARGINALS: Mapping[str, float] = {
    "5_o_Clock_Shadow": 0.111, "Arched_Eyebrows": 0.267, "Attractive": 0.513,
    "Bags_Under_Eyes": 0.205, "Bald": 0.022, "Bangs": 0.152, "Big_Lips": 0.241, "Big_Nose": 0.235,
    "Black_Hair": 0.239, "Blond_Hair": 0.148, "Blurry": 0.051, "Brown_Hair": 0.205,
    "Bushy_Eyebrows": 0.142, "Chubby": 0.058, "Double_Chin": 0.047, "Eyeglasses": 0.065,
    "Goatee": 0.063, "Gray_Hair": 0.042, "Heavy_Makeup": 0.387, "High_Cheekbones": 0.455,
    "Male": 0.417, "Mouth_Slightly_Open": 0.483, "Mustache": 0.042, "Narrow_Eyes": 0.115,
    "No_Beard": 0.835, "Oval_Face": 0.284, "Pale_Skin": 0.043, "Pointy_Nose": 0.277,
    "Receding_Hairline": 0.080, "Rosy_Cheeks": 0.066, "Sideburns": 0.057, "Smiling": 0.482,
    "Straight_Hair": 0.208, "Wavy_Hair": 0.320, "Wearing_Earrings": 0.189, "Wearing_Hat": 0.048,
    "Wearing_Lipstick": 0.472, "Wearing_Necklace": 0.123, "Wearing_Necktie": 0.073,
    "Young": 0.774,
}  # fmt: skip
"""P(attribute = 1), in CelebA's order."""

ATTRIBUTES: tuple[str, ...] = tuple(MARGINALS)
"""The 40 names in CelebA's order."""

UNLABELLED: tuple[str, ...] = ("Attractive",)
"""Attributes without meaning in a drawing: never labelled, and no part of the log-probability."""

STATED: Mapping[tuple[str, str], float] = {
    ("Wearing_Lipstick", "Heavy_Makeup"): 0.81,
    ("Wearing_Lipstick", "Male"): -0.797,  # CelebA: -0.80, with which no man could wear any
    ("Heavy_Makeup", "Male"): -0.67, ("High_Cheekbones", "Smiling"): 0.67,
    ("Goatee", "No_Beard"): -0.56,
    ("Sideburns", "No_Beard"): -0.545,  # CelebA: -0.55
    ("5_o_Clock_Shadow", "No_Beard"): -0.53, ("No_Beard", "Male"): -0.52,
    ("Mustache", "No_Beard"): -0.44, ("Double_Chin", "Chubby"): 0.55,
    ("Mouth_Slightly_Open", "Smiling"): 0.53, ("Gray_Hair", "Young"): -0.37,
}  # fmt: skip
"""Correlations (child, parent) that must hold."""

FURTHER: Mapping[tuple[str, str], float] = {
    ("Young", "Male"): -0.27, ("Bald", "Young"): -0.22, ("Black_Hair", "Male"): 0.11,
    ("Black_Hair", "Young"): 0.10, ("Blond_Hair", "Male"): -0.30, ("Brown_Hair", "Male"): -0.11,
    ("Gray_Hair", "Male"): 0.13, ("Straight_Hair", "Male"): -0.05, ("Wavy_Hair", "Male"): -0.31,
    ("Bangs", "Male"): -0.17, ("Receding_Hairline", "Male"): 0.16,
    ("Receding_Hairline", "Young"): -0.24, ("5_o_Clock_Shadow", "Male"): 0.41,
    ("Arched_Eyebrows", "Male"): -0.40, ("Arched_Eyebrows", "Heavy_Makeup"): 0.44,
    ("Bushy_Eyebrows", "Male"): 0.24, ("Bags_Under_Eyes", "Male"): 0.25,
    ("Bags_Under_Eyes", "Young"): -0.20, ("Big_Nose", "Male"): 0.37, ("Big_Nose", "Young"): -0.25,
    ("Big_Lips", "Heavy_Makeup"): 0.14, ("Chubby", "Male"): 0.18, ("Chubby", "Young"): -0.20,
    ("Double_Chin", "Young"): -0.20, ("Eyeglasses", "Male"): 0.17, ("Eyeglasses", "Young"): -0.18,
    ("Smiling", "Male"): -0.14, ("High_Cheekbones", "Heavy_Makeup"): 0.20,
    ("Oval_Face", "Heavy_Makeup"): 0.16, ("Pale_Skin", "Male"): -0.06,
    ("Pointy_Nose", "Heavy_Makeup"): 0.21, ("Rosy_Cheeks", "Heavy_Makeup"): 0.30,
    ("Wearing_Earrings", "Male"): -0.37, ("Wearing_Necklace", "Male"): -0.27,
    ("Wearing_Necktie", "Male"): 0.32, ("Wearing_Hat", "Male"): 0.10,
}  # fmt: skip
"""Further correlations (child, parent), about CelebA's."""

NEEDS: Mapping[str, tuple[str, ...]] = {"Bald": ("Male",)}

EXCLUDED_BY: Mapping[str, tuple[str, ...]] = {
    "Black_Hair": ("Bald",),
    "Blond_Hair": ("Bald", "Black_Hair"),
    "Brown_Hair": ("Bald", "Black_Hair", "Blond_Hair"),
    "Gray_Hair": ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair"),
    "Straight_Hair": ("Bald",),
    "Wavy_Hair": ("Bald", "Straight_Hair"),
    "Bangs": ("Bald",),
}

_PARENTS_FIRST = (
    *("Male", "Young", "Bald", "Black_Hair", "Blond_Hair", "Brown_Hair"),
    *("Straight_Hair", "No_Beard", "Heavy_Makeup", "Smiling", "Chubby"),
)


def _node(name: str) -> Node:
    edges = {**STATED, **FURTHER}
    correlations = {parent: phi for (child, parent), phi in edges.items() if child == name}
    return Node(name, MARGINALS[name], correlations, NEEDS.get(name, ()), EXCLUDED_BY.get(name, ()))


NETWORK = Network(
    [
        _node(name)
        for name in dict.fromkeys((*_PARENTS_FIRST, *ATTRIBUTES))
        if name not in UNLABELLED
    ]
)
"""The 39 labelled attributes, parents first."""

_COLUMNS = [ATTRIBUTES.index(node.name) for node in NETWORK.nodes]


def from_uniforms(uniforms: NDArray[np.float64]) -> NDArray[np.int8]:
    """Attributes by inversion: uniforms (n, 40) in [0, 1) to 0/1 (n, 40), row by row."""
    unlabelled = uniforms < np.array(list(MARGINALS.values()))  # of the others it is overwritten
    attributes = unlabelled.astype(np.int8)
    attributes[:, _COLUMNS] = NETWORK.from_uniforms(uniforms[:, _COLUMNS])
    return attributes


def sample(n: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw `n` attribute vectors: int8 (n, 40), 0 or 1, in CelebA's order."""
    return from_uniforms(rng.random((n, len(ATTRIBUTES))))


def log_probability(attributes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Exact natural log-probability (n,) of 0/1 vectors (n, 40), without `Attractive`.

    Finite for every vector: each contradiction in it costs about -log(1e-4) = 9.2 nats.
    """
    return NETWORK.log_probability(attributes[:, _COLUMNS])
