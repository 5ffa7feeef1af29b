"""What a pretrained denoiser knows of an image: the activations of its blocks, as features.

A network that can draw a beard has units for it. So a linear head on its activations needs few
labels (Baranchuk et al. 2022, https://arxiv.org/abs/2112.03126; Xiang et al. 2023,
https://arxiv.org/abs/2303.09769), and as the features are differentiable, the head can steer too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from augment.denoiser import Denoiser
from augment.distance import map_distance

__all__ = ["ActivationDistance", "DenoiserFeatures"]

_AT_ONCE = 256 * 32**2
"""Pixels, of images or latents, that are looked at at once where no gradient is asked for: 256
images of 32 a side, 4 of 256."""
_WIDEST = 2**16
"""Features of a level at most, where fewer places can do it: a wide network's would not fit into
memory for a few hundred images."""
_CLEAN = 0.98
"""alpha_bar at which the network looks, at an image nearly without noise: timestep 82 of 1,000 in a
cosine schedule. Heads on 300 labelled avatars have on 800 others an average precision of .894
there, .891 at .998, .893 at .96 and .887 at .85."""


class DenoiserFeatures(nn.Module):
    """Activations of every block of a denoiser, averaged over a grid of places.

    The image is scaled as at a low noise level, but gets no noise: features that follow from the
    image alone. A model with classes is asked for its null class, or without one for class 0. Grey
    and colour images are converted to what the model takes.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        alpha_bar: Sequence[float] = (_CLEAN,),
        blocks: Sequence[str] | None = None,
        grid: int = 4,
    ) -> None:
        """
        Args:
            denoiser: the pretrained model, shared and not copied.
            alpha_bar: signal levels in (0, 1) at which it looks, one pass each; the nearest
                timesteps are taken.
            blocks: names of submodules of its network; left out, all blocks (`block_names`).
            grid: activations are averaged over grid x grid places, or over half or a quarter as
                many a side where features would be more than 65,536; 1 averages over the image.

        Raises:
            ValueError: a block that the network does not have, or no level.
        """
        super().__init__()
        self.denoiser = denoiser
        known = dict(denoiser.network.named_modules())
        self.blocks = tuple(blocks or block_names(denoiser.network))
        if unknown := [name for name in self.blocks if name not in known]:
            raise ValueError(
                f"block {unknown[0]!r} is not in the network; the blocks are "
                f"{', '.join(block_names(denoiser.network))}; name some of these"
            )
        if not alpha_bar or not all(0 < level < 1 for level in alpha_bar):
            raise ValueError(
                f"alpha_bar is {tuple(alpha_bar)}; give levels in (0, 1), such as {_CLEAN}"
            )
        self.indices = tuple(denoiser.schedule.nearest(level) for level in alpha_bar)
        self.grid = grid

    def record(self) -> dict[str, Any]:
        """What features depend on besides the denoiser's weights, for records."""
        return {"blocks": list(self.blocks), "indices": list(self.indices), "grid": self.grid}

    def forward(self, images: Tensor) -> Tensor:
        """Features float32 (B, D), differentiable, of float images (B, 1 or 3, S, S) in [-1, 1].

        S is the model's size; D is the places times the channels of all blocks, times the levels.
        Without a gradient large images are looked at a few at a time.
        """
        if torch.is_grad_enabled():
            return self._of(images)
        few = max(1, _AT_ONCE // self.denoiser.shape[-1] ** 2)
        return torch.cat([self._of(part) for part in torch.split(images, few)])

    def _of(self, images: Tensor) -> Tensor:
        images = self.denoiser.encoded(self._converted(images))
        return torch.cat([self._at(images, i) for i in self.indices], dim=1)

    def _converted(self, images: Tensor) -> Tensor:
        channels = self.denoiser.image.channels
        if images.shape[1] == channels:
            return images
        grey = images.mean(dim=1, keepdim=True)
        return grey.expand(-1, channels, -1, -1)

    def _at(self, images: Tensor, i: int) -> Tensor:
        maps = self.maps(images, i)
        channels = sum(one.shape[1] for one in maps)
        places = [max(1, self.grid >> halvings) for halvings in range(3)]
        grid = next((n for n in places if n**2 * channels <= _WIDEST), places[-1])
        pooled = [F.adaptive_avg_pool2d(one.float(), grid) for one in maps]
        return torch.cat([one.flatten(1) for one in pooled], dim=1)

    def maps(self, images: Tensor, i: int) -> list[Tensor]:
        """Each block's activations (B, C, h, w), of what the model denoises, images or latents,
        scaled as at index i of its schedule.
        """
        schedule = self.denoiser.schedule
        labels = self.denoiser.any_class(len(images))
        with self._caught() as activations:
            self.denoiser(math.sqrt(schedule.alpha_bar[i]) * images, i, schedule, labels)
        return [_as_map(one) for one in activations]

    @contextmanager
    def _caught(self) -> Iterator[list[Tensor]]:
        """The outputs of the blocks, in the order in which they run; the last ends the pass."""
        found: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor | Sequence[Tensor]) -> None:
            found.append(output if isinstance(output, Tensor) else output[0])
            if len(found) == len(self.blocks):
                raise _SeenEnough

        modules = dict(self.denoiser.network.named_modules())
        hooks = [modules[name].register_forward_hook(keep) for name in self.blocks]
        try:
            with suppress(_SeenEnough):
                yield found
        finally:
            for hook in hooks:
                hook.remove()


_LISTS = (nn.ModuleList, nn.ModuleDict)


class _SeenEnough(Exception):  # noqa: N818 - no error
    """Ends a pass of the network when all that is wanted of it has run."""


class ActivationDistance:
    """Distance in the generator's own activations: `FeatureDistance` without another network.

    A pixel distance is raised by noise and by the background's colour; the blocks of a network that
    draws faces see faces. It needs no labels and no weights besides the generator's, and half a
    pass of it: the blocks that take an image apart tell as much as all.
    """

    name = "activations"

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        alpha_bar: float = _CLEAN,
        blocks: Sequence[str] | None = None,
    ) -> None:
        """
        Args:
            denoiser: the pretrained model, shared and not copied.
            alpha_bar: signal level in (0, 1) at which it looks at an image without noise.
            blocks: names of submodules of its network; left out, those of its first list, a U-Net's
                way down.

        Raises:
            ValueError: as `DenoiserFeatures`.
        """
        blocks = blocks or encoder_names(denoiser.network)
        self._features = DenoiserFeatures(denoiser, alpha_bar=(alpha_bar,), blocks=blocks)

    def __repr__(self) -> str:
        # Of the weights, the record of a folder's denoiser tells.
        (i,) = self._features.indices
        return f"ActivationDistance({i}, {list(self._features.blocks)})"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,) of what the generator denoises, images or latents, differentiable in both."""
        (i,) = self._features.indices
        return map_distance(self._features.maps(a, i), self._features.maps(b, i))


def _as_map(activation: Tensor) -> Tensor:
    """(B, C, h, w) as it is; of a transformer's (B, N, C), the last h w tokens are places."""
    if activation.ndim == 4:
        return activation
    side = math.isqrt(activation.shape[1])
    places = activation[:, -side * side :].transpose(1, 2)
    return places.reshape(*places.shape[:2], side, side)


def block_names(network: nn.Module) -> list[str]:
    """Names of a network's blocks: the members of its lists, and what stands between these.

    What comes before the first list (the embedding of time, the first convolution) and after the
    last one (the head) is no block. A network without lists has its children for blocks.
    """
    prefix, core = _core(network)
    children = [f"{prefix}{name}" for name, _ in core.named_children()]
    lists = _lists(network)
    if not lists:
        return children
    members = [name for names in lists.values() for name in names]
    # By its name: diffusers registers the middle block last, whatever its place is.
    return [*members, *(name for name in children if "mid" in name and name not in lists)]


def encoder_names(network: nn.Module) -> list[str]:
    """Names of the blocks of a network's first list, or of its children, if it has no list."""
    return next(iter(_lists(network).values()), [name for name, _ in network.named_children()])


def _lists(network: nn.Module) -> dict[str, list[str]]:
    """Name of each list of modules -> the names of its members, in the order of registration."""
    prefix, core = _core(network)
    return {
        f"{prefix}{name}": [f"{prefix}{name}.{member}" for member, _ in child.named_children()]
        for name, child in core.named_children()
        if isinstance(child, _LISTS)
    }


def _core(network: nn.Module) -> tuple[str, nn.Module]:
    """The network that has the lists, and what its names begin with: itself, or what it wraps."""
    prefix, core = "", network
    while not any(isinstance(child, _LISTS) for child in core.children()):
        trained = [n for n, child in core.named_children() if any(True for _ in child.parameters())]
        if len(trained) != 1:
            return "", network
        prefix, core = f"{prefix}{trained[0]}.", core.get_submodule(trained[0])
    return prefix, core
