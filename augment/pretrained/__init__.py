"""Pretrained generators, each made a `Denoiser`, and the classifiers that go with them.

They come as embedded names, checkpoints of guided-diffusion, diffusers folders and hub ids, on
pixels or on latents, of classes or of prompts.
"""

from __future__ import annotations

from augment.pretrained.autoencoder import Autoencoder, DecodedDistance
from augment.pretrained.checkpoints import (
    KNOWN,
    CheckpointOptions,
    KnownCheckpoint,
    known_checkpoints,
)
from augment.pretrained.diffusers_folder import load_pipeline, save_pipeline, scheduler_of
from augment.pretrained.edm import convert_edm
from augment.pretrained.guided_diffusion import load_checkpoint
from augment.pretrained.load import embedded_generators, load_denoiser, load_upsampler
from augment.pretrained.noised_classifier import (
    NoisedClassifier,
    load_noised_classifier,
    save_noised_classifier,
)
from augment.pretrained.upsampler import Upsampler

__all__ = [
    "KNOWN",
    "Autoencoder",
    "CheckpointOptions",
    "DecodedDistance",
    "KnownCheckpoint",
    "NoisedClassifier",
    "Upsampler",
    "convert_edm",
    "embedded_generators",
    "known_checkpoints",
    "load_checkpoint",
    "load_denoiser",
    "load_noised_classifier",
    "load_pipeline",
    "load_upsampler",
    "save_noised_classifier",
    "save_pipeline",
    "scheduler_of",
]
