"""Encoders by family: published networks, a folder with a card, a TorchScript file.

A classifier of torchvision or timm gives what its last linear layer would be given: the 2048-d
global average pool of a ResNet-50, and of VGG-16 the second fully connected layer after its ReLU
(as the official code of improved precision and recall does). FID's Inception has the variants

    inception                    2048-d pool, clean-fid's preprocessing: FID as clean-fid's "clean"
    inception-pytorch-fid        the same features under pytorch-fid's preprocessing
    ...-6d                       the spatial features of sFID (Nash et al. 2021): 7 of the channels
                                 of mixed_6/conv, 17 x 17, so 2023 values
    ...-6e                       those one block further on, which some ports take for them

whose Frechet distance is FID for the first two and sFID for the others. A folder holds
model.safetensors and card.json, as a labeler's does,

    {"architecture": "resnet18", "image_size": 64, "mean": [...], "std": [...]}

with a model of torchvision's, or `timm:NAME`; `interpolation` (bicubic) and `source` may be added.
A TorchScript file is a program, and LOADING IT EXECUTES IT: give one only if you trust whoever made
it. Its card is FILE.json, with image_size, mean and std. Nothing else is executed.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from augment.files import one_line
from augment.metrics.encoder import Encoder, EncoderCard, Preprocessing
from augment.pretrained.files import optional_module, read_tensors, sha256_of
from augment.state_hash import state_sha256

__all__ = ["load_encoder"]

_PENULTIMATE = "input of the last linear layer"

_PAPERS = {"resnet50": "IMAGENET1K_V1", "vgg16": "IMAGENET1K_V1"}
"""Weights other than torchvision's best: those of the literature's figures."""

_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""torch-fidelity's; pytorch-fid's pt_inception-2015-12-05-6726825d.pth holds the same tensors."""
_CLEAN_FID = Preprocessing(
    size=299, mean=[128 / 255] * 3, std=[128 / 255] * 3, interpolation="bicubic"
)
"""(x - 128) / 128."""
_PYTORCH_FID = Preprocessing(size=299, mean=[0.5] * 3, std=[0.5] * 3, antialias=False)
"""2x - 1, bilinear, and aliased where it shrinks."""

_VARIANTS: Mapping[str, tuple[Preprocessing, str]] = {
    "inception": (_CLEAN_FID, "pool"),
    "inception-6d": (_CLEAN_FID, "6d"),
    "inception-6e": (_CLEAN_FID, "6e"),
    "inception-pytorch-fid": (_PYTORCH_FID, "pool"),
    "inception-pytorch-fid-6d": (_PYTORCH_FID, "6d"),
    "inception-pytorch-fid-6e": (_PYTORCH_FID, "6e"),
}


def load_encoder(source: str | Path, *, weights: Path | None = None) -> Encoder:
    """Load an encoder; whatever it lacks is said now, before any work.

    Args:
        source: `resnet50` (2048-d pool), `vgg16` (fc2), `inception` and its variants, any other
            classification model of torchvision, `timm:NAME`, a folder with card.json and
            model.safetensors, or a TorchScript file (.pt, .ts), which is EXECUTED by being loaded.
            A published name wins over a folder of that name; write `./resnet50` for the folder.
        weights: a local file for a published network's weights; left out, torch hub's cache (timm's
            own) or a download.

    Raises:
        FileNotFoundError: none of these, or weights that are not on this machine and cannot be
            downloaded; the message says which file, and where to put it.
        ValueError: weights of another network, or given where the source has its own; a card
            without what is needed; a library that is not installed.
    """
    name, path = str(source), Path(source).expanduser()
    if name.startswith("timm:"):
        return _timm_encoder(name.removeprefix("timm:"), weights)
    if name in _VARIANTS:
        return _inception_encoder(name, weights)
    if _is_torchvision(name):
        return _torchvision_encoder(name, weights)
    if weights is not None:
        raise ValueError(
            f"weights is {weights} with the encoder {name}, which has its own; give weights with a "
            "published network, such as resnet50, or leave them out"
        )
    if path.is_dir():
        return _folder_encoder(path)
    if path.suffix in (".pt", ".ts"):
        return _torchscript_encoder(path)
    raise FileNotFoundError(
        f"encoder is {name!r}, no folder or file; give resnet50, vgg16, inception, another model "
        "of torchvision, timm:NAME, a folder with card.json and model.safetensors, or TorchScript"
    )


def _is_torchvision(name: str) -> bool:
    return name in torchvision.models.list_models(module=torchvision.models)


def _torchvision_encoder(name: str, weights: Path | None) -> Encoder:
    """A model of torchvision; images are resized to its square, whole (its own recipe crops)."""
    published = torchvision.models.get_model_weights(name)
    chosen = published[_PAPERS.get(name, "DEFAULT")]
    path = _fetch(name, chosen.url, weights)
    state, sha256 = _read_state(path)
    network = _built(name, classes=len(chosen.meta["categories"]))
    _fill(network, state, path, name)
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
        layer=_PENULTIMATE,
        preprocessing=preprocessing,
        sha256=sha256,
        source=f"torchvision, {chosen.name if weights is None else weights}",
    )
    return Encoder(_without_head(network, name), card)


def _built(name: str, *, classes: int) -> nn.Module:
    """A model of torchvision with random weights."""
    slow = name in ("inception_v3", "googlenet")  # those that they draw take a minute, and warn
    extra = {"init_weights": False, "transform_input": True, "aux_logits": True} if slow else {}
    with torch.random.fork_rng(devices=[]):  # the caller's stream stays where it is
        network: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **extra
        )
    return network


def _without_head(network: nn.Module, name: str) -> nn.Module:
    """The network with its last linear layer taken out."""
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(
            f"{name} has no linear layer to take the features before; give one that ends in one"
        )
    parent, _, last = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return network


def _timm_encoder(name: str, weights: Path | None) -> Encoder:
    """The pooled features of a model of timm, with its pretrained weights or the given ones."""
    timm = _timm(name)
    if weights is None:
        try:
            network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # the hub client raises many kinds
            raise FileNotFoundError(
                f"encoder timm:{name} needs its weights, which the hub did not give "
                f"({one_line(error)}); download them elsewhere and give their path by --weights"
            ) from error
        sha256 = state_sha256(network.state_dict())
    else:
        state, sha256 = _read_state(weights)
        network = _timm_network(name, state, weights)
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


def _timm(name: str) -> Any:
    timm = optional_module("timm", needed_by="encoders timm:NAME", extra="timm")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name}; give one of timm.list_models()")
    return timm


def _timm_network(name: str, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A model of timm without its head, from weights with or without one."""
    timm = _timm(name)
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = timm.create_model(name, num_classes=0)
    head = f"{network.pretrained_cfg['classifier']}."  # type: ignore[index]
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    _fill(network, body, path, f"timm {name}")
    return network


def _inception_encoder(name: str, weights: Path | None) -> Encoder:
    """A variant of FID's Inception network (torch-fidelity's, 2015-12-05)."""
    library = optional_module(
        "torch_fidelity.feature_extractor_inceptionv3",
        needed_by="encoders inception",
        extra="inception",
    )
    preprocessing, layer = _VARIANTS[name]
    path = _fetch(name, library.URL_INCEPTION_V3, weights)
    state, sha256 = _read_state(path)
    # It unpickles whatever file it is given; so it is given one made here of the tensors alone.
    file = BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    try:
        network = library.FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=file
        )
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds weights of another network than FID's Inception; give {_INCEPTION}"
        ) from error
    card = EncoderCard(
        name=name,
        architecture="FID's Inception, torch-fidelity",
        layer=layer,
        preprocessing=preprocessing,
        sha256=sha256,
        source=library.URL_INCEPTION_V3 if weights is None else str(weights),
    )
    return Encoder(_up_to(layer, network), card)


class _FirstChannels(nn.Module):
    """The 7 channels that sFID takes."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :7]


def _up_to(layer: str, network: nn.Module) -> nn.Module:
    """The part of Inception up to a layer; its children are in the order of their calls."""
    children = dict(network.named_children())
    if layer == "pool":
        return nn.Sequential(*(child for name, child in children.items() if name != "fc"))
    names = list(children)
    before = names[: names.index(f"Mixed_{layer}")]
    branch = children[f"Mixed_{layer}"].get_submodule("branch1x1")
    return nn.Sequential(*(children[name] for name in before), branch, _FirstChannels())


def _folder_encoder(folder: Path) -> Encoder:
    """The network of a folder; its features are what its last linear layer is given."""
    card = _read_card(folder / "card.json", "architecture")
    path = folder / "model.safetensors"
    state, sha256 = _read_state(path)
    architecture = str(card["architecture"])
    if architecture.startswith(("timm:", "timm/")):
        network = _timm_network(architecture[len("timm:") :], state, path)
    elif _is_torchvision(architecture):
        matrices = [value for value in state.values() if value.ndim == 2]
        network = _built(architecture, classes=len(matrices[-1]) if matrices else 1000)
        _fill(network, state, path, architecture)
        network = _without_head(network, architecture)
    else:
        raise ValueError(
            f"architecture in {folder / 'card.json'} is {architecture!r}; give a classification "
            "model of torchvision, such as resnet18, or timm:NAME"
        )
    return Encoder(network, _file_card(folder / "card.json", card, architecture, sha256, folder))


def _torchscript_encoder(path: Path) -> Encoder:
    """A TorchScript module, whose output are the features. LOADING IT EXECUTES THE FILE."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give a TorchScript file")
    beside = path.with_name(f"{path.name}.json")
    card = _read_card(beside)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has TorchScript down as deprecated
            load: Callable[..., nn.Module] = torch.jit.load
            network = load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise ValueError(
            f"{path} is no TorchScript file; save the module by torch.jit.script, or its weights "
            "alone in a folder with card.json and model.safetensors"
        ) from error
    return Encoder(network, _file_card(beside, card, "TorchScript", sha256_of(path), path))


def _file_card(
    path: Path, card: Mapping[str, Any], architecture: str, sha256: str, source: Path
) -> EncoderCard:
    """The card of a user's encoder, from what its JSON says."""
    try:
        preprocessing = Preprocessing(
            size=card["image_size"],
            mean=card["mean"],
            std=card["std"],
            interpolation=card.get("interpolation", "bicubic"),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return EncoderCard(
        name=source.name if source.is_dir() else source.stem,
        architecture=architecture,
        layer=_PENULTIMATE if source.is_dir() else "output",
        preprocessing=preprocessing,
        sha256=sha256,
        source=str(card.get("source", source)),
    )


def _read_card(path: Path, *more: str) -> Mapping[str, Any]:
    needed = (*more, "image_size", "mean", "std")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write a JSON object with {', '.join(needed)}")
    try:
        card: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # covers bad JSON and bad UTF-8
        raise ValueError(f"{path} is not JSON ({error}); write the card again") from error
    if not isinstance(card, dict) or (missing := [key for key in needed if key not in card]):
        lacks = ", ".join(missing) if isinstance(card, dict) else "an object"
        raise ValueError(f"{path} lacks {lacks}; write an object with {', '.join(needed)}")
    return card


def _fetch(name: str, url: str, given: Path | None) -> Path:
    """The file of published weights: the given one, torch hub's cached one, or a download."""
    file = url.rsplit("/", 1)[-1]
    if given is not None:
        if not given.is_file():
            raise FileNotFoundError(
                f"weights is {given}, which is missing; encoder {name} needs the file {file}"
            )
        return given
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if cached.is_file():
        return cached
    digits = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", file)  # of the hash, in torchvision's names
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=digits and digits[1])
    except (OSError, RuntimeError) as error:  # no connection, or a hash that does not fit
        raise FileNotFoundError(
            f"encoder {name} needs {file}, which is not on this machine and could not be "
            f"downloaded; put it at {cached}, or give its path by --weights"
        ) from error
    return cached


def _read_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a .safetensors file or of torch's state dict, and the file's sha256."""
    if path.suffix != ".safetensors":
        return read_tensors(path), sha256_of(path)
    try:
        return load_file(path), sha256_of(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; give a file of weights") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}); copy or write it again"
        ) from error


def _fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Load a state dict whose names and shapes have to be the network's."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if bad := [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]:
        raise ValueError(
            f"{len(bad)} tensors of {path} do not fit {architecture} (first: {bad[0]} is "
            f"{found.get(bad[0], 'absent')} in place of {wanted.get(bad[0], 'none')}); give others"
        )
    network.load_state_dict(state)
