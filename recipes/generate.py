"""Generate minority samples with a pretrained model.

    python recipes/generate.py avatars-32 --out runs/minority --seeds 64
    python recipes/generate.py avatars-32 --out runs/ordinary --seeds 64 --guidance.scale 0
    python recipes/generate.py avatars-32 --out runs/edited --seeds 8 --edit face.png --strength 0.6
    python recipes/generate.py avatars-32 --out runs/boosted --guidance.scale 0 --boost {}
    python recipes/generate.py avatars-32 --out runs/rival --config rival.yaml

rival.yaml names other guidances, which add up; without self-guidance, `guidance: {scale: 0}`:

    low_density: {images: TRAIN_IMAGES, discriminator: CLASSIFIER}
    jacobian: {encoder: activations, rank: 9}
    uncertainty: {scale: 1.0}
    labeler: avatars
    particles: {group: 8}

CLASSIFIER is of `recipes/train_noised_classifier.py`, as is that of `--classifier.source`.

It writes `<seed>.png` and `metadata.csv`. The same command again continues a run that was stopped;
more `--seeds` extend it. 64 images of the embedded generator take a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from augment import (
    Boost,
    ClassifierGuidance,
    Edit,
    SelfGuidanceConfig,
    Sum,
    generate,
    load_noised_classifier,
)
from augment.denoiser import Denoiser
from augment.generate import SamplerConfig
from augment.guidance import Guidance, HardnessAscent, PushOfClass
from augment.start import Start
from labeling import Labeler, Predictor, load_labeler
from recipes.chain.command.command_line import parse, run
from recipes.chain.command.devices import Devices
from recipes.chain.command.sources import GENERATORS, LABELERS
from recipes.chain.images.making import train_images
from recipes.chain.images.noised import hardness_of
from recipes.chain.labels.prompts import Prompts, load_with_prompts
from recipes.chain.settings.classifier_terms import LowDensityStrength
from recipes.chain.settings.distances import ModelDistance, named_distance
from recipes.chain.settings.targets import plan_bits
from recipes.chain.settings.untrained_terms import (
    JacobianSettings,
    ParticleSettings,
    UncertaintySettings,
    check_untrained_terms,
    through_labeler,
    untrained_terms,
)

__all__ = ["ClassifierConfig", "LowDensitySources", "SelfGuidanceSettings", "Settings", "main"]

_MOST_IMAGES = 10**7
_STRENGTH = 0.5
"""Strength of an edit: SDEdit's."""


@dataclass(frozen=True, kw_only=True)
class SelfGuidanceSettings(SelfGuidanceConfig):
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
class LowDensitySources(LowDensityStrength):
    """Low-density guidance (Sehwag et al. 2022) by what stands ready."""

    images: Path | None = None
    """The generator's training images, a folder: away from them, up their hardness score in its own
    activations."""
    data: Path | None = None
    """In their place a noised classifier, whose class 1 is the data: away from that."""
    discriminator: Path | None = None
    """A noised classifier whose class 1 is real and class 0 generated: towards the real."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.data is not None:
            raise ValueError(
                f"low_density.images {self.images} is given beside low_density.data {self.data}; "
                "give one way out"
            )
        if self.images is self.data is self.discriminator is None:
            raise ValueError("low_density has no images, data or discriminator; give one of them")


@dataclass(frozen=True, kw_only=True)
class Settings(Devices):
    """Generate minority samples with a pretrained model: <seed>.png and metadata.csv."""

    generator: str = field(metadata=GENERATORS)
    """Embedded name, diffusers folder, guided-diffusion .pt file or hub id."""
    prompts: Path | None = None
    """A text-to-image model's prompts, one per line, or YAML of wish: prompt and negative_prompt;
    the first is class 0."""
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
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    guidance: SelfGuidanceSettings = field(default_factory=SelfGuidanceSettings)
    """Self-guidance towards minority samples."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """A classifier's guidance, added to it."""
    low_density: LowDensitySources | None = None
    """Guidance out of the dense and towards the real, added to it."""
    jacobian: JacobianSettings | None = None
    """JEPA guidance, to images that an encoder knows little of."""
    uncertainty: UncertaintySettings | None = None
    """Guidance to images that the labeler is unsure of."""
    particles: ParticleSettings | None = None
    """Particle guidance: images of a group repel one another."""
    labeler: str | None = field(default=None, metadata=LABELERS)
    """The labeler of uncertainty and JEPA guidance: an embedded name or a folder."""

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
        if self.labeler is not None and not through_labeler(self):
            raise ValueError(
                f"labeler {self.labeler} is given, and no guidance goes through it; give "
                "uncertainty or jacobian, or leave it out"
            )


def main(arguments: Sequence[str] | None = None) -> Path:
    """Generate the images; their folder."""
    settings = parse(Settings, arguments)
    prompts = None if settings.prompts is None else Prompts.read(settings.prompts)
    fabric = settings.launched()
    # What a guidance fits and looks through is where the images are made.
    denoiser = load_with_prompts(settings.generator, prompts).to(fabric.device)
    guidance = _guidance(denoiser, settings)
    start: Start | None = settings.boost
    if settings.edit is not None:
        references = train_images(settings.edit, denoiser, "edit")
        start = Edit(references=references, strength=settings.strength)
    generate(
        denoiser,
        range(settings.first_seed, settings.first_seed + settings.seeds),
        settings.out,
        sampler=settings.sampler,
        guidance=guidance,
        start=start,
        fabric=fabric,
    )
    return settings.out


def _guidance(denoiser: Denoiser, settings: Settings) -> Guidance | None:
    """All the guidance that was asked for; None if there is none."""
    parts: list[Guidance] = []
    if settings.guidance.given > 0:
        name = settings.guidance.distance or ("activations" if denoiser.latents is None else "l2")
        distance = named_distance(name, denoiser)
        parts.append(settings.guidance.with_distance(distance))
    classifier = settings.classifier
    if classifier.source is not None:
        loaded = load_noised_classifier(classifier.source)
        drawn = classifier.target is None and len(loaded.heads) > 1
        target = plan_bits(list(loaded.heads)) if drawn else classifier.target
        parts.append(ClassifierGuidance(classifier=loaded, target=target, scale=classifier.scale))
    if settings.low_density is not None:
        parts += _low_density(denoiser, settings.low_density)
    labeler = _labeler(settings)
    if labeler is not None:
        labeler.to(denoiser.device)
    check_untrained_terms(settings, [labeler] if labeler else [], denoiser.image.shape)
    parts += untrained_terms(settings, denoiser, labeler)
    return Sum.of(parts)


def _low_density(denoiser: Denoiser, config: LowDensitySources) -> Iterator[Guidance]:
    """The way out of the dense, and the way to the real."""
    if config.images is not None:
        images = train_images(config.images, denoiser, "low_density.images")
        hardness = hardness_of(denoiser, images)
        yield HardnessAscent(hardness=hardness, scale=config.alpha, every=config.every)
    pushes = ((config.data, True, config.alpha), (config.discriminator, False, config.beta))
    for source, away, scale in pushes:
        if source is not None:
            known = load_noised_classifier(source)
            yield PushOfClass(
                classifier=known, target=1, away=away, scale=scale, every=config.every
            )


def _labeler(settings: Settings) -> Predictor | None:
    """The labeler that guidances go through; None where none does."""
    if not through_labeler(settings):
        return None
    found = None if settings.labeler is None else load_labeler(settings.labeler)
    if not isinstance(found, Labeler):
        raise ValueError(
            f"labeler is {settings.labeler}; uncertainty and jacobian go through one with a torch "
            "network: give an embedded name or a folder, or jacobian.encoder activations"
        )
    return found


if __name__ == "__main__":
    run(main)
