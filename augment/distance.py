"""Distances between two batches of images: the d of the paper's Eq. 5 and Eq. 7.

A distance is a callable (a, b) -> (B,), of float32 images (B, C, H, W) in the [-1, 1] convention, not necessarily inside it, and
differentiable in `a`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["L2", "LPIPS", "Distance", "FeatureDistance"]

Distance = Callable[[Tensor, Tensor], Tensor]

_EPSILON = 1e-10
"""Keeps the unit normalisation and its derivative finite where a feature column is zero."""


class L2:
    """Euclidean norm of the difference. Guidance by the squared norm is the same: its gradients are parallel (per-sample normalised)."""

    name = "l2"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).flatten(1).square().sum(dim=1).add(_EPSILON**2).sqrt()


class FeatureDistance:
    """LPIPS-style distance in the features of any network: mean over places of |f/|f| - g/|g||^2, summed over layers.

    A ReLU trunk that knows the domain does, without the human ratings that LPIPS' linear heads add.
    """

    name = "features"

    def __init__(
        self,
        network: nn.Module,
        *,
        layers: Sequence[str] | None = None,
        preprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """
        Args:
            network: takes (B, 3, H, W) float32; frozen here, put in evaluation mode.
            layers: names of the submodules whose outputs (B, C, h, w) are compared; left out, every direct child that has such
                an output larger than one pixel.
            preprocess: from RGB images in [0, 1] to the network's input; identity if left out.
        """
        self.network = network.eval().requires_grad_(False)
        self._preprocess = preprocess or (lambda images: images)
        modules = dict(network.named_modules())
        unknown = [name for name in layers or () if name not in modules]
        if unknown:
            raise ValueError(
                f"layers {unknown} are not in the network; allowed are {', '.join(list(modules)[1:9])}, ..."
            )
        self._layers = [modules[name] for name in layers] if layers else list(network.children())

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.new_zeros(len(a))
        for f, g in zip(self._features(a), self._features(b), strict=True):
            total = total + (_unit(f) - _unit(g)).square().sum(dim=1).mean(dim=(1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda _m, _i, output: found.append(output))
            for layer in self._layers
        ]
        try:
            self.network(self._preprocess((_rgb(images) + 1) / 2))
        finally:
            for hook in hooks:
                hook.remove()
        return [f for f in found if f.ndim == 4 and f.shape[-1] > 1]


class LPIPS:
    """Learned perceptual similarity v0.1 (Zhang et al. 2018), by the `lpips` package: the paper's distance, with AlexNet.

    Inputs go in at their own size and unclipped, as in the official code; a grey image is repeated to three channels.
    """

    name = "lpips"

    def __init__(
        self, net: Literal["alex", "vgg", "squeeze"] = "alex", *, trunk: Path | None = None
    ) -> None:
        """
        Args:
            net: the trunk.
            trunk: its ImageNet weights (torchvision's state dict), for machines without a connection; left out, torchvision's
                download or its cache is used.

        Raises:
            FileNotFoundError: the trunk's weights are neither given, cached nor downloadable.
        """
        import lpips  # Here and not above: only this distance needs it.

        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # lpips 0.1.4 builds its trunk by torchvision's deprecated `pretrained`.
            self._model = (
                lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval().requires_grad_(False)
            )
        _load_trunk(self._model.net, net, trunk)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self._model.to(a.device)
        distance: Tensor = self._model(_rgb(a), _rgb(b))
        return distance.flatten()


def _load_trunk(
    slices: nn.Module, net: Literal["alex", "vgg", "squeeze"], path: Path | None
) -> None:
    """Copy ImageNet weights into lpips' slices, whose layers keep the numbers they have in torchvision's `features`."""
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    weights = {"alex": AlexNet_Weights, "vgg": VGG16_Weights, "squeeze": SqueezeNet1_1_Weights}[
        net
    ].IMAGENET1K_V1
    name = weights.url.rsplit("/", 1)[-1]
    if path is not None:
        if not path.is_file():
            raise FileNotFoundError(
                f"LPIPS trunk {path} is missing; give the file {name} of torchvision's models"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    else:
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            cache = Path(torch.hub.get_dir()) / "checkpoints" / name
            raise FileNotFoundError(
                f"LPIPS needs torchvision's {name}, which is not on this machine and could not be downloaded; "
                f"put it at {cache}, give its path, or choose the distance l2 or features"
            ) from error
    trunk = {
        key.removeprefix("features."): value
        for key, value in state.items()
        if key.startswith("features.")
    }
    slots = {
        name.split(".", 1)[1]: parameter
        for name, parameter in slices.state_dict(keep_vars=True).items()
    }
    if missing := sorted(slots.keys() - trunk.keys()):
        raise ValueError(
            f"the LPIPS trunk lacks {len(missing)} of {len(slots)} tensors, the first features.{missing[0]}; give {name}"
        )
    with torch.no_grad():
        for key, slot in slots.items():
            slot.copy_(trunk[key])


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + _EPSILON**2).sqrt()
