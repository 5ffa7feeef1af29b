"""Settings of a run.

The configuration of each part is the part's own dataclass; here they only meet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from augment import Quota, SamplerConfig, SelfGuidanceConfig
from classify import FitConfig
from classify.config import Precision
from labeling import PolicyConfig

__all__ = [
    "CONTROLS",
    "OF_THE_RUN",
    "AdmissionConfig",
    "Control",
    "DistanceName",
    "GuidanceConfig",
    "LabelsConfig",
    "RunConfig",
    "StudyConfig",
    "fit_settings",
]

DistanceName = Literal["lpips", "l1", "l2", "features"]
Preset = Literal["demo", "paper"]
Control = Literal["duplicate", "relabel", "reweight", "oversample", "rand_augment"]
CONTROLS: tuple[Control, ...] = get_args(Control)

OF_THE_RUN = ("image_size", "precision")
"""Settings of a fit that are the whole run's."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance of the minority arm."""

    distance: DistanceName = "features"
    """lpips (the paper's, needs AlexNet's weights), features (the labeler's own), l1 or l2."""


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """How the labeler's probabilities become labels of the synthetic images."""

    policy: str = "card"
    """card: the thresholds on the labeler's card; fit: thresholds, temperatures and abstention are
    fitted first on the run's real val rows; else the file of a policy (`python -m labeling fit`).
    """
    wanted: PolicyConfig = field(default_factory=PolicyConfig)
    """What a policy is fitted for."""
    soft: bool = False
    """Synthetic images train on their probabilities in place of 1 and 0."""

    def __post_init__(self) -> None:
        if self.policy != "fit" and self.wanted != PolicyConfig():
            raise ValueError(
                f"labels.wanted is given with labels.policy {self.policy}; it is what a policy is "
                "fitted for: give labels.policy fit, or leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """What generated images are refused for besides blanks, broken files and copies."""

    manifold: int | None = None
    """Neighbours k: an image is off the manifold if it lies in no ball that reaches from a real
    training image to its k-th nearest other; left out, this is not judged."""
    encoder: str | None = None
    """Whose features the balls are in (`python -m augment.metrics --help` has the names); left out,
    the labeler's own."""

    def __post_init__(self) -> None:
        if self.manifold is not None and self.manifold < 1:
            raise ValueError(
                f"admission.manifold is {self.manifold}; give 1 or more, the paper's 3"
            )
        if self.encoder is not None and self.manifold is None:
            raise ValueError(
                f"admission.encoder is {self.encoder}, but nothing is judged by it; give "
                "admission.manifold too"
            )


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """How often the classifiers are trained."""

    seeds: int = 3
    """Fits of each arm, each from other weights; intervals need at least 2."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"study.seeds is {self.seeds}; give at least 1, better 3 or 5")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole chain."""

    data: Path | None = None
    """CelebA's folder, or a folder with metadata.csv; left out, the embedded data set."""
    out: Path = Path("runs/celeba_augment")
    """Everything is written here; the same command again continues a run that was stopped."""
    preset: Preset = "demo"
    """Where all other settings start from: demo takes minutes, paper is the published study."""
    generator: str = "avatars-32"
    """Embedded name, diffusers folder or hub id (UNet2DModel), or guided-diffusion's .pt file."""
    labeler: list[str] | str = "avatars"
    """Embedded name, folder, .onnx file, hub id or file of CLIP's prompts; `train` trains a
    ResNet-34 on the real train split first, with the classifier's settings. Of several,
    '[A, B]', each attribute is the first's that knows it."""
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    """From its probabilities to labels."""
    attributes: list[str] | None = None
    """Columns to learn; left out, all that are not the table's own."""
    num_synthetic: int = 400
    """Images in each synthetic arm, or in each round of one while its quota is not met."""
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    """What is refused."""
    quota: Quota = field(default_factory=Quota)
    """Which of an arm's images train; by default all that are admitted."""
    limit: int | None = None
    """Images generated at most in each arm to meet the quota; left out, num_synthetic."""
    controls: list[Control] = field(default_factory=list)
    """Further arms of real images alone, as many of them as the minority arm has where it matters;
    they tell why an arm gains."""
    image_size: int | None = None
    """Side of the classifier's input in pixels; left out, the generator's."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process of both synthetic arms."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """The guidance of the minority arm."""
    train: FitConfig = field(default_factory=FitConfig)
    """The classifier of every arm."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """Seeds."""
    devices: int | str = "auto"
    """Lightning's: number of devices, or auto. Two CPU processes give the same images as one."""
    num_nodes: int = 1
    """Lightning's: number of machines."""
    precision: Precision = "32-true"
    """Lightning's: numerical precision of generation and training."""
    skip_bad: bool = False
    """Leave out images that do not decode instead of stopping at the first."""
    allow_leak: bool = False
    """Go on without the generated images that copy real val or test images."""
    preview: bool = False
    """Show 16 images an arm and estimate time, memory and disk of the whole run, then stop."""

    def __post_init__(self) -> None:
        if self.num_synthetic < 1:
            raise ValueError(f"num_synthetic is {self.num_synthetic}; give at least 1 image an arm")
        if self.limit is not None and self.limit < self.num_synthetic:
            raise ValueError(
                f"limit is {self.limit}; give at least num_synthetic, {self.num_synthetic}, which "
                "are made anyway"
            )
        if self.image_size is not None and self.image_size < 8:
            raise ValueError(f"image_size is {self.image_size}; give at least 8 pixels")
        for name in ("attributes", "controls"):
            if twice := [n for n, k in Counter(getattr(self, name) or ()).items() if k > 1]:
                raise ValueError(f"{name} name {twice[0]} twice; name each once")

    @property
    def labelers(self) -> Sequence[str]:
        """Where labels come from, in order."""
        return [self.labeler] if isinstance(self.labeler, str) else self.labeler

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for YAML; `--config` reads them back."""
        record = cast(dict[str, Any], _plain(asdict(self)))
        for name in OF_THE_RUN:
            del record["train"][name]
        return record


def fit_settings(config: FitConfig) -> dict[str, Any]:
    """A fit's settings as a preset's dotted ones."""
    values = {name: value for name, value in asdict(config).items() if name not in OF_THE_RUN}
    nested = values.pop("augmentation")
    return {
        **{f"train.{name}": value for name, value in values.items()},
        **{f"train.augmentation.{name}": value for name, value in nested.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
