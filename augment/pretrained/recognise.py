"""Which known checkpoint a file is, or is built like, and what it lacks of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from augment.pretrained.architecture import Architecture, infer_architecture
from augment.pretrained.cards import KNOWN, KnownCheckpoint, known_checkpoints
from augment.pretrained.layers import tensor_names
from augment.pretrained.options import CheckpointOptions

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

    settings: CheckpointOptions
    known: KnownCheckpoint | None
    by: By | None
    """How the known checkpoint was found; only by hash or name do its source and licence hold."""

    def card(self, path: Path, sha256: str) -> dict[str, Any]:
        """The card of the loaded weights."""
        settings = {k: v for k, v in asdict(self.settings).items() if v is not None}
        settings.pop("known", None)
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
    return architecture


def recognise(
    architecture: Architecture,
    sha256: str,
    options: CheckpointOptions,
    path: Path,
    needed: Iterable[str] = ("attention_order", "heads", "schedule", "image_size"),
) -> Recognised:
    """Settle what the tensors cannot tell, by the options and a known checkpoint's card.

    Raises:
        ValueError: something remains open, or the options name another checkpoint.
    """
    known, by = _known(architecture, sha256, options.known, path)
    settings = options if known is None else options.over(known.settings)
    unsettled = [name for name in needed if not _settled(settings, name)]
    if architecture.pool is None and not architecture.learned_variance and not settings.variance:
        unsettled.append("variance")
    if unsettled:
        raise ValueError(
            f"{path} is built like no known checkpoint and its tensors cannot tell "
            f"{', '.join(_ANSWERS[name] for name in unsettled)}; give them as "
            f"CheckpointOptions({unsettled[0]}=...), or --options.{unsettled[0]} of "
            "python -m augment.pretrained.convert"
        )
    return Recognised(settings, known, by)


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


def _settled(settings: CheckpointOptions, name: str) -> bool:
    if name == "heads":
        return settings.heads is not None or settings.head_channels is not None
    return getattr(settings, name) is not None


def _difference(found: Architecture, other: Architecture) -> str:
    name = next(n for n in vars(found) if getattr(found, n) != getattr(other, n))
    return f"its {name} is {getattr(found, name)}, not {getattr(other, name)}"


def _nearest(state: Mapping[str, Tensor]) -> tuple[str, set[str]]:
    """The known checkpoint that shares most names with a state dict, and its names."""
    named = {checkpoint.name: set(tensor_names(checkpoint.architecture)) for checkpoint in KNOWN}
    return max(named.items(), key=lambda c: len(c[1] & state.keys()) / len(c[1] | state.keys()))


def _listed(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)})"
