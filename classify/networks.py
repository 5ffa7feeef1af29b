"""Classification networks by name: torchvision's, and timm's as `timm/<name>`; pretrained weights
from a local file.

Nothing that is loaded is executed: safetensors, or torch's files of tensors alone.
"""

from __future__ import annotations

import importlib
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import list_models

from classify.layers import head
from classify.names import one_of

__all__ = ["build", "check", "load_pretrained", "normalisation"]

_TIMM = "timm/"
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(architecture: str, outputs: int, size: int) -> nn.Module:
    """A network with random weights, from torch's global generator.

    Args:
        architecture: Checked by `check`.
        outputs: Logits per image.
        size: Side of the images in pixels; matters to networks that fix it, such as timm's ViTs.
    """
    network: nn.Module
    if architecture.startswith(_TIMM):
        timm, name = _timm(), architecture.removeprefix(_TIMM)
        known = timm.get_pretrained_cfg(name)
        fixed = {"img_size": size} if known is not None and known.fixed_input_size else {}
        network = timm.create_model(name, num_classes=outputs, **fixed)
    else:
        network = torchvision.models.get_model(architecture, num_classes=outputs)
    return network


def check(architecture: str, size: int) -> None:
    """Refuse what is no network, or none for images of the size; one line, a ValueError."""
    if architecture.startswith(_TIMM):
        name = architecture.removeprefix(_TIMM)
        if not _timm().is_model(name):
            raise ValueError(
                f"architecture is {architecture!r}, no network of timm; "
                f"{one_of(name, _timm().list_models())}"
            )
    elif architecture not in (known := list_models(torchvision.models)):
        raise ValueError(
            f"architecture is {architecture!r}, no classification network of torchvision.models; "
            f"{one_of(architecture, known)}; timm's are written timm/<name>"
        )
    if not _takes(architecture, size):
        raise ValueError(
            f"architecture is {architecture}, which does not take images of {size} pixels; give "
            "one that does, such as resnet18, or another image_size"
        )


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images in [0, 1], that it was pretrained
    with: ImageNet's, but for some of timm's.
    """
    known: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    mean, std = _IMAGENET
    return tuple(known.get("mean") or mean), tuple(known.get("std") or std)


def load_pretrained(network: nn.Module, file: Path) -> None:
    """Take the weights in a file, of the same network, all but the last layer's.

    Args:
        network: Of `build`; changed in place.
        file: A state dict, `.safetensors` or torch's, as torchvision and timm distribute them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds other things than tensors, or not those of this network.
    """
    own, state = network.state_dict(), _tensors(file)
    last = {id(value) for value in head(network).state_dict(keep_vars=True).values()}
    kept = {k for k, value in network.state_dict(keep_vars=True).items() if id(value) not in last}
    for name in sorted(kept):
        if name not in state or state[name].shape != own[name].shape:
            has = tuple(state[name].shape) if name in state else "absent"
            raise ValueError(
                f"weights {file} are of another network or size: {name} is {has}, here "
                f"{tuple(own[name].shape)}; give a file of this architecture and image_size"
            )
    network.load_state_dict({**own, **{name: state[name] for name in kept}})


def _tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"weights {file} are no file; give a local .safetensors or .pth")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state.get("model", state))
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, AttributeError, EOFError) as e:
        raise ValueError(
            f"weights {file} are no file of tensors alone ({str(e).splitlines()[0][:120]}); give "
            "a .safetensors file, or a state dict that torch saved"
        ) from e


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(
            f"timm cannot be imported ({error}); install it with: pip install '.[timm]'"
        ) from error


@cache
def _takes(architecture: str, size: int) -> bool:
    """Whether the network gives one output for images of the size, tried without computing."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about how some networks are initialised
        try:
            network = build(architecture, 1, size)
        except Exception:  # one that computes while it is built cannot be tried
            return True
        try:
            return isinstance(network(torch.empty(2, 3, size, size)), torch.Tensor)
        except Exception:  # each network says in its own way what it does not take
            return False
