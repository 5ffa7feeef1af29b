"""A table of labelled images -> trained attribute classifiers -> scores."""

from classify.arms import Arm, duplicate, oversample, relabel, substitute
from classify.audit_frames import fairlearn_frame
from classify.augmentation import Augmentation
from classify.checkpoint import save_checkpoint
from classify.comparison import compare_pairs, count_scored, pairs_with, summarise
from classify.config import FitConfig, MixingConfig, StageConfig
from classify.datasets import (
    Images,
    attribute_columns,
    decode,
    decode_tables,
    load_images,
    load_table,
    read_image,
)
from classify.fairness import audit
from classify.fits import cautions
from classify.groups import GROUPS, composition
from classify.labels import check_learnable, label_tensor, labelled_attributes
from classify.loss import LossConfig
from classify.metrics import RARE, attribute_scores, best_thresholds, with_rare
from classify.model import AttributeClassifier
from classify.predictions import Predictions, read_predictions
from classify.study import run_study
from classify.train import FitResult, fit, predict

__all__ = [
    "GROUPS",
    "RARE",
    "Arm",
    "AttributeClassifier",
    "Augmentation",
    "FitConfig",
    "FitResult",
    "Images",
    "LossConfig",
    "MixingConfig",
    "Predictions",
    "StageConfig",
    "attribute_columns",
    "attribute_scores",
    "audit",
    "best_thresholds",
    "cautions",
    "check_learnable",
    "compare_pairs",
    "composition",
    "count_scored",
    "decode",
    "decode_tables",
    "duplicate",
    "fairlearn_frame",
    "fit",
    "label_tensor",
    "labelled_attributes",
    "load_images",
    "load_table",
    "oversample",
    "pairs_with",
    "predict",
    "read_image",
    "read_predictions",
    "relabel",
    "run_study",
    "save_checkpoint",
    "substitute",
    "summarise",
    "with_rare",
]
