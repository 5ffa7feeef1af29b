"""Guidances: values handed to the sampler that shift its reverse mean. One method a file."""

from augment.guidance.classifier import ClassifierGuidance, ClassifierOfNoised
from augment.guidance.self_guidance import SelfGuidance, SelfGuidanceConfig
from augment.guidance.strength import Strength
from augment.step import Guidance, Step, Sum

__all__ = [
    "ClassifierGuidance",
    "ClassifierOfNoised",
    "Guidance",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "Step",
    "Strength",
    "Sum",
]
