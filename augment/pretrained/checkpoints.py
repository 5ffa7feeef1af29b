"""What the tensors of a guided-diffusion checkpoint cannot tell: it is known, or asked for.

Known are the public checkpoints, whose settings are the flags in the READMEs of
https://github.com/openai/guided-diffusion and, for CelebA, https://github.com/soobin-um/sg-minority.
Their guidance is the paper's (Um & Ye 2024) as far as its code states it: for LSUN it states no
strength and no perturbation. Nobody publishes a hash of these files; the first load of one writes
its hash beside it (`augment.pretrained.files.hold_to_hash`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from augment.denoiser import VarianceType
from augment.pretrained.architecture import Architecture

__all__ = [
    "KNOWN",
    "CheckpointOptions",
    "KnownCheckpoint",
    "ScheduleName",
    "Settings",
    "known_checkpoints",
    "settle",
]

AttentionOrder = Literal["new", "legacy"]
ScheduleName = Literal["linear", "cosine"]

_RELEASE = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
_LICENCE = "MIT, the repository's; the weights have none of their own"


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """What the tensors of a checkpoint cannot tell; of a known one all of it is known.

    A setting left out is that of the known checkpoint which the file is or is built like; one given
    here goes before it. The noise schedule has 1,000 steps and the network predicts the noise, as
    in every release of guided-diffusion.
    """

    known: str | None = None
    """Name of a known checkpoint whose settings these weights have (`known_checkpoints()`)."""
    attention_order: AttentionOrder | None = None
    """`new` if trained with `--use_new_attention_order True`, otherwise `legacy`."""
    head_channels: int | None = None
    """Channels of an attention head (`--num_head_channels`); this or `heads`."""
    heads: int | None = None
    """Heads of every attention (`--num_heads`); this or `head_channels`."""
    schedule: ScheduleName | None = None
    """`--noise_schedule` of the training."""
    image_size: int | None = None
    """Height and width in pixels."""
    variance: Literal["fixed_small", "fixed_large"] | None = None
    """Variance of a network that has learned none: beta~ (`--sigma_small True`) or beta."""

    def __post_init__(self) -> None:
        for name in ("head_channels", "heads", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"options.{name} is {value}; allowed are numbers from 1 up; "
                    "give that of the training"
                )
        if self.head_channels is not None and self.heads is not None:
            raise ValueError(
                f"options.head_channels is {self.head_channels} and options.heads {self.heads}; "
                "one follows from the other; give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The same, with nothing left open."""

    attention_order: AttentionOrder
    head_channels: int | None
    """None where `heads` is given."""
    heads: int | None
    schedule: ScheduleName
    image_size: int
    variance: VarianceType = "fixed_small"
    """Reverse variance of a denoiser; a classifier has none."""

    def heads_of(self, width: int) -> int:
        """How many heads an attention of `width` channels has.

        Raises:
            ValueError: the channels do not divide into them.
        """
        name = "heads" if self.heads else "head_channels"
        divisor = self.heads or self.head_channels
        if not divisor or width % divisor:
            raise ValueError(
                f"{name} is {divisor}, which does not divide the {width} channels of an "
                f"attention; give the {name} of the training"
            )
        return divisor if self.heads else width // divisor


@dataclass(frozen=True, kw_only=True)
class KnownCheckpoint:
    """A public checkpoint."""

    name: str
    """What it is called here."""
    url: str
    """Where the file is."""
    licence: str = _LICENCE
    """That of the weights, as far as it is stated."""
    architecture: Architecture
    """What its tensors tell."""
    settings: CheckpointOptions
    """What they cannot tell."""
    guidance: Mapping[str, float] = field(default_factory=dict)
    """Recommended fields of `SelfGuidanceConfig`."""


_ADM_64 = Architecture(widths=(192, 384, 576, 768), blocks=3, attention=(1, 2, 3))
_NEW_64 = CheckpointOptions(
    attention_order="new", head_channels=64, schedule="cosine", image_size=64
)
_LEGACY_256 = CheckpointOptions(
    attention_order="legacy", head_channels=64, schedule="linear", image_size=256
)

KNOWN = (
    KnownCheckpoint(
        name="celeba-64",
        url="https://drive.google.com/file/d/11zaWowtEvU_rmAXnEe66x9tXzOdNbQrs",
        licence=f"{_LICENCE}; CelebA, its training data, is for non-commercial research",
        architecture=_ADM_64,
        settings=_NEW_64,
        guidance={"scale": 0.4, "every": 5, "perturb": 0.8},
    ),
    KnownCheckpoint(
        name="imagenet-64",
        url=f"{_RELEASE}/64x64_diffusion.pt",
        architecture=replace(_ADM_64, classes=1000),
        settings=_NEW_64,
        guidance={"scale": 0.2, "every": 2, "perturb": 0.8},
    ),
    KnownCheckpoint(
        name="lsun-bedroom-256",
        url=f"{_RELEASE}/lsun_bedroom.pt",
        architecture=Architecture(
            widths=(256, 256, 512, 512, 1024, 1024), blocks=2, attention=(3, 4, 5)
        ),
        settings=_LEGACY_256,
        guidance={"every": 5},
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
        settings=replace(_LEGACY_256, head_channels=None, heads=4),
    ),
    KnownCheckpoint(
        name="imagenet-64-classifier",
        url=f"{_RELEASE}/64x64_classifier.pt",
        architecture=Architecture(
            widths=(128, 256, 384, 512), blocks=4, attention=(1, 2, 3), out_channels=1000, pool=8
        ),
        settings=replace(_NEW_64, attention_order="legacy"),
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
        settings=_LEGACY_256,
    ),
)


def known_checkpoints() -> list[str]:
    """Names of the public checkpoints whose settings are known."""
    return [checkpoint.name for checkpoint in KNOWN]


def settle(
    architecture: Architecture, options: CheckpointOptions, path: Path, *, learned: bool
) -> tuple[Settings, dict[str, Any]]:
    """Complete the options of a checkpoint by what is known of it.

    Args:
        architecture: what the file's tensors tell.
        options: what the user tells; it goes before what is known.
        path: the file, for messages.
        learned: whether the network makes its variance.

    Returns:
        The settings, and what a card says of them and of the known checkpoint. Its source and its
        licence are said only if the user named it: weights built alike may be anyone's.

    Raises:
        ValueError: something remains open, or the options name another checkpoint.
    """
    known = _known(architecture, options.known, path)
    values = asdict(options) if known is None else _over(options, known.settings)
    del values["known"]
    if learned:
        values["variance"] = "learned_range"
    elif architecture.pool is not None:
        del values["variance"]
    _refuse_open(values, path)
    settings = Settings(**values)
    card: dict[str, Any] = {
        "settings": {name: value for name, value in asdict(settings).items() if value is not None}
    }
    if known is not None:
        by = "architecture" if options.known is None else "name"
        card |= {"known": known.name, "recognised_by": by, "guidance": dict(known.guidance)}
        if by == "name":
            card |= {"url": known.url, "licence": known.licence}
    return settings, card


def _known(architecture: Architecture, name: str | None, path: Path) -> KnownCheckpoint | None:
    """The known checkpoint of that name, or one built alike."""
    if name is None:
        return next((known for known in KNOWN if known.architecture == architecture), None)
    known = next((known for known in KNOWN if known.name == name), None)
    if known is None:
        raise ValueError(
            f"options.known is {name!r}; allowed are {', '.join(known_checkpoints())}; "
            "leave it out for another checkpoint"
        )
    for attribute in (f.name for f in fields(Architecture)):
        found, its = getattr(architecture, attribute), getattr(known.architecture, attribute)
        if found != its:
            raise ValueError(
                f"{path} is not built like {name}: its {attribute} is {found}, not {its}; "
                "leave options.known out"
            )
    return known


def _over(options: CheckpointOptions, others: CheckpointOptions) -> dict[str, Any]:
    """The options that are given, and the others' where they are left out."""
    given = {name: value for name, value in asdict(options).items() if value is not None}
    rest = asdict(others)
    if "heads" in given or "head_channels" in given:
        rest |= {"heads": None, "head_channels": None}
    return rest | given


def _refuse_open(values: Mapping[str, Any], path: Path) -> None:
    """Name everything that is still open at once."""
    asked = {
        "attention_order": "attention_order (new or legacy)",
        "heads": "head_channels or heads",
        "schedule": "schedule (linear or cosine)",
        "image_size": "image_size (pixels)",
        "variance": "variance (fixed_small or fixed_large)",
    }
    left = [name for name in asked if name in values and values[name] is None]
    if values["head_channels"] is not None and "heads" in left:
        left.remove("heads")
    if left:
        raise ValueError(
            f"{path} is built like no known checkpoint and its tensors cannot tell "
            f"{', '.join(asked[name] for name in left)}; give them as "
            f"CheckpointOptions({left[0]}=...), or as --options.{left[0]} of "
            "recipes/convert.py"
        )
