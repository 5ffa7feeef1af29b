"""The JEPA score of an image: how much an encoder's output moves with it (ICML 2026).

    sum_j log s_j(J(x))

s_j are the singular values of the Jacobian J of an encoder of clean images. The score is high where
the encoder's training images were dense, and low for rare ones. The official code takes the 9
largest of DINOv2's, by a randomised decomposition with finite differences; here the products with J
are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from augment.denoiser import ImageFormat
from augment.images import Pixels
from augment.noise import SCORE, NoiseStream

__all__ = ["Spectrum", "check_curved", "jepa_scores"]

Encoder = Callable[[Tensor], Tensor]
"""Float images (B, C, H, W), about [-1, 1], not clipped, to (B, K), differentiable."""


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """How much of a Jacobian is looked at."""

    rank: int | None = None
    """k, how many of the largest singular values count, found by a randomised decomposition; the
    original's is 9. Left out, all of them, by the exact Jacobian: for encoders of few outputs."""
    oversample: int = 2
    """Further random directions of the decomposition."""
    iterations: int = 2
    """Power iterations of the decomposition."""

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise ValueError(
                f"jacobian.rank is {self.rank}; give at least 1, or leave it out for all"
            )
        for name in ("oversample", "iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"jacobian.{name} is {getattr(self, name)}; give 0 or more")

    def score(
        self,
        encoder: Encoder,
        images: Tensor,
        draw: Callable[[], Tensor],
        *,
        differentiable: bool = True,
    ) -> Tensor:
        """The JEPA score of each image, float64 (B,).

        Args:
            encoder: of the images; twice differentiable, if its score is to be.
            images: float (B, C, H, W), with a graph or a leaf that asks for one.
            draw: standard normal noise of the images' shape, for the decomposition.
            differentiable: keep the graph of the score.
        """
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            directions = self._directions(encoder, images.detach(), draw)
            outputs = encoder(images)
            if directions is None:
                whole = torch.eye(outputs.shape[1]).to(outputs)
                directions = whole.expand(len(outputs), -1, -1)
            rows = [
                torch.autograd.grad(
                    outputs, images, direction, retain_graph=True, create_graph=differentiable
                )[0].flatten(1)
                for direction in directions.unbind(dim=1)
            ]
        jacobian = torch.stack(rows, dim=1).double()
        # Of the singular values, ascending.
        squares: Tensor = torch.linalg.eigvalsh(jacobian @ jacobian.mT)
        return squares[:, -(self.rank or 0) :].log().sum(dim=1) / 2

    def _directions(
        self, encoder: Encoder, images: Tensor, draw: Callable[[], Tensor]
    ) -> Tensor | None:
        """Orthonormal directions of the output that hold the largest singular values, detached,
        (B, r, K); None for all. Subspace iteration (Halko et al. 2011, algorithm 4.4).
        """
        if self.rank is None:
            return None
        images = images.requires_grad_(True)
        outputs = encoder(images)
        # What is linear in `along` has J as its derivative, transposed: no finite differences.
        along = torch.zeros_like(outputs, requires_grad=True)
        (back,) = torch.autograd.grad(outputs, images, along, create_graph=True)

        def products(of: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
            found = [
                torch.autograd.grad(of, at, vector.reshape_as(of), retain_graph=True)[0].flatten(1)
                for vector in vectors.unbind(dim=1)
            ]
            return _orthonormal(torch.stack(found, dim=1))

        count = min(self.rank + self.oversample, outputs.shape[1])
        probes = torch.stack([draw() for _ in range(count)], dim=1)
        found = products(back, along, probes)
        for _ in range(self.iterations):
            found = products(back, along, products(outputs, images, found))
        return found


def jepa_scores(
    encoder: Encoder,
    images: Pixels,
    spectrum: Spectrum,
    *,
    device: torch.device,
    batch_size: int = 32,
) -> Tensor:
    """The JEPA scores of real images, float64 (N,) on the CPU.

    Args:
        encoder: of float images in [-1, 1]; one of ReLU and linear layers has a score too.
        images: N of them, of which a batch is held.
        spectrum: how much of the Jacobian counts.
        device: where the encoder is.
        batch_size: images at a time; it changes only the rounding.
    """
    found = []
    for rows in torch.split(torch.arange(len(images)), batch_size):
        x = ImageFormat.from_uint8(images[rows].to(device)).requires_grad_(True)
        noise = NoiseStream(rows.tolist(), SCORE, tuple(x.shape[1:]), device)
        with torch.enable_grad():
            score = spectrum.score(encoder, x, noise.draw, differentiable=False)
        found.append(score.detach().cpu())
    return torch.cat(found)


def check_curved(encoder: Encoder, shape: tuple[int, ...], device: torch.device) -> None:
    """Refuse an encoder whose score cannot be descended, by one random image.

    A network of ReLU and linear layers alone has a Jacobian that is constant almost everywhere.
    GELU, SiLU and normalisation by the image's own statistics bend it.

    Args:
        encoder: to be judged.
        shape: of an image, (C, H, W).
        device: where the encoder is.

    Raises:
        ValueError: the score has no gradient.
    """
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        outputs = encoder(image.requires_grad_(True))
        (slope,) = torch.autograd.grad(outputs.sum(), image, create_graph=True)
        bends = slope.requires_grad and any(
            one is not None and bool(one.any())
            for one in torch.autograd.grad(slope.square().sum(), image, allow_unused=True)
        )
    if not bends:
        raise ValueError(
            "the encoder of JEPA guidance is of ReLU and linear layers alone, so that its Jacobian "
            "is constant almost everywhere and there is no gradient; give jacobian.encoder "
            "activations with a jacobian.rank, 9 is the original's, or a smooth labeler"
        )


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the same span, (B, r, K), of rows of that shape, r <= K."""
    columns: Tensor = torch.linalg.qr(rows.mT).Q
    return columns.mT
