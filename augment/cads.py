"""CADS: more diverse images of a class, by noise on the condition (Sadat et al. 2024, https://arxiv.org/abs/2310.17347).

    y^ = sqrt(gamma) y + s sqrt(1 - gamma) n,      n ~ N(0, I), anew at every step
    y' = psi rescaled(y^) + (1 - psi) y^

y is the embedding of the class, and gamma rises from 0 at the noisy steps to 1 at the clean ones:
the class is all but unknown while the modes are chosen, and known when the details are. `rescaled`
gives y^ the mean and standard deviation of y, here for each image, so that batches change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser
from augment.noise import CONDITION, NoiseStream, derived_seeds
from augment.schedule import Schedule

__all__ = ["CADS"]


@dataclass(frozen=True, kw_only=True)
class CADS:
    """How much noise the condition gets, and when; it costs no forward pass.

    With classifier-free guidance only the half with the class is noised. What a guidance asks of
    the denoiser besides, as self-guidance does, is asked with the class as it is.
    """

    noise: float = 0.1
    """s, the noise's standard deviation; .025 to .1 were found good."""
    clean: float = 0.6
    """tau_1: from this share of the timesteps down, the class is left alone."""
    unknown: float = 0.9
    """tau_2: from this share of the timesteps up, only noise is left of the class."""
    mixing: float = 1.0
    """psi, the share of the rescaled embedding, 0 to 1."""

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"cads.noise is {self.noise}; give 0 or more, .025 to .1 are usual")
        if not 0 <= self.clean < self.unknown <= 1:
            raise ValueError(
                f"cads.clean is {self.clean} and cads.unknown {self.unknown}; give shares of the "
                "timesteps from 0 to 1, the second one larger, such as 0.6 and 0.9"
            )
        if not 0 <= self.mixing <= 1:
            raise ValueError(f"cads.mixing is {self.mixing}; give 0 to 1, the original's")

    def gamma(self, t: float) -> float:
        """What share of the class's variance is left at a share `t` of the timesteps."""
        return min(max((self.unknown - t) / (self.unknown - self.clean), 0.0), 1.0)

    def corrupted(self, y: Tensor, n: Tensor, gamma: float) -> Tensor:
        """Embeddings `y` (B, ...) with standard normal noise `n` of the same shape."""
        own = tuple(range(1, y.ndim))
        noised = math.sqrt(gamma) * y + self.noise * math.sqrt(1 - gamma) * n
        unit = noised - noised.mean(dim=own, keepdim=True)
        unit = unit / unit.std(dim=own, keepdim=True).clamp(min=1e-12)
        rescaled = unit * y.std(dim=own, keepdim=True) + y.mean(dim=own, keepdim=True)
        return self.mixing * rescaled + (1 - self.mixing) * noised

    def applied(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser, whose reverse steps are to see noised classes.

        Raises:
            ValueError: it has no classes, or no embedding of them.
        """
        found = [m for n, m in denoiser.network.named_modules() if n.endswith("class_embedding")]
        if denoiser.classes is None or not found:
            raise ValueError(
                "cads is given, and the generator has no embedding of classes; leave it out, or "
                "train a generator with --classes"
            )
        twin = denoiser.with_network(denoiser.network)
        twin.condition = partial(self._noised, found[0], len(denoiser.schedule) - 1)
        return twin

    @contextmanager
    def _noised(
        self, embedding: nn.Module, last: int, seeds: Sequence[int], i: int, schedule: Schedule
    ) -> Iterator[None]:
        """Within it, the first embeddings of a batch, those of these seeds' images, are noised."""
        gamma = self.gamma(float(schedule.timesteps[i]) / last)

        def noise(_module: nn.Module, _inputs: object, y: Tensor) -> Tensor:
            of_class, others = y[: len(seeds)], y[len(seeds) :]
            # Of seed and step alone, so that neither a second attempt nor a batch changes a draw.
            stream = NoiseStream(derived_seeds(seeds, CONDITION), i, of_class.shape[1:], y.device)
            return torch.cat([self.corrupted(of_class, stream.draw().to(y.dtype), gamma), others])

        handle = embedding.register_forward_hook(noise)
        try:
            yield
        finally:
            handle.remove()
