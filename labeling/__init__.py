"""Labels for images: a table of images becomes the same table with labels and probabilities."""

from labeling.card import LabelerCard
from labeling.combination import Combination
from labeling.labeler import Labeler, Predictor
from labeling.load import embedded_labelers, load_labeler
from labeling.pseudo import label_probabilities, pseudo_label
from labeling.quality import label_quality
from labeling.thresholds import fit_thresholds

__all__ = [
    "Combination",
    "Labeler",
    "LabelerCard",
    "Predictor",
    "embedded_labelers",
    "fit_thresholds",
    "label_probabilities",
    "label_quality",
    "load_labeler",
    "pseudo_label",
]
