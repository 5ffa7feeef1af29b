"""Labels for images: a table of images becomes the same table with labels and probabilities."""

from labeling.adapters import export_onnx
from labeling.card import LabelerCard
from labeling.head import ProbeConfig, fit_head
from labeling.labeler import Combination, Labeler, Predictor
from labeling.load import embedded_labelers, load_labeler
from labeling.policy import LabelPolicy, PolicyConfig, Rule
from labeling.probe import fit_probe, load_probe, save_probe
from labeling.pseudo import Read, label_probabilities, pseudo_label
from labeling.quality import quality_by_group
from labeling.thresholds import fit_thresholds
from labeling.trust import NEEDED, doubts, share_doubt

__all__ = [
    "NEEDED",
    "Combination",
    "LabelPolicy",
    "Labeler",
    "LabelerCard",
    "PolicyConfig",
    "Predictor",
    "ProbeConfig",
    "Read",
    "Rule",
    "doubts",
    "embedded_labelers",
    "export_onnx",
    "fit_head",
    "fit_probe",
    "fit_thresholds",
    "label_probabilities",
    "load_labeler",
    "load_probe",
    "pseudo_label",
    "quality_by_group",
    "save_probe",
    "share_doubt",
]
