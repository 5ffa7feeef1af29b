"""Pickles of NVIDIA's generators, read without executing anything of them.

Such a file carries the source of its classes, which their own loader runs. Here an object becomes
its attributes by name, its class a word; tensors and plain containers are read, and a file that
asks for anything else is refused with its name.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from augment.files import one_line

__all__ = ["Record", "read_pickle", "tensors_of"]


class Record:
    """An object of a pickle that was not made: the name of its class, and its attributes."""

    def __init__(self, kind: str = "", attributes: Mapping[str, Any] | None = None) -> None:
        self.kind, self.attributes = kind, dict(attributes or {})

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.kind, self.attributes = "", dict(state)


class _Names(dict[str, Any]):
    """A dictionary whose items the pickle may set as attributes."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.update(state)


def _persistent(meta: Mapping[str, Any]) -> Record:
    """NVIDIA's form of an object: its class's name, its source, which is dropped, and its state."""
    return Record(str(meta.get("class_name", "")), meta.get("state") or {})


def _storage(content: bytes) -> Any:
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(found, torch.storage.TypedStorage):
        raise ValueError(f"a {type(found).__name__} in place of a tensor's storage")
    return found


def _tensor(storage: Any, offset: int, size: Sequence[int], *others: Any) -> Tensor:
    """One number, repeated without end, would fill any memory when it is copied."""
    if math.prod(size) * storage.dtype.itemsize > storage._untyped_storage.nbytes():
        raise ValueError("a tensor, not all of whose elements are in the file")
    rebuilt: Any = torch._utils._rebuild_tensor_v2  # hardly typed
    tensor: Tensor = rebuilt(storage, offset, size, *others)
    return tensor


def _parameter(data: Tensor, *_others: Any) -> Tensor:
    return data


class _Unused:
    """What stands for a number of NumPy's, its type, or a device: of none is a tensor made."""

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


_READ: Mapping[str, Any] = {
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": _Names,
    "numpy.dtype": _Unused,
    "numpy.core.multiarray.scalar": _Unused,
    "numpy._core.multiarray.scalar": _Unused,
    "torch.Size": tuple,
    "torch.device": _Unused,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.nn.modules.container.ModuleDict": Record,
    "torch.nn.modules.container.ModuleList": Record,
    "torch.nn.modules.container.Sequential": Record,
    "torch.storage._load_from_bytes": _storage,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    **{f"torch.{name}": getattr(torch, name) for name in ("float16", "float32", "float64")},
}
"""What a pickle may name, and what is done in its place."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] | None = _READ.get(f"{module}.{name}")
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")


class _Refused(Exception):  # noqa: N818 - becomes a ValueError with the file's name
    """The pickle asks for something that is neither a tensor nor a plain container."""


def read_pickle(path: Path) -> Any:
    """What a pickle holds: tensors, numbers, words, containers, and `Record`s of them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no pickle, or names something else, which would have to be executed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the .pkl file of a network")
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except _Refused as refused:
        raise ValueError(
            f"{path} asks for {refused}; allowed are tensors and plain containers, for the rest "
            "would be executed; give the file as its authors published it"
        ) from refused
    except Exception as error:  # The unpickler raises anything when the bytes are no pickle.
        raise ValueError(
            f"{path} is no pickle that can be read ({one_line(error)}); give the .pkl file as it "
            "was downloaded"
        ) from error


def tensors_of(found: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a pickle holds, in its order, by dotted names as of a state dict."""
    if isinstance(found, Tensor):
        yield prefix, found
        return
    inside: Mapping[Any, Any] = {}
    if isinstance(found, Record):
        groups = (found.attributes.get(f"_{name}") for name in ("parameters", "buffers", "modules"))
        for group in groups:
            yield from tensors_of(group, prefix)
    elif isinstance(found, Mapping):
        inside = found
    elif isinstance(found, (list, tuple)):
        inside = dict(enumerate(found))
    for name, value in inside.items():
        yield from tensors_of(value, f"{prefix}.{name}" if prefix else str(name))
