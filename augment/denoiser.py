"""The denoiser: a pretrained network, its noise schedule and its image contract behind one call.

Everything in `augment` talks to this class; only `augment.pretrained` knows the formats that
networks come in.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from augment.schedule import Schedule, Spacing
from augment.state_hash import state_sha256

__all__ = [
    "Denoiser",
    "ImageFormat",
    "Latents",
    "Prediction",
    "PredictionType",
    "VarianceType",
]

PredictionType = Literal["epsilon", "v_prediction", "sample"]
VarianceType = Literal["learned_range", "fixed_small", "fixed_large"]

Condition = Callable[[Sequence[int], int, Schedule], AbstractContextManager[None]]
"""What a reverse step puts around its forward pass, given the images' seeds and its index in a
schedule: a change of their classes' embeddings, for each image its own."""


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """What the network's pixels are: values in [-1, 1], shape (channels, size, size)."""

    channels: int
    """1 (grey) or 3 (RGB)."""
    size: int
    """Height and width in pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    @staticmethod
    def to_uint8(x: Tensor) -> Tensor:
        """Images in [-1, 1], clamped, to uint8 by TRUNCATION.

        So does guided-diffusion, whose figures belong to it: rounding lifts the mean half a level.
        """
        return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)

    @staticmethod
    def from_uint8(images: Tensor) -> Tensor:
        """uint8 images to float32 in [-1, 1]."""
        return images.float() / 127.5 - 1


class Latents(Protocol):
    """The space that a latent model denoises in, and the way from it to images and back."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a latent image, (channels, height, width)."""

    def encode(self, images: Tensor) -> Tensor:
        """Latents, float32 (B, c, h, w), of images float32 (B, C, H, W) in [-1, 1]."""

    def decode(self, latents: Tensor, *, smooth: bool = False) -> Tensor:
        """The images, float32, about [-1, 1]; `smooth` leaves out what has no gradient."""


class Prediction(NamedTuple):
    """What the network says about a noisy image."""

    eps: Tensor
    """Predicted noise, float32 (B, C, H, W)."""
    v: Tensor | None
    """Learned variance's interpolation weights, about [-1, 1], (B, C, H, W); None if fixed."""


class Denoiser(nn.Module):
    """A frozen network eps_theta(x_t, t) with the constants it was trained with.

    Parameters are frozen and the network is in evaluation mode, so that a backward pass computes
    the input's gradient only.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        image: ImageFormat,
        *,
        prediction: PredictionType = "epsilon",
        variance: VarianceType = "fixed_small",
        classes: int | None = None,
        null_class: int | None = None,
        latents: Latents | None = None,
        clip: bool = True,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            network: (B, C, H, W) float32 and timesteps int64 (B,), or sigmas float32 if the
                schedule has these, in, and, with `classes`, labels int64 (B,); (B, C, H, W) out, or
                (B, 2C, H, W) with `learned_range`. A network of diffusers, whose output has a
                `sample` attribute, is taken as it is.
            schedule: the schedule of training, all T steps.
            image: the format of the images it makes; of a latent model, once they are decoded.
            prediction: what its first C channels are.
            variance: where the reverse step's variance comes from.
            classes: how many classes a class-conditional network knows; None if it knows none.
            null_class: the label that stands for no class, for a network that was trained with one;
                it is not counted among the classes.
            latents: of a latent model, whose network sees these instead of images.
            clip: whether the sampler clips its estimate of the images to [-1, 1].
            card: where the weights came from, for reports and resume checks; `sha256` is theirs,
                `settings` and `dtype` are what they were read as.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.schedule = schedule
        self.image = image
        self.prediction = prediction
        self.variance = variance
        self.classes = classes
        self.null_class = null_class
        self.latents = latents
        self.clip = clip
        self.card = dict(card or {})
        self.condition: Condition | None = None

    def forward(
        self, x_i: Tensor, i: int, schedule: Schedule, labels: Tensor | None = None
    ) -> Prediction:
        """Predict the noise of `x_i` (B, C, H, W) at index `i` of `schedule`.

        The schedule is this denoiser's own or a respacing of it. `labels`, int64 (B,) within
        [0, classes), are for a class-conditional network, which needs them; their range is the
        business of `check_labels`, once, so that no step waits for the device.

        Raises:
            ValueError: labels are missing, or given to a network without classes.
        """
        self._check_presence(labels)
        timestep = torch.full((len(x_i),), schedule.timesteps[i].item(), device=x_i.device)
        output = self.network(x_i, timestep, *(() if labels is None else (labels,)))
        output = getattr(output, "sample", output).float()
        first, v = output.chunk(2, dim=1) if self.variance == "learned_range" else (output, None)
        return Prediction(self._eps(first, x_i, i, schedule), v)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what is denoised, (C, H, W): an image, or a latent one."""
        return self.image.shape if self.latents is None else self.latents.shape

    def decoded(self, x: Tensor, *, smooth: bool = False) -> Tensor:
        """Images float32, about [-1, 1], of what is denoised; `smooth` gives them a gradient."""
        return x if self.latents is None else self.latents.decode(x, smooth=smooth)

    def encoded(self, images: Tensor) -> Tensor:
        """What is denoised, of images float32 (B, C, H, W) in [-1, 1]."""
        return images if self.latents is None else self.latents.encode(images)

    def any_class(self, images: int) -> Tensor | None:
        """Labels int64 (images,) for who asks of no class: the null class, or else class 0; None
        for a network without classes.
        """
        if self.classes is None:
            return None
        return torch.full((images,), self.null_class or 0, device=self.device)

    def with_network(self, network: nn.Module) -> Denoiser:
        """The same denoiser, with all it carries, around another frozen network."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "network": network}
        return twin

    def record(self) -> dict[str, Any]:
        """The part of an image's provenance that the denoiser determines: hashes of weights and
        process, and the image's shape.

        A file's hash does not tell as what it was read: options and half precision are added.
        """
        read_as: dict[str, Any] = {
            name: self.card[name] for name in ("settings", "dtype") if name in self.card
        }
        return {
            "weights": self.card.get("sha256") or state_sha256(self.network.state_dict()),
            "process": self._process_sha256(),
            "image": list(self.image.shape),
            **read_as,
        }

    def _process_sha256(self) -> str:
        """Hash of what decides the images besides the weights: schedule, prediction, variance."""
        digest = hashlib.sha256(self.schedule.alpha_bar.tobytes())
        digest.update(self.schedule.timesteps.tobytes())
        digest.update(repr((self.prediction, self.variance, self.clip, self.classes)).encode())
        sampled = self.schedule.spacing, self.schedule.final, self.schedule.noise_alone
        if sampled != (Spacing(), 1.0, False):  # or the hashes of folders that stand would change
            digest.update(repr(sampled).encode())
        return digest.hexdigest()

    def check_labels(self, labels: Tensor | None) -> None:
        """Check the labels of a whole run before it starts.

        Raises:
            ValueError: they are missing, not wanted, not int64 (N,), or beyond the classes.
        """
        self._check_presence(labels)
        if labels is None or self.classes is None:
            return
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise ValueError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; "
                "give int64 of shape (N,), one class index per image"
            )
        outside = [label for label in labels.tolist() if not 0 <= label < self.classes]
        if outside:
            raise ValueError(
                f"label {outside[0]} is no class of the model; give one of 0 to {self.classes - 1}"
            )

    def _check_presence(self, labels: Tensor | None) -> None:
        if labels is None and self.classes is not None:
            raise ValueError(
                f"the model is class-conditional and got no labels; give one per image, "
                f"0 to {self.classes - 1}"
            )
        if labels is not None and self.classes is None:
            raise ValueError("labels are given, and the model is unconditional; leave them out")

    def log_variance(self, prediction: Prediction, i: int, schedule: Schedule) -> Tensor:
        """Log of the reverse step's variance Sigma_i, broadcastable to the images."""
        if prediction.v is not None:
            return schedule.learned_log_variance(i, prediction.v)
        return schedule.fixed_log_variance(i, prediction.eps, large=self.variance == "fixed_large")

    def _eps(self, output: Tensor, x_i: Tensor, i: int, schedule: Schedule) -> Tensor:
        if self.prediction == "epsilon":
            return output
        if self.prediction == "v_prediction":
            return schedule.eps_of_velocity(output, x_i, i)
        alpha_bar = float(schedule.alpha_bar[i])
        signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        return (x_i - signal * output) / noise

    @property
    def device(self) -> torch.device:
        device: torch.device = next(iter(self.network.parameters()), torch.empty(0)).device
        return device
