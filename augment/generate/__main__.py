"""Generate minority samples with a pretrained model.

    python -m augment.generate avatars-32 --out runs/minority --seeds 64
    python -m augment.generate avatars-32 --out runs/ordinary --seeds 64 --guidance.scale 0
    python -m augment.generate avatars-32 --out runs/edited --seeds 8 --edit face.png --strength 0.6

The same command again continues a run that was stopped; more `--seeds` extend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from augment.command import fabric_of, run
from augment.denoiser import Denoiser
from augment.distance import NAMED
from augment.edit import Edit
from augment.generate.config import SamplerConfig
from augment.generate.files import generate
from augment.guidance import ClassifierGuidance, Guidance, SelfGuidanceConfig, Sum
from augment.image_files import ImageFiles, find_images
from augment.pretrained import load_denoiser, load_noised_classifier

__all__ = ["ClassifierConfig", "GuidanceConfig", "command", "main"]

_STRENGTH = 0.5
"""Of an edit: SDEdit's."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance; scale 0 turns it off."""

    distance: Literal["lpips", "l1", "l2"] = "l2"
    """lpips is the paper's and needs AlexNet's weights; l1 and l2 need nothing."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A noised classifier's term, for samples of a class (semantic control)."""

    source: Path | None = None
    """Folder of `python -m augment.train_classifier`, or a guided-diffusion .pt file."""
    target: int | None = None
    """The class, its index; left out, each image's own, of a generator that has classes."""
    scale: float = 1.0
    """Strength; 1 is Bayes' rule, and 1 to 10 are usual."""

    def __post_init__(self) -> None:
        if self.source is None and (self.target, self.scale) != (None, 1.0):
            raise ValueError(
                f"classifier.target is {self.target} and classifier.scale {self.scale} of no "
                "classifier; give classifier.source, or leave them out"
            )


def command(
    generator: str,
    *,
    out: Path,
    seeds: int,
    first_seed: int = 0,
    sampler: SamplerConfig = SamplerConfig(),
    guidance: GuidanceConfig = GuidanceConfig(),
    classifier: ClassifierConfig = ClassifierConfig(),
    edit: Path | None = None,
    strength: float = _STRENGTH,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
) -> Path:
    """Generate minority samples with a pretrained model: <seed>.png and metadata.csv.

    Args:
        generator: embedded name, diffusers folder, guided-diffusion .pt file or hub id.
        out: the folder of the images; a stopped run found there is continued.
        seeds: how many images.
        first_seed: the first one's seed; each is named by its own.
        sampler: the reverse process.
        guidance: self-guidance towards minority samples.
        classifier: a classifier's guidance, added to it.
        edit: an image to start from (SDEdit), or a folder of them, taken in turn.
        strength: how much of an edited image is made anew, 0 to 1.
        accelerator: Lightning's.
        devices: Lightning's; several give the same images as one.
        num_nodes: Lightning's.

    Returns:
        The folder.
    """
    if seeds < 1 or first_seed < 0:
        raise ValueError(
            f"seeds is {seeds} and first_seed {first_seed}; "
            "give at least 1 image, and a first seed from 0 up"
        )
    if edit is None and strength != _STRENGTH:
        raise ValueError(
            f"strength is {strength} of no edit; give --edit, or leave it out; the guidance's is "
            "guidance.scale"
        )
    denoiser = load_denoiser(generator)
    guided = _guidance(guidance, classifier)
    start = (
        None if edit is None else Edit(references=_references(edit, denoiser), strength=strength)
    )
    fabric = fabric_of(accelerator, devices, num_nodes)
    fabric.launch()
    numbers = range(first_seed, first_seed + seeds)
    generate(denoiser, numbers, out, sampler=sampler, guidance=guided, edit=start, fabric=fabric)
    return out


def _guidance(self_guidance: GuidanceConfig, classifier: ClassifierConfig) -> Guidance | None:
    """All the guidance that was asked for; None if there is none."""
    parts: list[Guidance] = []
    if self_guidance.given > 0:
        parts.append(self_guidance.with_distance(NAMED[self_guidance.distance]()))
    if classifier.source is not None:
        parts.append(
            ClassifierGuidance(
                classifier=load_noised_classifier(classifier.source),
                target=classifier.target,
                scale=classifier.scale,
            )
        )
    return Sum(*parts) if len(parts) > 1 else next(iter(parts), None)


def _references(source: Path, denoiser: Denoiser) -> Tensor:
    """uint8 (K, C, H, W), cropped and resized to the model's format."""
    if not source.exists():
        raise FileNotFoundError(f"edit {source} is missing; give an image or a folder of images")
    paths = [source] if source.is_file() else find_images(source)
    image = denoiser.image
    return ImageFiles(paths, size=image.size, channels=image.channels).stack()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; bad input ends it with one line instead of a traceback."""
    run(command, arguments)


if __name__ == "__main__":
    main()
