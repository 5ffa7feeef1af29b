"""A checkpoint of ours: a folder with `card.json` and `model.safetensors`.

Neither file can execute anything: one is JSON, the other raw tensors, and the network's code is
torchvision's own or timm's, chosen by name among their classification models.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from labeling.adapters.foreign import require
from labeling.card import LabelerCard, read_card
from labeling.labeler import Labeler

__all__ = ["load_checkpoint"]

CARD, WEIGHTS = "card.json", "model.safetensors"
_TIMM = "timm/"


def load_checkpoint(folder: str | Path) -> Labeler:
    """Load a checkpoint folder.

    Args:
        folder: holds `card.json` (the fields of `LabelerCard`; further keys are left alone) and
            `model.safetensors` (state dict of `torchvision.models.get_model(architecture,
            num_classes=len(attributes))`, or of timm's network for `timm/<name>`, fp16 or fp32).

    Returns:
        The labeler in float32 on the CPU.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file cannot be read, the architecture is neither torchvision's nor timm's, or
            the weights do not fit it.
    """
    folder = Path(folder)
    missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"labeler checkpoint {folder} has no {' and no '.join(missing)}; it holds {CARD} and "
            f"{WEIGHTS}; give one that python recipes/train_labeler.py wrote"
        )
    card = read_card(folder / CARD, LabelerCard)
    network = _load_network(card, folder / WEIGHTS)
    return Labeler(
        card, network, sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    )


def _load_network(card: LabelerCard, path: Path) -> nn.Module:
    """In float32, whatever the file's precision, and with the channels last in memory, as training
    has it: on a CPU the embedded labeler then labels in .71 of the time, and as a distance of
    guidance takes .8 of it.
    """
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}); copy or write it again"
        ) from error
    _check_fit(card, state, path)
    with torch.random.fork_rng(devices=[]):  # initial weights must not move the caller's stream
        network = _network(card, path.parent)
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last)


def _network(card: LabelerCard, folder: Path) -> nn.Module:
    """With random weights."""
    outputs, name = len(card.attributes), card.architecture.removeprefix(_TIMM)
    network: nn.Module | None = None
    if card.architecture.startswith(_TIMM):
        timm = require("timm", extra="timm")
        if timm.is_model(name):
            known = timm.get_pretrained_cfg(name)
            # of ViTs and their like, the weights depend on the images' size
            fixed = {"img_size": card.image_size} if known and known.fixed_input_size else {}
            network = timm.create_model(name, num_classes=outputs, **fixed)
    elif name in torchvision.models.list_models(module=torchvision.models):
        network = torchvision.models.get_model(name, weights=None, num_classes=outputs)
    if network is None:
        raise ValueError(
            f"architecture {card.architecture!r} of {folder} is not a torchvision classification "
            "model; it has to be a name such as resnet18, of "
            "torchvision.models.list_models(module=torchvision.models), or timm/ and one of "
            "timm.list_models(); correct the card or update the library"
        )
    return network


def _check_fit(card: LabelerCard, state: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that are not the card's network, before memory is taken for that."""
    with torch.device("meta"):
        network = _network(card, path.parent)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in state.items()}
    bad = [key for key in {**wanted, **got} if wanted.get(key) != got.get(key)]
    if bad:
        has, needs = got.get(bad[0], "absent"), wanted.get(bad[0], "absent")
        raise ValueError(
            f"{len(bad)} keys of {path} do not fit the card's architecture and number of "
            f"attributes (first: {bad[0]} is {has}, by the card {needs}); use the card written "
            "with these weights"
        )
