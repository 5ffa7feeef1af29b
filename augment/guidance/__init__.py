"""Guidances: values handed to the sampler that shift its reverse mean. One method a file."""

from augment.guidance.ascent import Ascent, Joint
from augment.guidance.attributes import (
    AttributeGuidance,
    AttributeGuidanceConfig,
    Wish,
)
from augment.guidance.classifier import ClassifierGuidance, ClassifierOfNoised
from augment.guidance.self_guidance import SelfGuidance, SelfGuidanceConfig
from augment.guidance.strength import Strength
from augment.step import Guidance, Step, Sum

__all__ = [
    "Ascent",
    "AttributeGuidance",
    "AttributeGuidanceConfig",
    "ClassifierGuidance",
    "ClassifierOfNoised",
    "Guidance",
    "Joint",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "Step",
    "Strength",
    "Sum",
    "Wish",
]
