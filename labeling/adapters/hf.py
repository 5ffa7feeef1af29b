"""An image classifier of Hugging Face's transformers, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labeling.adapters.foreign import digest, require
from labeling.card import Interpolation, LabelerCard
from labeling.files import one_line
from labeling.labeler import Labeler

__all__ = ["load_hf"]

_RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def load_hf(src: str | Path) -> Labeler:
    """Load an image classifier; its `id2label` names the attributes.

    A model with `problem_type` multi_label_classification, or one output, gives each attribute its
    own probability; any other gives exclusive classes, as transformers' pipeline does. Images are
    resized as a whole, whatever margin the model's processor cuts off.

    Args:
        src: a folder that `save_pretrained` wrote, or a hub id, which is downloaded. Code that
            comes with a model is not run.

    Raises:
        ValueError: transformers is not installed, or cannot load what is there.
    """
    transformers = require("transformers", extra="hf")
    try:
        # Left out, transformers would ask at the terminal whether to run a folder's own code.
        model, processor = (
            kind.from_pretrained(str(src), trust_remote_code=False)
            for kind in (
                transformers.AutoModelForImageClassification,
                transformers.AutoImageProcessor,
            )
        )
    except Exception as error:  # a folder can be wrong in as many ways as its files have bytes
        raise ValueError(
            f"{src} is not an image classifier that transformers can load ({one_line(error)}); "
            "give a folder of save_pretrained or a hub id"
        ) from error
    config = model.config
    if config.problem_type == "regression":
        raise ValueError(f"{src} is a regression; a labeler classifies; give another model")
    exclusive = config.num_labels > 1 and config.problem_type != "multi_label_classification"
    card = LabelerCard(
        architecture=config.architectures[0] if config.architectures else config.model_type,
        attributes=[config.id2label[i] for i in range(config.num_labels)],
        thresholds={},
        source=str(src),
        licence="as the model's",
        command="",
        **_preprocessing(processor, str(src)),
    )
    return Labeler(card, _LogOdds(model, exclusive=exclusive), sha256=digest(model))


class _LogOdds(nn.Module):
    """The model's logits as log-odds (N, A), which exclusive classes have too."""

    def __init__(self, model: nn.Module, *, exclusive: bool) -> None:
        super().__init__()
        self.model = model
        self.exclusive = exclusive

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=images).logits
        return _exclusive_log_odds(logits) if self.exclusive else logits


def _exclusive_log_odds(logits: Tensor) -> Tensor:
    """Log-odds of float (N, K), K > 1: log p_k - log(1 - p_k) = z_k - logsumexp of the others.

    The others' sum is the whole less the class's own, logsumexp + log(1 - p_k), which is exact to
    rounding where p_k is at most 1/2; for the likeliest class of an image it is summed itself.
    """
    whole = logits.logsumexp(1, keepdim=True)
    top = logits.argmax(1, keepdim=True)
    others_of_top = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    p = (logits - whole).exp().scatter(1, top, 0.0)
    others = (whole + torch.log1p(-p)).scatter(1, top, others_of_top)
    return logits - others


def _preprocessing(processor: Any, src: str) -> dict[str, Any]:
    """The processor's settings in a card's terms: of images in [0, 1], square."""
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    height, width = _sides(size)
    if height is None or height != width:
        raise ValueError(
            f"{src} takes images of {size}; a labeler's are square; give another model"
        )
    unit = 255 * processor.rescale_factor if processor.do_rescale else 255.0
    mean, std = [0.0] * 3, [1.0] * 3
    if processor.do_normalize:
        mean, std = processor.image_mean, processor.image_std
    return {
        "image_size": height,
        "mean": [value / unit for value in mean],
        "std": [value / unit for value in std],
        "interpolation": _RESAMPLE.get(int(processor.resample), "bicubic"),
    }


def _sides(size: Any) -> tuple[int | None, int | None]:
    if not isinstance(size, Mapping):
        size = {name: getattr(size, name, None) for name in ("height", "width", "shortest_edge")}
    edge = size.get("shortest_edge")
    return size.get("height") or edge, size.get("width") or edge
