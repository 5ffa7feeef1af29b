"""Generate minority samples with a pretrained model.

    python recipes/generate.py avatars-32 --out runs/minority --seeds 64
    python recipes/generate.py avatars-32 --out runs/ordinary --seeds 64 --guidance.scale 0
    python recipes/generate.py avatars-32 --out runs/edited --seeds 8 --edit face.png --strength 0.6
    python recipes/generate.py avatars-32 --out runs/boosted --guidance.scale 0 --boost {}

It writes `<seed>.png` and `metadata.csv`. The same command again continues a run that was stopped;
more `--seeds` extend it. 64 images of the embedded generator take a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from augment import (
    Boost,
    ClassifierGuidance,
    Edit,
    SelfGuidanceConfig,
    Sum,
    generate,
    load_denoiser,
    load_noised_classifier,
)
from augment.denoiser import Denoiser
from augment.generate import SamplerConfig
from augment.guidance import Guidance
from augment.images import ImageFiles
from augment.start import Start
from classify.datasets import load_images, read_image
from recipes.chain.command_line import parse, run
from recipes.chain.devices import launch
from recipes.chain.distances import ModelDistance, named_distance
from recipes.chain.sources import GENERATORS
from recipes.chain.targets import plan_bits

__all__ = ["ClassifierConfig", "GuidanceConfig", "Settings", "main"]

_MOST_IMAGES = 10**7
_STRENGTH = 0.5
"""Of an edit: SDEdit's."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance towards minority samples; scale 0 turns it off."""

    distance: ModelDistance | None = None
    """activations are the generator's own; lpips is the paper's and needs AlexNet's weights; left
    out, activations, or l2 between the latents of a latent model."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """A noised classifier's guidance, for samples of a class (semantic control)."""

    source: Path | None = None
    """Folder of `recipes/train_noised_classifier.py`, or a guided-diffusion .pt file."""
    target: int | None = None
    """The class, its index; left out, each image's own, of a generator that has classes, or of a
    classifier of several attributes a value of each, drawn by the image's seed."""
    scale: float = 1.0
    """Strength; 1 is Bayes' rule, and 1 to 10 are usual."""

    def __post_init__(self) -> None:
        if self.source is None and (self.target, self.scale) != (None, 1.0):
            raise ValueError(
                f"classifier.target is {self.target} and classifier.scale {self.scale} without a "
                "classifier; give classifier.source, or leave them out"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Generate minority samples with a pretrained model: <seed>.png and metadata.csv."""

    generator: str = field(metadata=GENERATORS)
    """Embedded name, diffusers folder, guided-diffusion .pt file or hub id."""
    prompts: Path | None = None
    """Text file of a text-to-image model's prompts, one a line; the first is class 0."""
    out: Path = Path("runs/generate")
    """The folder of the images; a stopped run found there is continued."""
    seeds: int = 64
    """How many images."""
    first_seed: int = 0
    """The first one's seed; each is named by its own."""
    edit: Path | None = None
    """An image to start from (SDEdit), or a folder of them, taken in turn."""
    strength: float = _STRENGTH
    """How much of an edited image is made anew, 0 to 1."""
    boost: Boost | None = None
    """Start from noise of too large a norm (Boost-and-Skip); {} is the paper's for CelebA,
    "{gamma: 2.5}" that for ImageNet-64."""
    accelerator: str = "auto"
    """Kind of device, such as cpu or gpu (Lightning's)."""
    devices: int | str = "auto"
    """Number of devices, or auto (Lightning's); several give the same images as one."""
    num_nodes: int = 1
    """Number of machines (Lightning's)."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """Self-guidance towards minority samples."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """A classifier's guidance, added to it."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= _MOST_IMAGES or self.first_seed < 0:
            raise ValueError(
                f"seeds is {self.seeds} and first_seed {self.first_seed}; "
                f"give 1 to {_MOST_IMAGES:,} images, and a first seed from 0 up"
            )
        if self.edit is None and self.strength != _STRENGTH:
            raise ValueError(
                f"strength is {self.strength} without an edit; give --edit, or leave it out; the "
                "guidance's is guidance.scale"
            )
        if self.edit is not None and self.boost is not None:
            raise ValueError(f"edit {self.edit} is given beside boost; a run starts from one")


def main(arguments: Sequence[str] | None = None) -> Path:
    """Generate the images; their folder."""
    settings = parse(Settings, arguments)
    prompts = None if settings.prompts is None else read_prompts(settings.prompts)
    denoiser = load_denoiser(settings.generator, prompts=prompts)
    guidance = _guidance(denoiser, settings.guidance, settings.classifier)
    start: Start | None = settings.boost
    if settings.edit is not None:
        references = _references(settings.edit, denoiser)
        start = Edit(references=references, strength=settings.strength)
    generate(
        denoiser,
        range(settings.first_seed, settings.first_seed + settings.seeds),
        settings.out,
        sampler=settings.sampler,
        guidance=guidance,
        start=start,
        fabric=launch(
            settings.devices, num_nodes=settings.num_nodes, accelerator=settings.accelerator
        ),
    )
    return settings.out


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not blank.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no text, or blank.
    """
    if not path.is_file():
        raise FileNotFoundError(f"prompts {path} is missing; give a text file with one a line")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts {path} is no UTF-8 text; give a prompt a line") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"prompts {path} has no line with text; give at least one prompt")
    return prompts


def _guidance(
    denoiser: Denoiser, self_guidance: GuidanceConfig, classifier: ClassifierConfig
) -> Guidance | None:
    """All the guidance that was asked for; None if there is none."""
    parts: list[Guidance] = []
    if self_guidance.given > 0:
        name = self_guidance.distance or ("activations" if denoiser.latents is None else "l2")
        distance = named_distance(name, denoiser)
        parts.append(self_guidance.with_distance(distance))
    if classifier.source is not None:
        loaded = load_noised_classifier(classifier.source)
        drawn = classifier.target is None and len(loaded.heads) > 1
        target = plan_bits(list(loaded.heads)) if drawn else classifier.target
        parts.append(ClassifierGuidance(classifier=loaded, target=target, scale=classifier.scale))
    return Sum(*parts) if len(parts) > 1 else next(iter(parts), None)


def _references(source: Path, denoiser: Denoiser) -> Tensor:
    """uint8 (K, C, H, W), cropped and resized to the model's format."""
    if not source.exists():
        raise FileNotFoundError(f"edit {source} is missing; give an image or a folder of images")
    if source.is_file():
        paths = [str(source)]
    else:
        rows = load_images(source)
        if "split" in rows:  # what is judged on real test images must not start from them
            rows = rows[rows["split"] == "train"]
        paths = list(rows["path"])
    if not paths:
        raise ValueError(f"edit {source} has no train image; give others to start from")
    image = denoiser.image
    return ImageFiles(paths, read_image, size=image.size, channels=image.channels).stack()


if __name__ == "__main__":
    run(main)
