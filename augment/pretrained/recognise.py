"""Which known checkpoint a file is, or is built like, and what it lacks of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from augment.pretrained.architecture import (
    Architecture,
    OpenArchitectureError,
    infer_architecture,
)
from augment.pretrained.cards import KNOWN, KnownCheckpoint, known_checkpoints
from augment.pretrained.layers import tensor_names
from augment.pretrained.options import CheckpointOptions, Settings

__all__ = ["Recognised", "read_architecture", "recognise"]

By = Literal["sha256", "name", "architecture"]

_ANSWERS = {
    "attention_order": "attention_order (new or legacy)",
    "heads": "head_channels or heads",
    "schedule": "schedule (linear or cosine)",
    "image_size": "image_size (pixels)",
    "variance": "variance (fixed_small or fixed_large)",
}


@dataclass(frozen=True)
class Recognised:
    """A checkpoint's settings, complete, and where they are from."""

    settings: Settings
    known: KnownCheckpoint | None
    by: By | None
    """How the known checkpoint was found; only by hash or name do its source and licence hold."""

    def card(self, path: Path, sha256: str) -> dict[str, Any]:
        """The card of the loaded weights."""
        settings = {name: v for name, v in asdict(self.settings).items() if v is not None}
        card: dict[str, Any] = {"source": str(path), "sha256": sha256, "settings": settings}
        if self.known is None:
            return card
        card |= {"known": self.known.name, "recognised_by": self.by}
        card |= {"guidance": dict(self.known.guidance)}
        if self.by != "architecture":
            card |= {"url": self.known.url, "licence": self.known.licence}
        return card


def read_architecture(
    state: Mapping[str, Tensor], path: Path, image_size: int | None
) -> Architecture:
    """The architecture of a state dict that has every tensor of it, and no other.

    Raises:
        ValueError: it is none of guided-diffusion's, or tensors are missing or too many.
    """
    try:
        architecture = infer_architecture(state, image_size=image_size)
    except OpenArchitectureError as error:
        raise ValueError(f"{path} is open: {error}") from error
    except ValueError as error:
        nearest, names = _nearest(state)
        raise ValueError(
            f"{path} holds no whole network of guided-diffusion ({error}): "
            f"{_listed(names - state.keys(), 'missing')} of the {len(names)} tensors of the "
            f"nearest known one, {nearest}; give a checkpoint of guided-diffusion"
        ) from error
    expected = tensor_names(architecture).keys()
    if missing := expected - state.keys():
        raise ValueError(
            f"{path} is not complete: {_listed(missing, 'missing')}, of {len(expected)} tensors; "
            f"the nearest known checkpoint is {_nearest(state)[0]}; give the whole file"
        )
    if unknown := state.keys() - expected:
        raise ValueError(
            f"{path} has tensors that guided-diffusion's networks do not: "
            f"{_listed(unknown, 'unknown')}; the nearest known checkpoint is "
            f"{_nearest(state)[0]}; give a checkpoint of guided-diffusion"
        )
    _check_channels(architecture, path)
    return architecture


def _check_channels(architecture: Architecture, path: Path) -> None:
    channels, outputs = architecture.channels, architecture.out_channels
    if channels not in (1, 3):
        raise ValueError(
            f"{path} takes {channels} channels; allowed are 1 (grey) and 3 (RGB) pixels, or twice "
            "as many in an upsampler; a latent model does not fit"
        )
    if architecture.pool is None and outputs not in (channels, 2 * channels):
        raise ValueError(
            f"{path} makes {outputs} channels of {channels}; allowed are {channels}, or "
            f"{2 * channels} with learned variance; give such a model"
        )


def recognise(
    architecture: Architecture, sha256: str, options: CheckpointOptions, path: Path
) -> Recognised:
    """Settle what the tensors cannot tell, by the options and a known checkpoint's card.

    Raises:
        ValueError: something remains open, or the options name another checkpoint.
    """
    known, by = _known(architecture, sha256, options.known, path)
    given = options if known is None else options.over(known.settings)
    values = {field.name: getattr(given, field.name) for field in fields(Settings)}
    if architecture.learned_variance:
        values["variance"] = "learned_range"
    elif architecture.pool is not None:
        del values["variance"]
    _check_settled(values, path)
    return Recognised(Settings(**values), known, by)


def _check_settled(values: Mapping[str, Any], path: Path) -> None:
    """Name everything that is still open at once."""
    open_ones = {name for name, value in values.items() if value is None}
    if open_ones >= {"heads", "head_channels"}:
        open_ones.remove("head_channels")
    else:
        open_ones -= {"heads", "head_channels"}
    if asked := [name for name in _ANSWERS if name in open_ones]:
        raise ValueError(
            f"{path} is built like no known checkpoint and its tensors cannot tell "
            f"{', '.join(_ANSWERS[name] for name in asked)}; give them as "
            f"CheckpointOptions({asked[0]}=...), or --options.{asked[0]} of "
            "python -m augment.pretrained.convert"
        )


def _known(
    architecture: Architecture, sha256: str, name: str | None, path: Path
) -> tuple[KnownCheckpoint | None, By | None]:
    if name is not None:
        named = {checkpoint.name: checkpoint for checkpoint in KNOWN}.get(name)
        if named is None:
            raise ValueError(
                f"options.known is {name!r}; allowed are {', '.join(known_checkpoints())}; "
                "leave it out for another checkpoint"
            )
        if named.architecture != architecture:
            raise ValueError(
                f"{path} is not built like {name}: {_difference(architecture, named.architecture)};"
                " leave options.known out"
            )
        return named, "name"
    for checkpoint in KNOWN:
        if checkpoint.sha256 == sha256:
            return checkpoint, "sha256"
    for checkpoint in KNOWN:
        if checkpoint.architecture == architecture:
            return checkpoint, "architecture"
    return None, None


def _difference(found: Architecture, other: Architecture) -> str:
    name = next(n for n in vars(found) if getattr(found, n) != getattr(other, n))
    return f"its {name} is {getattr(found, name)}, not {getattr(other, name)}"


def _nearest(state: Mapping[str, Tensor]) -> tuple[str, set[str]]:
    """The known checkpoint that shares most names with a state dict, and its names."""
    named = {checkpoint.name: set(tensor_names(checkpoint.architecture)) for checkpoint in KNOWN}
    return max(named.items(), key=lambda c: len(c[1] & state.keys()) / len(c[1] | state.keys()))


def _listed(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"
