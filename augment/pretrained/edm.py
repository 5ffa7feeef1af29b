"""EDM's models as denoisers: pickles converted to safetensors, folders of these loaded.

    D(x; sigma) = c_skip x + c_out F(c_in x; ln(sigma) / 4)

is the estimate of the image at x = image + sigma noise. In the terms of this package x_t is
sqrt(alpha_bar) x with alpha_bar = 1 / (1 + sigma^2), and the noise prediction follows from D.
Gradients at x_t and at x are parallel, and Euler's method in sigma is DDIM.

Reference: Karras et al. 2022, table 1, https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from augment.denoiser import Denoiser, ImageFormat
from augment.files import one_line
from augment.pretrained.edm_network import Architecture, EdmUNet, architecture_of
from augment.pretrained.files import CARD, replacing, sha256_of
from augment.pretrained.parts import read_json
from augment.pretrained.pickles import Record, read_pickle, tensors_of
from augment.schedule import Schedule

__all__ = ["EDM", "convert_edm", "load_edm"]

EDM = "EDM"
"""What model_index.json calls a folder of these."""
_INDEX, _WEIGHTS = "model_index.json", "model.safetensors"
_SAMPLING = {"sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
"""As in every release of EDM."""


class _Preconditioned(nn.Module):
    """D at x_t, told sigma."""

    def __init__(self, network: EdmUNet, sigma_data: float) -> None:
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """x_t (B, C, H, W), sigma float (B,) and classes int64 (B,), to D (B, C, H, W)."""
        of_data, wide = self.sigma_data, sigma.reshape(-1, 1, 1, 1)
        both = (wide.square() + of_data**2).sqrt()
        x = x * (1 + wide.square()).sqrt()
        inner = self.network(x / both, sigma.log() / 4, labels)
        estimate: Tensor = (of_data / both) ** 2 * x + wide * of_data / both * inner
        return estimate


def load_edm(folder: Path) -> Denoiser:
    """The denoiser in a folder that `convert_edm` wrote.

    A conditional one has no null class: it was never trained without a class.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ValueError: the card and the weights make no model.
    """
    card = read_json(folder / CARD)
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is missing; give a folder of recipes/convert_edm.py")
    try:
        architecture = Architecture(**card["architecture"])
        network = EdmUNet(architecture, load_file(weights))
        sampling = {name: float(card["sampling"][name]) for name in _SAMPLING}
        schedule = Schedule.karras(
            1000, sampling["sigma_min"], sampling["sigma_max"], sampling["rho"]
        )
    except Exception as error:  # A card can be wrong in as many ways as it has values.
        raise ValueError(
            f"the card and weights in {folder} make no EDM model ({one_line(error)}); give the "
            "folder as recipes/convert_edm.py wrote it"
        ) from error
    return Denoiser(
        _Preconditioned(network, sampling["sigma_data"]),
        schedule,
        ImageFormat(channels=architecture.channels, size=architecture.size),
        prediction="sample",
        classes=architecture.classes,
        clip=False,
        card={"source": str(folder), **card, "sha256": sha256_of(weights)},
    )


def convert_edm(path: Path, folder: Path) -> dict[str, Any]:
    """Write the network in a pickle of EDM's as a folder of safetensors and a card.

    Args:
        path: the `.pkl` file; nothing in it is executed.
        folder: made if absent.

    Returns:
        The card as it is written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for more than tensors and plain containers, or holds another network.
    """
    found = read_pickle(path)
    found = found.get("ema", found) if isinstance(found, Mapping) else found
    kind = found.kind if isinstance(found, Record) else ""
    try:
        state = {_own(name): tensor for name, tensor in tensors_of(found)}
        if kind not in ("", "EDMPrecond"):
            raise ValueError(f"it is a {kind}, not an EDMPrecond")
        architecture = architecture_of(state)
        network = EdmUNet(architecture, state)
        if architecture.channels not in (1, 3):
            raise ValueError(f"its images have {architecture.channels} channels, not 1 or 3")
    except Exception as error:  # A network can be wrong in as many ways as it has tensors.
        raise ValueError(
            f"{path} holds no network that can be run ({one_line(error)}); allowed are EDM's own, "
            "DDPM++ (vp) and ADM; give such a .pkl file"
        ) from error
    card = {
        "architecture": asdict(architecture),
        "sampling": dict(_SAMPLING),
        "converted": {"from": path.name, "sha256": sha256_of(path)},
        "licence": "that of the file; NVIDIA's are CC BY-NC-SA 4.0",
    }
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with replacing(folder) as written:
        save_file(weights, written / _WEIGHTS)
        (written / _INDEX).write_text(json.dumps({"_class_name": EDM}, indent=2) + "\n")
        (written / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


def _own(name: str) -> str:
    """A tensor's name within the U-Net, which the preconditioned network calls its model."""
    return name.removeprefix("model.")
