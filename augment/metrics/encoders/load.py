"""From what a user has, a name or a path, to an encoder."""

from __future__ import annotations

from pathlib import Path

from augment.metrics.encoder import Encoder
from augment.metrics.encoders.classifiers import (
    is_torchvision,
    timm_encoder,
    torchvision_encoder,
)
from augment.metrics.encoders.files import (
    embedded_encoders,
    folder_encoder,
    torchscript_encoder,
)
from augment.metrics.encoders.inception import VARIANTS, inception_encoder

__all__ = ["load_encoder"]


def load_encoder(source: str | Path, *, weights: Path | None = None) -> Encoder:
    """Load an encoder; whatever it lacks is said now, before any work.

    Args:
        source: an embedded name (avatars: no download), `resnet50` (2048-d pool), `vgg16` (fc2),
            `inception` and its variants, any other classification model of torchvision,
            `timm:NAME`, a folder with card.json and model.safetensors, or a TorchScript file
            (.pt, .ts), which is EXECUTED by being loaded.
        weights: a local file for a published network's weights.

    Raises:
        FileNotFoundError: none of these, or weights that are not on this machine and cannot be
            downloaded; the message says which file, and where to put it.
        ValueError: weights of another network, or given where the source has its own.
    """
    name, path = str(source), Path(source).expanduser()
    embedded = embedded_encoders()
    if name.startswith("timm:"):
        return timm_encoder(name.removeprefix("timm:"), weights)
    if name in VARIANTS:
        return inception_encoder(name, weights)
    if is_torchvision(name):
        return torchvision_encoder(name, weights)
    if weights is not None:
        raise ValueError(
            f"weights are given with the encoder {name}; allowed for published networks, such as "
            "resnet50, alone; leave them out"
        )
    if name in embedded:
        return folder_encoder(embedded[name], name=name)
    if path.is_dir():
        return folder_encoder(path)
    if path.suffix in (".pt", ".ts"):
        return torchscript_encoder(path)
    raise FileNotFoundError(
        f"encoder {name!r} is no folder or file; give {', '.join(embedded)}, resnet50, vgg16, "
        "inception, another model of torchvision, timm:NAME, a folder with card.json and "
        "model.safetensors, or a TorchScript file"
    )
