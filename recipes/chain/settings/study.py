"""Settings of a study.

The settings of each part are the part's own dataclass; here they meet, with the synthetic sets
(`sets.py`) and the arms (`arms.py`) that the study names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from augment import Quota, SamplerConfig
from classify import FitConfig
from classify.config import Precision
from classify.names import one_of
from labeling import PolicyConfig
from recipes.chain.command.devices import chosen_precision
from recipes.chain.command.loggers import logger_of
from recipes.chain.command.sources import DATA, GENERATORS, LABELERS
from recipes.chain.command.values import Values, plain, read_mapping, read_values
from recipes.chain.settings.arms import CONTROLS, ArmSettings
from recipes.chain.settings.sets import (
    DEFAULT_SETS,
    OFFERED_SETS,
    GuidanceConfig,
    SteeringConfig,
    SyntheticSet,
    Targets,
    read_targets,
    synthetic_set,
)

__all__ = [
    "NO_FLAGS",
    "AdmissionConfig",
    "LabelsConfig",
    "RunConfig",
    "StudyConfig",
    "fit_settings",
]

OF_THE_RUN = ("image_size", "precision")
"""Settings of a fit that are the whole run's."""
NO_FLAGS = tuple(f"train.{name}" for name in OF_THE_RUN)
"""So these are no flags."""
_USUAL = ("oversample",)
"""Controls of a run that names neither these nor its arms."""
_MOST_SEEDS = 10_000
"""Fits per arm beyond which intervals narrow no further visibly."""


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """How the labeler's probabilities become labels of the synthetic images."""

    policy: str = "card"
    """card: the thresholds on the labeler's card; fit: thresholds, temperatures and abstention are
    fitted first on the run's real val rows; else a file of `recipes/label.py fit`."""
    wanted: PolicyConfig = field(default_factory=PolicyConfig)
    """What a policy is fitted for."""
    soft: bool = False
    """Synthetic images train on their probabilities in place of 1 and 0."""
    by_prompt: bool = False
    """What its prompt states is an image's label, whatever the labeler finds."""
    trust: list[str] = field(default_factory=list)
    """Attributes whose labels are kept whatever speaks against them, or all; for a labeler that was
    judged elsewhere."""

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
    """A pretrained network, as for `recipes/measure.py`: the sets' realism is judged by its
    features too, and the balls are in them; left out, the balls are in the labeler's own."""

    def __post_init__(self) -> None:
        if self.manifold is not None and self.manifold < 1:
            raise ValueError(
                f"admission.manifold is {self.manifold}; give 1 or more, the paper's 3"
            )


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """How often the classifiers are trained."""

    seeds: int = 3
    """Fits of each arm, each from other weights; intervals need at least 2. More of them continue a
    run that has ended."""

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= _MOST_SEEDS:
            raise ValueError(
                f"study.seeds is {self.seeds}; give at least 1, better 3 or 5, and at most "
                f"{_MOST_SEEDS:,}"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Generate, label and merge synthetic images, train classifiers, and say whether it helped."""

    may_grow: ClassVar[bool] = True
    """Whether more seeds continue a run, all fits that are there being kept."""

    data: Path | None = field(default=None, metadata=DATA)
    """CelebA's folder, or a folder with metadata.csv; left out, the embedded data set."""
    out: Path = Path("runs/celeba_augment")
    """Everything is written here; the same command again continues a run that was stopped."""
    preset: Literal["demo", "paper"] = "demo"
    """Where all other settings start from: demo takes minutes, paper is the published study."""
    generator: str = field(default="avatars-32", metadata=GENERATORS)
    """Embedded name, diffusers folder or hub id, guided-diffusion's .pt file, or a folder of
    convert_edm.py."""
    prompts: Path | None = None
    """A text-to-image generator's prompts: YAML of wish: prompt (Bald=1: a bald man), and of
    negative_prompt if wanted, or a text file of one per line; each image's is drawn by its seed."""
    labeler: list[str] | str = field(default="generator", metadata=LABELERS)
    """generator: a linear head on the generator's own activations, fitted on the real train split;
    train: a ResNet-34 trained on it; or an embedded name, folder, .onnx file, hub id or file of
    CLIP's prompts. Of several, each attribute is the first's that knows it."""
    judge: str | None = field(default=None, metadata=LABELERS)
    """A second labeler, which labels nothing: it only checks whether steered images have what they
    were asked for."""
    num_real: int | None = None
    """Labelled train images used, drawn so that rare attributes are among them; left out, all; of
    the embedded images 300."""
    num_val: int | None = None
    """Labelled val images used, drawn likewise; left out, all; of the embedded images 200."""
    attributes: list[str] | None = None
    """Columns to learn; left out, all that are not the table's own."""
    num_synthetic: int = 400
    """Images in each synthetic set, or in each round of one while its quota is not met."""
    targets: Targets = "auto"
    """What steered images are asked to be: auto (what is rare in train; the quota's wishes if it
    has any), {"Bald=1": 200}, or a YAML file of that."""
    sets: Mapping[str, Values] | Path = field(default_factory=dict)
    """Further sets of synthetic images, name -> settings, or a YAML file of them."""
    arms: list[str] | None = None
    """Arms to train, `real` among them; left out, real and one for each set. boost, temperature,
    rescaled, jepa, unsure and apart may be named without sets of these names."""
    controls: list[str] | None = None
    """Further arms of real images alone: all (each adds its fits), or some of duplicate, relabel,
    reweight, oversample, rand_augment, which tell why an arm gains, and of repeat_factor,
    unweighted, logit_adjust, class_balanced, asymmetric, ldam_drw, distribution_balanced and
    retrain_head; left out, oversample, and none where arms are named."""
    image_size: int | None = None
    """Side of the classifier's input in pixels; left out, the generator's."""
    preview: bool = False
    """Show 16 images per set, estimate time, memory and disk of the whole run, and stop."""
    define_arms: Mapping[str, Values] = field(default_factory=dict)
    """Arms of your own, name -> sets, rows, real, train, meaning."""
    focus: str = "targeted"
    """The arm whose differences the report shows in full; if it is not run, the last with a set."""
    tuned: str | None = None
    """How settings were chosen, as recipes/tune.py says it; the report repeats it."""
    limit: int | None = None
    """Images generated at most in each set to meet the quota; left out, num_synthetic."""
    skip_bad: bool = False
    """Leave out images that do not decode instead of stopping at the first."""
    logger: str | None = None
    """A logger of the fits besides the CSV files: tensorboard, wandb (offline), mlflow, or the path
    of a class of Lightning's."""
    allow_leak: bool = False
    """Go on without the generated images that copy real val or test images."""
    allow_unlike: bool = False
    """Go on with a set whose images are unlike the real ones; the verdict then says so."""
    devices: int | str = "auto"
    """Number of devices, or auto: every accelerator, or two processes of a CPU; several give the
    same images as one."""
    num_nodes: int = 1
    """Number of machines (Lightning's); the same command is started on each, with MASTER_ADDR,
    MASTER_PORT and its own NODE_RANK in the environment. All share the folder `out`, on a file
    system whose locks hold between them. If one fails before they have met, stop the others."""
    precision: Precision | Literal["auto"] = "32-true"
    """Numerical precision of generation and training (Lightning's); auto is bf16-mixed on devices
    that multiply bfloat16, and 32-true on others."""
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    """From the labeler's probabilities to labels."""
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    """Which generated images are refused."""
    quota: Quota = field(default_factory=Quota)
    """Which images of a set train; by default all that are admitted."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process of every set."""
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    """The self-guidance of the minority and the targeted set."""
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    """The guidance of the targeted set towards rare attributes."""
    train: FitConfig = field(default_factory=FitConfig)
    """The classifier of every arm."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """Seeds."""

    def __post_init__(self) -> None:
        if isinstance(self.sets, Path):
            object.__setattr__(self, "sets", read_mapping(self.sets))
        object.__setattr__(self, "targets", read_targets(self.targets))
        controls = (() if self.arms else _USUAL) if self.controls is None else self.controls
        object.__setattr__(self, "controls", list(CONTROLS if "all" in controls else controls))
        logger_of(self.logger)  # says what is wrong with it
        self._check_numbers()
        self._check_out()
        self._check_names()

    @property
    def labelers(self) -> Sequence[str]:
        """Where labels come from, in order."""
        return [self.labeler] if isinstance(self.labeler, str) else self.labeler

    @property
    def described_sets(self) -> Mapping[str, Values]:
        """Every set by name, the paper's and the run's own, as they are written."""
        return {**DEFAULT_SETS, **cast("Mapping[str, Values]", self.sets)}

    @property
    def _known_sets(self) -> Mapping[str, Values]:
        """Those, and after them the sets that an arm has but to name."""
        offered = {n: values for n, values in OFFERED_SETS.items() if n not in self.described_sets}
        return {**self.described_sets, **offered}

    @cached_property
    def synthetic_sets(self) -> dict[str, SyntheticSet]:
        """Every set that an arm of the run trains on."""
        used = {name for arm in self.chosen_arms.values() for name in arm.sets}
        return {
            name: synthetic_set(
                name,
                values,
                count=self.num_synthetic,
                sampler=self.sampler,
                guidance=self.guidance,
                steering=self.steering,
                targets=self.targets,
            )
            for name, values in self._known_sets.items()
            if name in used
        }

    @cached_property
    def chosen_arms(self) -> dict[str, ArmSettings]:
        """The arms of the run, `real` first."""
        of_sets = {name: ArmSettings(sets=(name,)) for name in self._known_sets}
        own = {
            name: read_values(ArmSettings, values, f"define_arms.{name}")
            for name, values in self.define_arms.items()
        }
        known = {"real": ArmSettings(), **of_sets, **CONTROLS, **own}
        chosen = [*(self.arms or ["real", *self.described_sets, *own]), *(self.controls or ())]
        for name in (*chosen, self.focus):
            if name not in known:
                what = "arms name" if name in chosen else "focus is"
                raise ValueError(
                    f"{what} {name}; {one_of(name, known)}, or describe it in define_arms"
                )
            if unknown := [one for one in known[name].sets if one not in of_sets]:
                raise ValueError(
                    f"arm {name} trains on the set {unknown[0]}; {one_of(unknown[0], of_sets)}, "
                    "or describe it in sets"
                )
        if "real" not in chosen:
            raise ValueError(f"arms are {', '.join(chosen)}; add real, which all are compared with")
        return {name: known[name] for name in ("real", *(n for n in chosen if n != "real"))}

    @cached_property
    def focus_arm(self) -> str | None:
        """The arm that the report is about; None where no arm trains on a set."""
        with_sets = [name for name, arm in self.chosen_arms.items() if arm.sets]
        return self.focus if self.focus in with_sets else next(reversed(with_sets), None)

    def variant(self, **changes: Any) -> RunConfig:
        """A run of these settings but for the changes; what a subclass adds is left out."""
        own = {f.name: getattr(self, f.name) for f in fields(RunConfig)}
        return RunConfig(**(own | changes))

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for YAML; `--config` reads them back."""
        record = cast("dict[str, Any]", plain(asdict(self)))
        for name in OF_THE_RUN:
            del record["train"][name]
        return record

    def fit_at(self, image_size: int) -> FitConfig:
        """The settings of a fit on images of this size."""
        return replace(
            self.train, image_size=image_size, precision=chosen_precision(self.precision)
        )

    def _check_numbers(self) -> None:
        if self.num_synthetic < 1:
            raise ValueError(f"num_synthetic is {self.num_synthetic}; give at least 1 per set")
        if self.limit is not None and self.limit < self.num_synthetic:
            raise ValueError(
                f"limit is {self.limit}; give at least num_synthetic, {self.num_synthetic}, which "
                "are made anyway"
            )
        if self.labels.by_prompt and self.prompts is None:
            raise ValueError(
                "labels.by_prompt is given without prompts; give --prompts, or leave it out"
            )
        if self.judge is not None and self.judge in self.labelers:
            raise ValueError(
                f"judge is {self.judge}, which is a labeler of the run; a labeler does not judge "
                "itself: give another one, or none"
            )
        for name, least in (("num_real", 2), ("num_val", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; give at least {least}, or leave it out")
        if self.image_size is not None and self.image_size < 8:
            raise ValueError(f"image_size is {self.image_size}; give at least 8 pixels")

    def _check_out(self) -> None:
        if self.out.resolve() == Path.cwd():
            raise ValueError(
                f"out is {str(self.out)!r}, the current folder; give a folder of its own, such as "
                "runs/study"
            )
        given = {"the data": self.data, "the generator": self.generator}
        for what, source in given.items():
            if source is not None and self.out.resolve() == Path(source).resolve():
                raise ValueError(
                    f"out is {self.out}, the folder of {what}, which stays as it is; give another"
                )

    def _check_names(self) -> None:
        for name in ("attributes", "controls", "arms"):
            if twice := [n for n, k in Counter(getattr(self, name) or ()).items() if k > 1]:
                raise ValueError(f"{name} name {twice[0]} twice; name each once")
        if unknown := [name for name in self.controls or () if name not in CONTROLS]:
            raise ValueError(
                f"controls name {unknown[0]}; {one_of(unknown[0], ['all', *CONTROLS])}"
            )
        for name in (*self.described_sets, *self.define_arms):
            if not re.fullmatch(r"\w[\w.+-]*", name) or name == "real":
                raise ValueError(
                    f"{name!r} names a set or an arm; use letters, digits and . _ + -, and another "
                    "word than real"
                )
        _ = self.synthetic_sets  # says what is wrong with a set or an arm


def fit_settings(config: FitConfig) -> dict[str, Any]:
    """A fit's settings as a preset's dotted ones."""
    values = {name: value for name, value in asdict(config).items() if name not in OF_THE_RUN}
    return _dotted("train", values)


def _dotted(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{prefix}.{name}"
        flat |= _dotted(path, value) if isinstance(value, Mapping) else {path: value}
    return flat
