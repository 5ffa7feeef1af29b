"""Labels for images: a table of images becomes the same table with labels and probabilities."""

from labeling.card import LabelerCard
from labeling.combination import Combination
from labeling.export import export_onnx
from labeling.labeler import Labeler, Predictor
from labeling.load import embedded_labelers, load_labeler
from labeling.policy import LabelPolicy
from labeling.pseudo import label_probabilities, pseudo_label
from labeling.quality import decision_quality, label_quality, quality_by_group
from labeling.rule import PolicyConfig, Rule
from labeling.thresholds import fit_thresholds

__all__ = [
    "Combination",
    "LabelPolicy",
    "Labeler",
    "LabelerCard",
    "PolicyConfig",
    "Predictor",
    "Rule",
    "decision_quality",
    "embedded_labelers",
    "export_onnx",
    "fit_thresholds",
    "label_probabilities",
    "label_quality",
    "load_labeler",
    "pseudo_label",
    "quality_by_group",
]
