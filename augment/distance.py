"""Distances between two batches of images: the d of the paper's Eq. 5 and Eq. 7.

A distance is a callable (a, b) -> (B,), of float32 images (B, C, H, W) in the [-1, 1] convention,
not necessarily inside it, and differentiable in `a`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from augment.state_hash import state_sha256

__all__ = ["L1", "L2", "LPIPS", "NAMED", "Distance", "FeatureDistance", "map_distance"]

Distance = Callable[[Tensor, Tensor], Tensor]

_Net = Literal["alex", "vgg", "squeeze"]

_EPSILON = 1e-10
"""Keeps the unit normalisation and its derivative finite where a feature column is zero."""


class L1:
    """Sum of the absolute differences."""

    name = "l1"

    def __repr__(self) -> str:
        return "L1()"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).flatten(1).abs().sum(dim=1)


class L2:
    """Euclidean norm of the difference, as in the official code; the paper's theory squares it.

    Guidance by the squared norm is the same: the gradients are parallel, and normalised per sample.
    (Not so over several Monte-Carlo samples, which the plain norm weighs alike.)
    """

    name = "l2"

    def __repr__(self) -> str:
        return "L2()"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).flatten(1).square().sum(dim=1).add(_EPSILON**2).sqrt()


class FeatureDistance:
    """LPIPS-style distance in the features of any network.

    It is the mean over places of |f/|f| - g/|g||^2, summed over layers. A ReLU trunk that knows the
    domain does, without the human ratings that LPIPS' linear heads add.

    A ReLU whose input is zero up to rounding takes either side of its kink, and the gradient jumps.
    So guidance enlarges differences of 1e-5 between batches of other sizes a thousandfold here, and
    not with smooth activations such as a U-Net's; the normalisation has no part in it.
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
            layers: names of the submodules whose outputs (B, C, h, w) are compared; left out, of
                the direct children the last one at each resolution above one pixel.
            preprocess: from RGB images in [0, 1] to the network's input; identity if left out.

        Raises:
            ValueError: a layer that the network does not have.
        """
        self.network = network.eval().requires_grad_(False)
        self._preprocess = preprocess or (lambda images: images)
        modules = dict(network.named_modules())
        unknown = [name for name in layers or () if name not in modules]
        if unknown:
            raise ValueError(
                f"layers {unknown} are not in the network; "
                f"give some of {', '.join(list(modules)[1:9])}, ..."
            )
        self._names = list(layers or [])
        self._layers = [modules[name] for name in layers] if layers else list(network.children())

    def __repr__(self) -> str:
        # It names a folder's run: other weights guide to other images.
        weights = state_sha256(self.network.state_dict())[:16]
        return f"FeatureDistance({type(self.network).__name__}, {weights!r}, layers={self._names})"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self.network.to(a.device)
        return map_distance(self._features(a), self._features(b))

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
        maps = [f for f in found if f.ndim == 4 and f.shape[-1] > 1]
        if not self._names:
            maps = list({f.shape[-2:]: f for f in maps}.values())
        if not maps:
            raise ValueError(
                f"no layer of the network gives a feature map larger than one pixel for images of "
                f"{images.shape[-1]} pixels; name others in `layers`"
            )
        return maps


class LPIPS:
    """Learned perceptual similarity v0.1 (Zhang et al. 2018), by the `lpips` package.

    With AlexNet it is the paper's guidance; the authors' earlier minority score took VGG. Inputs go
    in at their own size and unclipped, as in the official code. A grey image in [-1, 1] is repeated
    to three channels; that code takes it to be in [0, 1], and maps it anew at each Monte-Carlo
    sample. Always float32.

    The trunk runs once an argument, for the second needs no gradient: one pass over both would
    compute it for both halves, and takes a fifth longer (16 images of 64 pixels, one CPU core).
    """

    name = "lpips"

    def __init__(self, net: _Net = "alex", *, trunk: Path | None = None) -> None:
        """
        Args:
            net: the trunk.
            trunk: its ImageNet weights (torchvision's state dict), for machines without a
                connection; left out, torchvision's download or its cache is used.

        Raises:
            FileNotFoundError: the trunk's weights are neither given, cached nor downloadable.
            ValueError: a file that is not the trunk's weights.
        """
        import lpips  # Here and not above: only this distance needs it.

        with warnings.catch_warnings():
            # lpips 0.1.4 builds its trunk by torchvision's deprecated `pretrained`.
            warnings.simplefilter("ignore")
            model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        self._model = model.eval().requires_grad_(False)
        _load_trunk(self._model.net, net, trunk)
        self._net = net

    def __repr__(self) -> str:
        return f"LPIPS({self._net!r})"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self._model.to(a.device)
        with torch.autocast(a.device.type, enabled=False):
            distance: Tensor = self._model(_rgb(a).float(), _rgb(b).float())
        return distance.flatten()


NAMED: Mapping[str, Callable[[], Distance]] = {"l1": L1, "l2": L2, "lpips": LPIPS}
"""What the command lines call the distances that need nothing to be given."""


def map_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """(B,): the mean over places of |f/|f| - g/|g||^2, summed over layers; layers (B, C, h, w)."""
    apart = [
        (_unit(f) - _unit(g)).square().sum(dim=1).mean(dim=(1, 2))
        for f, g in zip(first, second, strict=True)
    ]
    return torch.stack(apart).sum(dim=0)


def _load_trunk(slices: nn.Module, net: _Net, path: Path | None) -> None:
    """Copy ImageNet weights into lpips' slices, whose layers have the numbers of torchvision's."""
    state, name = _trunk_weights(net, path)
    slots = {
        f"features.{key.split('.', 1)[1]}": slot
        for key, slot in slices.state_dict(keep_vars=True).items()
    }
    misfits = [k for k, slot in slots.items() if getattr(state.get(k), "shape", None) != slot.shape]
    if misfits:
        raise ValueError(
            f"{len(misfits)} of the LPIPS trunk's {len(slots)} tensors are missing or of another "
            f"shape, the first {misfits[0]}; give the file {name} of torchvision's models"
        )
    with torch.no_grad():
        for key, slot in slots.items():
            slot.copy_(state[key])


def _trunk_weights(net: _Net, path: Path | None) -> tuple[Mapping[str, Tensor], str]:
    """The trunk's state dict, from `path` or by torchvision, and the name of its file."""
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    kinds = {"alex": AlexNet_Weights, "vgg": VGG16_Weights, "squeeze": SqueezeNet1_1_Weights}
    weights = kinds[net].IMAGENET1K_V1
    name = weights.url.rsplit("/", 1)[-1]
    if path is None:
        try:
            return weights.get_state_dict(progress=True, check_hash=True), name
        except (OSError, RuntimeError) as error:  # No connection; a hash that does not fit.
            cache = Path(torch.hub.get_dir()) / "checkpoints" / name
            raise FileNotFoundError(
                f"LPIPS needs torchvision's {name}, which is not on this machine and could not be "
                f"downloaded; put it at {cache}, give a local copy of it, or choose another "
                "distance, such as l2"
            ) from error
    if not path.is_file():
        raise FileNotFoundError(
            f"LPIPS trunk {path} is missing; give the file {name} of torchvision's models"
        )
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True)), name
    except Exception as error:  # A file that is no state dict raises whatever its bytes lead to.
        raise ValueError(
            f"LPIPS trunk {path} does not load; give the file {name} of torchvision's models"
        ) from error


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + _EPSILON**2).sqrt()
