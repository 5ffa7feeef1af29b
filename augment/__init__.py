"""Images from noise.

Pretrained diffusion models, the samplers that guide them to minority samples, and what follows.
"""

from augment.activations import ActivationDistance, DenoiserFeatures
from augment.cads import CADS
from augment.denoiser import Denoiser, ImageFormat
from augment.distance import L1, L2, LPIPS, FeatureDistance
from augment.generate import SamplerConfig, generate
from augment.guidance import (
    AttributeGuidance,
    AttributeGuidanceConfig,
    ClassifierGuidance,
    Joint,
    SelfGuidance,
    SelfGuidanceConfig,
    Sum,
)
from augment.optimise import optimised
from augment.pretrained import (
    CheckpointOptions,
    DecodedDistance,
    embedded_generators,
    known_checkpoints,
    load_denoiser,
    load_noised_classifier,
    load_upsampler,
)
from augment.sampler import reverse_process, sample
from augment.schedule import Schedule
from augment.selection import (
    Calibration,
    Quota,
    RealImages,
    Selection,
    Signatures,
    admit,
    admitted,
    calibrate,
    in_manifold,
    keep_rates,
    merge,
    refuse_leaks,
    select,
)
from augment.solvers import DDIM, Ancestral, DPMSolver2M
from augment.start import Boost, Edit
from augment.temperature import Temperature
from augment.upsample import upsample

__all__ = [
    "CADS",
    "DDIM",
    "L1",
    "L2",
    "LPIPS",
    "ActivationDistance",
    "Ancestral",
    "AttributeGuidance",
    "AttributeGuidanceConfig",
    "Boost",
    "Calibration",
    "CheckpointOptions",
    "ClassifierGuidance",
    "DPMSolver2M",
    "DecodedDistance",
    "Denoiser",
    "DenoiserFeatures",
    "Edit",
    "FeatureDistance",
    "ImageFormat",
    "Joint",
    "Quota",
    "RealImages",
    "SamplerConfig",
    "Schedule",
    "Selection",
    "SelfGuidance",
    "SelfGuidanceConfig",
    "Signatures",
    "Sum",
    "Temperature",
    "admit",
    "admitted",
    "calibrate",
    "embedded_generators",
    "generate",
    "in_manifold",
    "keep_rates",
    "known_checkpoints",
    "load_denoiser",
    "load_noised_classifier",
    "load_upsampler",
    "merge",
    "optimised",
    "refuse_leaks",
    "reverse_process",
    "sample",
    "select",
    "upsample",
]
