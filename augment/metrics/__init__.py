"""How rare, how faithful and how diverse images are, measured against real ones.

All of it works on features: one row (D,) an image, tensors or arrays of any floating type.
"""

from augment.metrics.encoder import Encoder, EncoderCard, Preprocessing
from augment.metrics.encoders import load_encoder
from augment.metrics.features import extract
from augment.metrics.fidelity import Interval, frechet_distance, kid, mean_interval
from augment.metrics.hardness import Hardness
from augment.metrics.neighbours import Neighbours, nearest, nearest_others
from augment.metrics.scores import (
    Measured,
    Orders,
    Reference,
    Scores,
    avg_knn,
    lof,
    measure,
    precision_mask,
    rarity,
)
from augment.metrics.vectors import Vectors

__all__ = [
    "Encoder",
    "EncoderCard",
    "Hardness",
    "Interval",
    "Measured",
    "Neighbours",
    "Orders",
    "Preprocessing",
    "Reference",
    "Scores",
    "Vectors",
    "avg_knn",
    "extract",
    "frechet_distance",
    "kid",
    "load_encoder",
    "lof",
    "mean_interval",
    "measure",
    "nearest",
    "nearest_others",
    "precision_mask",
    "rarity",
]
