"""Images from noise.

Pretrained diffusion models, the samplers that guide them to minority samples, and what follows.
"""

from augment.denoiser import Denoiser, ImageFormat
from augment.distance import L2, LPIPS, FeatureDistance
from augment.generate import SamplerConfig, generate
from augment.guidance import SelfGuidance, SelfGuidanceConfig
from augment.merge import merge
from augment.pretrained import embedded_generators, load_denoiser
from augment.sampler import reverse_process, sample
from augment.schedule import Schedule

__all__ = [
    "L2",
    "LPIPS",
    "Denoiser",
    "FeatureDistance",
    "ImageFormat",
    "SamplerConfig",
    "Schedule",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "embedded_generators",
    "generate",
    "load_denoiser",
    "merge",
    "reverse_process",
    "sample",
]
