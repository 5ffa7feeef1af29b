"""A table of labelled images -> trained attribute classifiers -> scores."""

from classify.arms import Arm, duplicate, oversample, rand_augment, relabel, reweight
from classify.checkpoint import save_checkpoint
from classify.comparison import compare, count_scored, summarise
from classify.config import FitConfig
from classify.data import Augmentation
from classify.datasets import attribute_columns, load_table
from classify.images import Images, decode, decode_tables
from classify.labels import check_learnable, label_tensor, labelled_attributes
from classify.metrics import attribute_scores
from classify.model import AttributeClassifier
from classify.predictions import Predictions, read_predictions
from classify.study import run_study
from classify.train import FitResult, fit, predict

__all__ = [
    "Arm",
    "AttributeClassifier",
    "Augmentation",
    "FitConfig",
    "FitResult",
    "Images",
    "Predictions",
    "attribute_columns",
    "attribute_scores",
    "check_learnable",
    "compare",
    "count_scored",
    "decode",
    "decode_tables",
    "duplicate",
    "fit",
    "label_tensor",
    "labelled_attributes",
    "load_table",
    "oversample",
    "predict",
    "rand_augment",
    "read_predictions",
    "relabel",
    "reweight",
    "run_study",
    "save_checkpoint",
    "summarise",
]
