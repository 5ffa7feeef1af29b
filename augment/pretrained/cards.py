"""Cards of the public guided-diffusion checkpoints: source, licence, settings, guidance.

Settings are those of the flags in the repositories' READMEs. No source publishes a sha256, so that
it is None here; the first load of a file writes its hash beside it (`augment.pretrained.files`).
Guidance is the paper's (Um & Ye 2024), as far as its code states it: for LSUN the strength is not
stated, and the perturbation is that whose signal-to-noise ratio on a linear schedule is nearest to
0.8 on a cosine one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from augment.pretrained.architecture import Architecture
from augment.pretrained.options import CheckpointOptions

__all__ = ["KNOWN", "KnownCheckpoint", "known_checkpoints"]

_RELEASE = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_REPOSITORY = "https://github.com/openai/guided-diffusion"
_LICENCE = "MIT, the repository's; the weights have none of their own"


@dataclass(frozen=True, kw_only=True)
class KnownCheckpoint:
    """A public checkpoint."""

    name: str
    """Ours."""
    url: str
    """Where the file is."""
    repository: str = _REPOSITORY
    """Whose it is; its README has the settings."""
    licence: str = _LICENCE
    """Of the weights, as far as it is stated."""
    sha256: str | None = None
    """Of the file, where it is published."""
    architecture: Architecture
    """What its tensors tell."""
    settings: CheckpointOptions
    """What they cannot tell."""
    guidance: Mapping[str, float] = field(default_factory=dict)
    """Recommended fields of `SelfGuidanceConfig`."""


KNOWN = (
    KnownCheckpoint(
        name="celeba-64",
        url="https://drive.google.com/file/d/11zaWowtEvU_rmAXnEe66x9tXzOdNbQrs",
        repository="https://github.com/soobin-um/sg-minority",
        licence=f"{_LICENCE}; CelebA, its training data, is for non-commercial research",
        architecture=Architecture(widths=(192, 384, 576, 768), blocks=3, attention=(1, 2, 3)),
        settings=CheckpointOptions(
            attention_order="new", head_channels=64, schedule="cosine", image_size=64
        ),
        guidance={"scale": 0.4, "every": 5, "perturb": 0.8},
    ),
    KnownCheckpoint(
        name="imagenet-64",
        url=f"{_RELEASE}/64x64_diffusion.pt",
        architecture=Architecture(
            widths=(192, 384, 576, 768), blocks=3, attention=(1, 2, 3), classes=1000
        ),
        settings=CheckpointOptions(
            attention_order="new", head_channels=64, schedule="cosine", image_size=64
        ),
        guidance={"scale": 0.2, "every": 2, "perturb": 0.8},
    ),
    KnownCheckpoint(
        name="lsun-bedroom-256",
        url=f"{_RELEASE}/lsun_bedroom.pt",
        architecture=Architecture(
            widths=(256, 256, 512, 512, 1024, 1024), blocks=2, attention=(3, 4, 5)
        ),
        settings=CheckpointOptions(
            attention_order="legacy", head_channels=64, schedule="linear", image_size=256
        ),
        guidance={"every": 5, "perturb": 0.5},
    ),
    KnownCheckpoint(
        name="imagenet-64-to-256",
        url=f"{_RELEASE}/64_256_upsampler.pt",
        architecture=Architecture(
            widths=(192, 192, 384, 384, 768, 768),
            blocks=2,
            attention=(3, 4, 5),
            in_channels=6,
            classes=1000,
        ),
        settings=CheckpointOptions(
            attention_order="legacy", heads=4, schedule="linear", image_size=256
        ),
    ),
    KnownCheckpoint(
        name="imagenet-64-classifier",
        url=f"{_RELEASE}/64x64_classifier.pt",
        architecture=Architecture(
            widths=(128, 256, 384, 512), blocks=4, attention=(1, 2, 3), out_channels=1000, pool=8
        ),
        settings=CheckpointOptions(
            attention_order="legacy", head_channels=64, schedule="cosine", image_size=64
        ),
    ),
    KnownCheckpoint(
        name="imagenet-256-classifier",
        url=f"{_RELEASE}/256x256_classifier.pt",
        architecture=Architecture(
            widths=(128, 128, 256, 256, 512, 512),
            blocks=2,
            attention=(3, 4, 5),
            out_channels=1000,
            pool=8,
        ),
        settings=CheckpointOptions(
            attention_order="legacy", head_channels=64, schedule="linear", image_size=256
        ),
    ),
)


def known_checkpoints() -> list[str]:
    """Names of the checkpoints that have a card."""
    return [checkpoint.name for checkpoint in KNOWN]
