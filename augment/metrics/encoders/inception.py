"""The Inception network of FID (torch-fidelity's, 2015-12-05), in the variants of the literature.

    inception                    2048-d pool, clean-fid's preprocessing: FID as clean-fid's "clean"
    inception-pytorch-fid        the same features under pytorch-fid's preprocessing
    ...-6d                       the spatial features of sFID (Nash et al. 2021): 7 of the channels
                                 of mixed_6/conv, 17 x 17, so 2023 values
    ...-6e                       those one block further on, which some ports take for them

Their Frechet distance is FID for the first two and sFID for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from augment.metrics.encoder import Encoder, EncoderCard, Preprocessing
from augment.metrics.encoders.extras import require
from augment.metrics.encoders.weights import fetch, read_state

__all__ = ["VARIANTS", "inception_encoder"]

Layer = Literal["pool", "6d", "6e"]

_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SIZE = 299

_CLEAN_FID = Preprocessing(
    size=_SIZE, mean=[128 / 255] * 3, std=[128 / 255] * 3, interpolation="bicubic"
)
"""(x - 128) / 128."""
_PYTORCH_FID = Preprocessing(size=_SIZE, mean=[0.5] * 3, std=[0.5] * 3, antialias=False)
"""2x - 1, bilinear, and aliased where it shrinks."""

VARIANTS: Mapping[str, tuple[Preprocessing, Layer]] = {
    "inception": (_CLEAN_FID, "pool"),
    "inception-6d": (_CLEAN_FID, "6d"),
    "inception-6e": (_CLEAN_FID, "6e"),
    "inception-pytorch-fid": (_PYTORCH_FID, "pool"),
    "inception-pytorch-fid-6d": (_PYTORCH_FID, "6d"),
    "inception-pytorch-fid-6e": (_PYTORCH_FID, "6e"),
}

_LAYERS: Mapping[Layer, str] = {
    "pool": "global average pool, 2048",
    "6d": "Mixed_6d.branch1x1, first 7 channels",
    "6e": "Mixed_6e.branch1x1, first 7 channels",
}


class _FirstChannels(nn.Module):
    """The 7 channels that sFID takes."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :7]


def inception_encoder(name: str = "inception", weights: Path | None = None) -> Encoder:
    """A variant of FID's Inception network.

    Args:
        name: one of `VARIANTS`.
        weights: a local copy of weights-inception-2015-12-05-6726825d.pth (pytorch-fid's
            pt_inception-2015-12-05-6726825d.pth holds the same tensors); left out, torch hub's
            cache or a download.

    Raises:
        FileNotFoundError: there are no weights; the message says which and where to put them.
        ValueError: torch-fidelity is not installed, or weights of another network.
    """
    url = _library().URL_INCEPTION_V3
    preprocessing, layer = VARIANTS[name]
    path = fetch(f"encoder {name}", url, weights)
    state, sha256 = read_state(path)
    card = EncoderCard(
        name=name,
        architecture="FID's Inception, torch-fidelity",
        layer=_LAYERS[layer],
        preprocessing=preprocessing,
        sha256=sha256,
        source=url if weights is None else str(weights),
    )
    return Encoder(_up_to(layer, _network(state, path)), card)


def _library() -> Any:
    """torch-fidelity's file of the network, which only this encoder needs."""
    return require(
        "torch_fidelity.feature_extractor_inceptionv3",
        needed_by="encoders inception",
        extra="inception",
    )


def _network(state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """torch-fidelity's module, from tensors that were read without executing anything."""
    # It unpickles whatever file it is given; so it is given one of our own making.
    ours = BytesIO()
    torch.save(dict(state), ours)
    ours.seek(0)
    try:
        network: nn.Module = _library().FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=ours
        )
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds weights of another network; allowed is FID's Inception; "
            f"give the file {_FILE}"
        ) from error
    return network


def _up_to(layer: Layer, network: nn.Module) -> nn.Module:
    """The part of the network that a layer needs; its children are in the order of their calls."""
    blocks = dict(network.named_children())
    if layer == "pool":
        return nn.Sequential(*(block for name, block in blocks.items() if name != "fc"))
    names = list(blocks)
    before = names[: names.index(f"Mixed_{layer}")]
    branch = blocks[f"Mixed_{layer}"].get_submodule("branch1x1")
    return nn.Sequential(*(blocks[name] for name in before), branch, _FirstChannels())
