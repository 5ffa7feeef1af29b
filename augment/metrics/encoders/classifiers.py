"""Classifiers of torchvision and timm as encoders: what their last linear layer would be given.

That is the 2048-d global average pool of a ResNet-50, and of VGG-16 the second fully connected
layer after its ReLU, as the official code of improved precision and recall takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from augment.metrics.encoder import Encoder, EncoderCard, Preprocessing
from augment.metrics.encoders.extras import require
from augment.metrics.encoders.weights import fetch, fill, read_state
from augment.state_hash import state_sha256

__all__ = [
    "build",
    "is_torchvision",
    "timm_encoder",
    "timm_network",
    "torchvision_encoder",
    "without_head",
]

PENULTIMATE = "input of the last linear layer"

_PAPERS = {"resnet50": "IMAGENET1K_V1", "vgg16": "IMAGENET1K_V1"}
"""Weights other than torchvision's best: those of the literature's figures."""


def is_torchvision(name: str) -> bool:
    """Whether torchvision has a classification model of that name."""
    return name in torchvision.models.list_models(module=torchvision.models)


def torchvision_encoder(name: str, weights: Path | None = None) -> Encoder:
    """A model of torchvision with its ImageNet weights.

    Images are resized to the model's square, whole (its own recipe crops); VGG-16's bicubic, as in
    that official code.

    Args:
        name: such as resnet50.
        weights: a local copy of the file; left out, torch hub's cache or a download.

    Raises:
        FileNotFoundError: there are no weights; the message says which and where to put them.
        ValueError: weights of another network.
    """
    published = torchvision.models.get_model_weights(name)
    chosen = published[_PAPERS.get(name, "DEFAULT")]
    path = fetch(f"encoder {name}", chosen.url, weights)
    state, sha256 = read_state(path)
    network = build(name, classes=len(chosen.meta["categories"]))
    fill(network, state, path, name)
    recipe = chosen.transforms()
    preprocessing = Preprocessing(
        size=recipe.crop_size[0],
        mean=recipe.mean,
        std=recipe.std,
        interpolation="bicubic" if name == "vgg16" else recipe.interpolation.value,
    )
    card = EncoderCard(
        name=name,
        architecture=name,
        layer=PENULTIMATE,
        preprocessing=preprocessing,
        sha256=sha256,
        source=f"torchvision, {chosen.name if weights is None else weights}",
    )
    return Encoder(without_head(network, name), card)


def timm_encoder(name: str, weights: Path | None = None) -> Encoder:
    """A model of timm (the extra `timm`) with its pretrained weights; its pooled features.

    Args:
        name: timm's own, such as vit_small_patch14_dinov2.
        weights: a local copy of its weights, with or without the head; left out, timm fetches them
            from the hub into its own cache.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: timm is not installed, does not know the name, or weights of another network.
    """
    timm = _timm(name)
    if weights is None:
        network = _timm_download(timm, name)
        sha256 = state_sha256(network.state_dict())
    else:
        state, sha256 = read_state(weights)
        network = timm_network(name, state, weights)
    recipe = timm.data.resolve_model_data_config(network)
    preprocessing = Preprocessing(
        size=recipe["input_size"][-1],
        mean=recipe["mean"],
        std=recipe["std"],
        interpolation="bilinear" if recipe["interpolation"] == "bilinear" else "bicubic",
    )
    card = EncoderCard(
        name=f"timm:{name}",
        architecture=f"timm {name}",
        layer="pooled features",
        preprocessing=preprocessing,
        sha256=sha256,
        source="timm" if weights is None else str(weights),
    )
    return Encoder(network, card)


def timm_network(name: str, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A model of timm without its head, from weights with or without one."""
    timm = _timm(name)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(name, num_classes=0)
    head = f"{network.pretrained_cfg['classifier']}."  # type: ignore[index]
    fill(network, {k: v for k, v in state.items() if not k.startswith(head)}, path, f"timm {name}")
    return network


def build(name: str, *, classes: int) -> nn.Module:
    """A model of torchvision with random weights."""
    # Those that Inception and GoogLeNet would draw take a minute, and warn.
    extra: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        extra = {"init_weights": False, "transform_input": True, "aux_logits": True}
    with torch.random.fork_rng(devices=[]):  # the caller's stream stays where it is
        network: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **extra
        )
    return network


def without_head(network: nn.Module, name: str) -> nn.Module:
    """The network with its last linear layer taken out.

    Raises:
        ValueError: it has none.
    """
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{name} has no linear layer to take the features before; "
            "allowed are networks that end in one; give another"
        )
    parent, _, last = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network


def _timm(name: str) -> Any:
    """The package, if it is there and has a model of that name."""
    timm = require("timm", needed_by="encoders timm:NAME", extra="timm")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name}; see timm.list_models(); give one of those")
    return timm


def _timm_download(timm: Any, name: str) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # The hub client raises many kinds; all mean the same to the user.
        reason = " ".join(str(error).split())[:120]
        raise FileNotFoundError(
            f"encoder timm:{name} needs its weights, which the hub did not give ({reason}); "
            "download them elsewhere and give their path by --weights"
        ) from error
    return network
