"""Classifiers of noised images of our own training: safetensors and a card, in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from augment.atomic import write_bytes
from augment.pretrained.architecture import Architecture
from augment.pretrained.files import sha256_of
from augment.pretrained.noised_classifier import NoisedClassifier
from augment.pretrained.options import Settings

__all__ = ["load_classifier_folder", "save_classifier_folder"]

_WEIGHTS = "model.safetensors"
_CARD = "card.json"


def save_classifier_folder(
    classifier: NoisedClassifier, folder: Path, *, card: Mapping[str, Any]
) -> None:
    """Write a classifier's weights and card; those of an earlier one in the folder are replaced.

    Args:
        classifier: left as it is.
        folder: made if absent.
        card: where the weights came from, and what their classes mean.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "architecture": asdict(classifier.architecture),
        "settings": asdict(classifier.settings),
        **card,
    }
    weights = {k: v.contiguous() for k, v in classifier.state_dict().items()}
    write_bytes(folder / _WEIGHTS, save(weights))
    write_bytes(folder / _CARD, (json.dumps(written, indent=2, default=str) + "\n").encode())


def load_classifier_folder(folder: Path) -> NoisedClassifier:
    """The classifier in a folder, frozen, in evaluation mode.

    Raises:
        FileNotFoundError: its weights or its card are missing.
        ValueError: they do not fit each other, or are none.
    """
    for name in (_CARD, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing; give a folder of augment.train_classifier, or a "
                "guided-diffusion .pt file"
            )
    try:
        card = dict(json.loads((folder / _CARD).read_text()))
        known = {key: _tuples(card[key]) for key in ("architecture", "settings")}
        classifier = NoisedClassifier(
            Architecture(**known["architecture"]),
            Settings(**known["settings"]),
            {"source": str(folder), **card, "sha256": sha256_of(folder / _WEIGHTS)},
        )
        classifier.load_state_dict(load_file(folder / _WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the card and weights in {folder} make no classifier ({reason}); "
            "give the folder as it was saved"
        ) from error
    return classifier.eval().requires_grad_(False)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON made of a dataclass's tuples, made tuples again."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
