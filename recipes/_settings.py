"""Settings of a run: a dataclass, its command line and its YAML file.

The configuration of each part is the part's own dataclass; here they only meet.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import jsonargparse
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from augment import Quota, SamplerConfig, SelfGuidanceConfig
from classify import FitConfig
from classify.config import Precision
from classify.files import write_text

__all__ = [
    "CONTROLS",
    "GuidanceConfig",
    "RunConfig",
    "StudyConfig",
    "check_claim",
    "check_folder",
    "claim",
    "fit_settings",
    "parse",
    "refused_in_one_line",
    "run",
]

DistanceName = Literal["lpips", "l1", "l2", "features"]
Preset = Literal["demo", "paper"]
Control = Literal["duplicate", "relabel", "reweight", "oversample", "rand_augment"]
CONTROLS: tuple[Control, ...] = get_args(Control)

_CIRCUMSTANCES = frozenset({"out", "devices", "num_nodes", "preview"})
"""Settings that do not change the results: another value continues the same run."""
_RESULTS = ("scores.csv", "summary.csv", "comparison.csv", "report.html")
"""Files that a run writes last, over those of its own earlier session."""
_SWITCHES = {
    "skip_bad": "leave out images that do not decode instead of stopping at the first",
    "allow_leak": "go on without the generated images that copy real val or test images",
    "preview": "show 16 images an arm, estimate time, memory and disk of the whole run, and stop",
}
_LISTS = {
    "attributes": (str, "columns to learn; left out, all attributes"),
    "controls": (
        Control | Literal["all"],
        "further arms of real images alone, to tell why an arm gains: all, or some of "
        + ", ".join(CONTROLS),
    ),
}
_OF_THE_RUN = ("image_size", "precision")
"""Settings of a fit that are the whole run's."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig(SelfGuidanceConfig):
    """Self-guidance of the minority arm."""

    distance: DistanceName = "features"
    """lpips (the paper's, needs AlexNet's weights), features (the labeler's own), l1 or l2."""


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
    labeler: str = "avatars"
    """Embedded name or folder of a labeler; `train` trains a ResNet-34 on the real train split
    first, with the classifier's settings."""
    attributes: list[str] | None = None
    """Columns to learn; left out, all that are not the table's own."""
    num_synthetic: int = 400
    """Images in each synthetic arm, or in each round of one while its quota is not met."""
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
        for name in _LISTS:
            if twice := [n for n, k in Counter(getattr(self, name) or ()).items() if k > 1]:
                raise ValueError(f"{name} name {twice[0]} twice; name each once")

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for YAML; `--config` reads them back."""
        record = cast(dict[str, Any], _plain(asdict(self)))
        for name in _OF_THE_RUN:
            del record["train"][name]
        return record


Config = TypeVar("Config", bound=RunConfig)


def parse(
    config: type[Config], presets: Mapping[str, Mapping[str, Any]], arguments: Sequence[str] | None
) -> Config:
    """Read the command line, on top of `--config FILE.yaml`, on top of the preset's settings.

    Args:
        config: the dataclass whose fields are the flags.
        presets: preset -> dotted setting -> value, where it differs from the dataclass's default.
        arguments: the command line; None for the process's own.

    Raises:
        ValueError: an unknown flag or a refused value, in one line.
    """
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=config.__doc__)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    for flag, (kind, what) in _LISTS.items():
        parser.add_argument(f"--{flag}", nargs="+", type=kind, default=None, help=what)
    for flag, what in _SWITCHES.items():
        parser.add_argument(f"--{flag}", action="store_true", help=what)
    parser.add_class_arguments(config, None, skip={"train", *_LISTS, *_SWITCHES})
    parser.add_class_arguments(FitConfig, "train", skip=set(_OF_THE_RUN))
    with refused_in_one_line():
        preset = parser.parse_args(_without_print(arguments)).preset
        parser.set_defaults(dict(presets[preset]))
        options = parser.instantiate(parser.parse_args(arguments))
    values = {f.name: options[f.name] for f in fields(config) if f.name in options}
    chosen = values["controls"] or []
    values["controls"] = list(CONTROLS) if "all" in chosen else chosen
    return config(**values)


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    """Make the parser's refusal of a command line a ValueError of one line."""
    try:
        yield
    except jsonargparse.ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _without_print(arguments: Sequence[str] | None) -> list[str]:
    """The arguments without those that end the process at the first look."""
    given = sys.argv[1:] if arguments is None else arguments
    return [a for a in given if a not in ("-h", "--help") and not a.startswith("--print_config")]


def fit_settings(config: FitConfig) -> dict[str, Any]:
    """A fit's settings as a preset's dotted ones."""
    values = {name: value for name, value in asdict(config).items() if name not in _OF_THE_RUN}
    nested = values.pop("augmentation")
    return {
        **{f"train.{name}": value for name, value in values.items()},
        **{f"train.augmentation.{name}": value for name, value in nested.items()},
    }


def run(main: Callable[[], object]) -> None:
    """Call a recipe's main; bad input ends it with one line instead of a traceback."""
    try:
        main()
    except (ValueError, OSError, MisconfigurationException) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None


def claim(config: RunConfig) -> None:
    """Write `config.yaml` into the run's folder, unless the same run stands there.

    Raises:
        ValueError: see `check_claim`.
    """
    check_claim(config)
    path = config.out / "config.yaml"
    if not path.is_file():
        config.out.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(config.record(), sort_keys=False))


def check_claim(config: RunConfig) -> None:
    """Check that the run's folder is free or holds a run with the same settings; write nothing.

    Raises:
        ValueError: another run stands there, and the first setting that differs is named; or
            something that is no run of ours.
    """
    check_folder(config.out)
    path, record = config.out / "config.yaml", config.record()
    if not path.is_file():
        if results := [name for name in _RESULTS if (config.out / name).exists()]:
            raise ValueError(
                f"{config.out} holds {results[0]} but no config.yaml, so no run of ours; "
                "give another --out"
            )
        return
    try:
        found = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} holds no settings of a run; give another --out") from error
    for name in sorted(record.keys() - _CIRCUMSTANCES):
        if found.get(name) != record[name]:
            old, new = _difference(name, found.get(name), record[name])
            raise ValueError(
                f"{config.out} holds a run with {old}, this one has {new}; "
                "give another --out, or the settings in its config.yaml"
            )


def check_folder(out: Path) -> None:
    """Refuse a path at or above which a file stands."""
    if blocking := [p for p in (out, *out.parents) if p.exists() and not p.is_dir()]:
        raise ValueError(f"out is {out}, but {blocking[0]} is a file; give a folder")


def _difference(name: str, old: Any, new: Any) -> tuple[str, str]:
    """The first differing setting inside a group, by its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in new if old.get(key) != new[key])
        return _difference(f"{name}.{key}", old.get(key), new[key])
    return f"{name} {old}", f"{name} {new}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
