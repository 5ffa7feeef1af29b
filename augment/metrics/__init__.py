"""How rare, how faithful and how diverse images are, measured against real ones.

All of it works on features: one row (D,) an image, tensors or arrays of any floating type.
"""

from augment.metrics.bootstrap import Interval, mean_interval
from augment.metrics.density import Scores, avg_knn, lof, rarity, real_avg_knn, real_lof
from augment.metrics.fidelity import frechet_distance, kid
from augment.metrics.manifold import density_coverage, precision_mask, precision_recall
from augment.metrics.neighbours import Neighbours, nearest, nearest_others
from augment.metrics.reference import Measured, Orders, Reference, measure
from augment.metrics.tail import rarest, read_tail, save_tail, tail
from augment.metrics.vectors import Vectors

__all__ = [
    "Interval",
    "Measured",
    "Neighbours",
    "Orders",
    "Reference",
    "Scores",
    "Vectors",
    "avg_knn",
    "density_coverage",
    "frechet_distance",
    "kid",
    "lof",
    "mean_interval",
    "measure",
    "nearest",
    "nearest_others",
    "precision_mask",
    "precision_recall",
    "rarest",
    "rarity",
    "read_tail",
    "real_avg_knn",
    "real_lof",
    "save_tail",
    "tail",
]
