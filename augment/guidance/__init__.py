"""Guidances: values handed to the sampler that shift its reverse mean. One method a file.

Another one is one file here. It needs what `augment.step.Guidance` lists; one that climbs a measure
of the estimated image is an `Ascent`, which has strength, unit and schedule already:

    # augment/guidance/brightness.py: towards bright images
    @dataclass(frozen=True, kw_only=True)
    class Brightness(Ascent):
        def measure(self, step: Step, x0: Tensor) -> Tensor:
            return x0.mean(dim=(1, 2, 3))  # a number for each image

`sample(..., guidance=Brightness())` runs it, and so does `generate`. A study's synthetic sets take
it once `SyntheticSet` in `recipes/chain/settings/sets.py` has a field for its settings and
`guidance_of` in `recipes/chain/images/making.py` makes it from them.
"""

from augment.guidance.ascent import Ascent, Joint
from augment.guidance.attributes import (
    AttributeGuidance,
    AttributeGuidanceConfig,
    Wish,
)
from augment.guidance.classifier import ClassifierGuidance, ClassifierOfNoised
from augment.guidance.jacobian import JacobianGuidance, JacobianGuidanceConfig, LogOdds
from augment.guidance.low_density import HardnessAscent, PushOfClass
from augment.guidance.particles import ParticleGuidance, ParticleGuidanceConfig
from augment.guidance.self_guidance import SelfGuidance, SelfGuidanceConfig
from augment.guidance.strength import Strength
from augment.guidance.uncertainty import UncertaintyGuidance
from augment.step import Guidance, Step, Sum

__all__ = [
    "Ascent",
    "AttributeGuidance",
    "AttributeGuidanceConfig",
    "ClassifierGuidance",
    "ClassifierOfNoised",
    "Guidance",
    "HardnessAscent",
    "JacobianGuidance",
    "JacobianGuidanceConfig",
    "Joint",
    "LogOdds",
    "ParticleGuidance",
    "ParticleGuidanceConfig",
    "PushOfClass",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "Step",
    "Strength",
    "Sum",
    "UncertaintyGuidance",
    "Wish",
]
