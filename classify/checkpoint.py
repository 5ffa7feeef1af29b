"""The toolkit's checkpoint of a classifier: a folder with `model.safetensors` and `card.json`,
which labelers are loaded from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from safetensors.torch import save

from classify.files import write_bytes, write_text
from classify.metrics import MEANS
from classify.model import AttributeClassifier


def save_checkpoint(
    folder: Path,
    module: AttributeClassifier,
    *,
    source: str,
    licence: str,
    command: str,
    thresholds: Mapping[str, float] | None = None,
    scores: pd.DataFrame | None = None,
    half: bool = False,
) -> None:
    """Write the network's weights and its card.

    Args:
        folder: Made if it is not there; must not hold a checkpoint.
        module: The trained classifier.
        source: The data it was trained on.
        licence: Of the weights.
        command: What made it.
        thresholds: Probability from which on an attribute is predicted; 0.5 where none is given.
        scores: Tidy rows of `attribute_scores`, one split.
        half: Store float16, half the size.

    Raises:
        ValueError: The folder holds a checkpoint, or the classifier was trained with a margin.
    """
    if module.config.loss.margin:
        raise ValueError(
            f"loss.margin is {module.config.loss.margin}, under which logits are cosines; a "
            "checkpoint holds torchvision's network as it is: give 0"
        )
    if (folder / "card.json").exists():
        raise ValueError(f"{folder} holds a checkpoint; it is not overwritten; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous()
        for name, value in module.network.state_dict().items()
    }
    card = {
        "architecture": module.config.architecture,
        "attributes": list(module.attributes),
        "image_size": module.config.image_size,
        "mean": [round(value, 6) for value in module.mean.flatten().tolist()],
        "std": [round(value, 6) for value in module.std.flatten().tolist()],
        "thresholds": {
            name: float((thresholds or {}).get(name, 0.5)) for name in module.attributes
        },
        "source": source,
        "licence": licence,
        "command": command,
        "scores": None if scores is None else _by_attribute(scores),
    }
    write_bytes(folder / "model.safetensors", save(weights))
    # The card last, for it means that the checkpoint is whole.
    write_text(folder / "card.json", json.dumps(card, indent=1))


def _by_attribute(scores: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Attribute -> metric -> value; null where it could not be judged (JSON has no NaN)."""
    rows = scores[~scores["attribute"].isin(MEANS)]
    columns = (rows[name].tolist() for name in ("attribute", "metric", "value"))
    by_attribute: dict[str, dict[str, float | None]] = {}
    for attribute, metric, value in zip(*columns, strict=True):
        told = None if math.isnan(value) else round(value, 4)
        by_attribute.setdefault(attribute, {})[metric] = told
    return by_attribute
