"""Files of weights: found before any work starts, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from augment.pretrained.files import read_tensors, sha256_of

__all__ = ["fetch", "fill", "read_state"]


def fetch(needs: str, url: str, given: Path | None) -> Path:
    """The local file of published weights: the given one, torch hub's cached one, or a download.

    Args:
        needs: who needs it, for the message.
        url: where it is published; the first digits of its hash stand in its name.
        given: the user's own copy.

    Raises:
        FileNotFoundError: the given file is missing, or there is neither a copy nor a connection.
    """
    name = url.rsplit("/", 1)[-1]
    if given is not None:
        if not given.is_file():
            raise FileNotFoundError(f"weights {given} are missing; {needs} needs the file {name}")
        return given
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=_hash_prefix(name))
    except (OSError, RuntimeError) as error:  # No connection; a hash that does not fit.
        raise FileNotFoundError(
            f"{needs} needs {name}, which is not on this machine and could not be downloaded; "
            f"put it at {cached}, or give its path by --weights"
        ) from error
    return cached


def read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a .safetensors file or of torch's state dict, and the file's sha256.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else.
    """
    if path.suffix != ".safetensors":
        return read_tensors(path), sha256_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a .safetensors file of weights")
    try:
        return load_file(path), sha256_of(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}); copy or write it again"
        ) from error


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Load a state dict whose names and shapes have to be the network's.

    Raises:
        ValueError: they are not.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if bad := [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]:
        raise ValueError(
            f"{len(bad)} tensors of {path} do not fit {architecture} (first: {bad[0]} is "
            f"{found.get(bad[0], 'absent')}, expected {wanted.get(bad[0], 'nothing')}); "
            "give the weights of that network"
        )
    network.load_state_dict(state)


def _hash_prefix(name: str) -> str | None:
    """The digits at the end of torchvision's file names, if they are there: resnet50-0676ba61.pth.

    A name like inception's, that ends in a date and digits, has them too.
    """
    digits = name.rsplit(".", 1)[0].rsplit("-", 1)[-1]
    is_hash = len(digits) >= 8 and all(digit in "0123456789abcdef" for digit in digits)
    return digits if is_hash else None
