"""Zero-shot labels by CLIP (Radford et al., 2021), through open_clip, from prompts in a file.

An attribute has prompts that say it is there and prompts that say it is not; its probability is the
softmax over the two, that is the sigmoid of the difference of the two similarities:

    model: ViT-B-32                # open_clip's name, hf-hub:ID or local-dir:FOLDER
    pretrained: laion2b_s34b_b79k  # open_clip's tag or a file; none for hf-hub and local-dir
    prompts:
      Bald:
        positive: [a photo of a bald person]
        negative: [a photo of a person with hair]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from labeling.adapters.foreign import digest, require
from labeling.card import LabelerCard
from labeling.files import one_line
from labeling.labeler import Labeler

__all__ = ["load_clip"]

_KEYS = {"model", "pretrained", "prompts", "thresholds", "licence"}
_SIDES = ("positive", "negative")


def load_clip(path: str | Path) -> Labeler:
    """Load a zero-shot labeler.

    Args:
        path: a YAML or JSON file with `model`, `prompts` and, as wanted, `pretrained`, `thresholds`
            (attribute -> number) and `licence`. Weights that open_clip does not have yet are
            downloaded.

    Raises:
        ValueError: open_clip is not installed, the file is not as above, or the model cannot be
            loaded.
    """
    path = Path(path)
    wanted = _read(path)
    open_clip = require("open_clip", extra="clip")
    name = wanted["model"]
    try:
        model = open_clip.create_model(
            name, pretrained=wanted.get("pretrained"), require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # as many kinds as there are ways to store weights
        raise ValueError(
            f"{path}: open_clip cannot load {name!r} ({one_line(error)}); give a model and a tag "
            "of open_clip.list_pretrained()"
        ) from error
    seen = model.visual.preprocess_cfg
    size = seen["size"]
    card = LabelerCard(
        architecture=name,
        attributes=list(wanted["prompts"]),
        image_size=size if isinstance(size, int) else size[0],
        mean=seen["mean"],
        std=seen["std"],
        interpolation=seen.get("interpolation", "bicubic"),
        thresholds=wanted.get("thresholds") or {},
        source=f"prompts of {path.name}, weights {wanted.get('pretrained') or name}",
        licence=wanted.get("licence", "as the model's"),
        command="",
    )
    network = _ZeroShot(model.eval(), tokenizer, wanted["prompts"])
    return Labeler(card, network, sha256=digest(network))


class _ZeroShot(nn.Module):
    """Images (N, 3, S, S) -> log-odds (N, A); the text tower is used once and dropped."""

    directions: Tensor

    def __init__(self, model: Any, tokenizer: Any, prompts: Mapping[str, Any]) -> None:
        super().__init__()
        self.visual = model.visual
        with torch.no_grad():
            sides = [
                torch.stack([_embed(model, tokenizer, texts[side]) for texts in prompts.values()])
                for side in _SIDES
            ]
            scale = model.logit_scale.detach().exp()
        self.register_buffer("directions", scale * (sides[0] - sides[1]))

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.visual(images), dim=-1) @ self.directions.T


def _embed(model: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """Unit vector (D,): the mean of the texts' unit vectors, as CLIP's prompt ensembles are."""
    features: Tensor = model.encode_text(tokenizer(texts), normalize=True)
    return F.normalize(features.mean(0), dim=0)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # reads JSON too
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{path} is not YAML or JSON ({one_line(error)}); correct it") from error
    if not isinstance(content, dict) or not {"model", "prompts"} <= content.keys() <= _KEYS:
        got = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ValueError(
            f"{path} has {got[:80]}; zero-shot prompts have model, prompts and perhaps pretrained, "
            "thresholds, licence; correct it"
        )
    prompts = content["prompts"]
    for name, sides in prompts.items() if isinstance(prompts, dict) else [("prompts", None)]:
        if not isinstance(sides, dict) or any(not _are_texts(sides.get(side)) for side in _SIDES):
            raise ValueError(
                f"{path}: the prompts of {name!r} are {sides!r}; they have to be positive and "
                "negative, each a list of texts; correct it"
            )
    return content


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
