"""What the tensors of a guided-diffusion checkpoint cannot tell about it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from augment.denoiser import VarianceType
from augment.pretrained.layers import AttentionOrder

__all__ = ["CheckpointOptions", "ScheduleName", "Settings"]

ScheduleName = Literal["linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """What the tensors cannot tell; all of it is known of a known checkpoint.

    A setting left out is that of the known checkpoint the file is or is built like; one given here
    goes before it. The noise schedule has 1,000 steps and the network predicts the noise, as in
    every release of guided-diffusion.
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
    """Of a network without learned variance: beta~ (`--sigma_small True`) or beta."""

    def __post_init__(self) -> None:
        for name in ("head_channels", "heads", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"options.{name} is {value}; allowed are numbers from 1 up")
        if self.head_channels is not None and self.heads is not None:
            raise ValueError(
                f"options.head_channels is {self.head_channels} and options.heads {self.heads}; "
                "one follows from the other; give one of them"
            )

    def over(self, other: CheckpointOptions) -> CheckpointOptions:
        """These settings, and the other's where these are left out."""
        given = {
            f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None
        }
        shared = {f.name: getattr(other, f.name) for f in fields(other)}
        if "heads" in given or "head_channels" in given:
            shared |= {"heads": None, "head_channels": None}
        return CheckpointOptions(**(shared | given))


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
    """Of a denoiser; a classifier has none."""

    def heads_of(self, width: int) -> int:
        """How many heads an attention of `width` channels has.

        Raises:
            ValueError: the channels do not divide into them.
        """
        name, divisor = (
            ("heads", self.heads) if self.heads else ("head_channels", self.head_channels)
        )
        if not divisor or width % divisor:
            raise ValueError(
                f"{name} is {divisor}, which does not divide the {width} channels of an "
                f"attention; give the {name} of the training"
            )
        return divisor if self.heads else width // divisor
