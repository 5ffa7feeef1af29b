"""Guidances: values handed to the sampler that shift its reverse mean. One method a file."""

from augment.guidance.addition import Sum
from augment.guidance.classifier import ClassifierGuidance, ClassifierOfNoised
from augment.guidance.contract import Guidance, ReverseStep
from augment.guidance.self_guidance import SelfGuidance, SelfGuidanceConfig
from augment.guidance.strength import Strength

__all__ = [
    "ClassifierGuidance",
    "ClassifierOfNoised",
    "Guidance",
    "ReverseStep",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "Strength",
    "Sum",
]
