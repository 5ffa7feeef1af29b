"""Encoders from files of the user's: a folder with a card, or TorchScript with one beside it.

A folder holds model.safetensors and card.json, as a labeler's does, whose features are these:

    {"architecture": "resnet18", "image_size": 64, "mean": [...], "std": [...]}

with a model of torchvision's, or `timm:NAME`; further keys are `interpolation` (bicubic if left
out, as a labeler's) and `source`. Neither file can execute anything. A TorchScript file is a
program, and LOADING IT EXECUTES IT: give one only if you trust whoever made it. Its card is
FILE.json, with image_size, mean and std.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from augment.metrics.encoder import Encoder, EncoderCard, Preprocessing
from augment.metrics.encoders.classifiers import (
    PENULTIMATE,
    build,
    is_torchvision,
    timm_network,
    without_head,
)
from augment.metrics.encoders.weights import fill, read_state
from augment.pretrained.files import sha256_of

__all__ = ["embedded_encoders", "folder_encoder", "torchscript_encoder"]

CARD, WEIGHTS = "card.json", "model.safetensors"


def embedded_encoders() -> dict[str, Path]:
    """The folders of the networks that are shipped with the toolkit, by name.

    They are the labelers', found as data: none of their package's code is imported.
    """
    folder = resources.files("labeling") / "weights"
    paths = [Path(str(entry)) for entry in folder.iterdir()]
    return {path.name: path for path in sorted(paths) if (path / CARD).is_file()}


def folder_encoder(folder: Path, *, name: str | None = None) -> Encoder:
    """The network of a folder; its features are what its last linear layer is given.

    Args:
        folder: holds card.json and model.safetensors.
        name: what it is called; the folder's name if left out.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a card without what is needed, or weights of another network.
    """
    card = _read_card(folder / CARD, ("architecture", "image_size", "mean", "std"))
    state, sha256 = read_state(folder / WEIGHTS)
    architecture = str(card["architecture"])
    network = _filled(architecture, state, folder / WEIGHTS)
    return Encoder(
        network,
        EncoderCard(
            name=name or folder.name,
            architecture=architecture,
            layer=PENULTIMATE,
            preprocessing=_preprocessing(card, folder / CARD),
            sha256=sha256,
            source=str(card.get("source", folder)),
        ),
    )


def torchscript_encoder(path: Path) -> Encoder:
    """A TorchScript module, whose output are the features. LOADING IT EXECUTES THE FILE.

    Raises:
        FileNotFoundError: the file, or its card FILE.json, is missing.
        ValueError: it is no TorchScript, or a card without what is needed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a TorchScript file")
    beside = path.with_name(f"{path.name}.json")
    card = _read_card(beside, ("image_size", "mean", "std"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has TorchScript down as deprecated
            load: Callable[..., nn.Module] = torch.jit.load
            network = load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"{path} is no TorchScript file; weights alone go into a folder with {CARD} and "
            f"{WEIGHTS}; save the module by torch.jit.script"
        ) from error
    return Encoder(
        network,
        EncoderCard(
            name=path.stem,
            architecture="TorchScript",
            layer="output",
            preprocessing=_preprocessing(card, beside),
            sha256=sha256_of(path),
            source=str(card.get("source", path)),
        ),
    )


def _filled(architecture: str, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network with these weights and without its head."""
    if architecture.startswith("timm:"):
        return timm_network(architecture.removeprefix("timm:"), state, path)
    if not is_torchvision(architecture):
        raise ValueError(
            f"architecture {architecture!r} of {path.parent} is unknown; allowed are torchvision's "
            "classification models, such as resnet18, and timm:NAME; correct the card"
        )
    matrices = [value for value in state.values() if value.ndim == 2]
    network = build(architecture, classes=len(matrices[-1]) if matrices else 1000)
    fill(network, state, path, architecture)
    return without_head(network, architecture)


def _preprocessing(card: Mapping[str, Any], path: Path) -> Preprocessing:
    try:
        return Preprocessing(
            size=card["image_size"],
            mean=card["mean"],
            std=card["std"],
            interpolation=card.get("interpolation", "bicubic"),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_card(path: Path, needed: tuple[str, ...]) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; an encoder's card says {', '.join(needed)}; write it"
        )
    try:
        card: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # covers bad JSON and bad UTF-8
        raise ValueError(f"{path} is not JSON ({error}); write the card again") from error
    if not isinstance(card, dict) or (missing := [key for key in needed if key not in card]):
        lacks = ", ".join(missing) if isinstance(card, dict) else "an object"
        raise ValueError(f"{path} lacks {lacks}; a card has {', '.join(needed)}; add it")
    return card
