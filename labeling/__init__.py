"""Labels for images: a table of images becomes the same table with labels and probabilities."""

from labeling.adapters import export_onnx
from labeling.card import LabelerCard
from labeling.labeler import Combination, Labeler, Predictor
from labeling.load import embedded_labelers, load_labeler
from labeling.policy import LabelPolicy, PolicyConfig, Rule
from labeling.probe import ProbeConfig, fit_head
from labeling.pseudo import Read, label_probabilities, pseudo_label
from labeling.quality import quality_by_group
from labeling.thresholds import fit_thresholds

__all__ = [
    "Combination",
    "LabelPolicy",
    "Labeler",
    "LabelerCard",
    "PolicyConfig",
    "Predictor",
    "ProbeConfig",
    "Read",
    "Rule",
    "embedded_labelers",
    "export_onnx",
    "fit_head",
    "fit_thresholds",
    "label_probabilities",
    "load_labeler",
    "pseudo_label",
    "quality_by_group",
]
