"""Small exact or counted denoisers that the tests of `augment` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from diffusers import UNet2DModel
from torch import Tensor, nn

from augment import Denoiser, ImageFormat, Schedule
from augment.denoiser import VarianceType
from augment.noise import PERTURBATION, NoiseStream
from augment.step import Step


class GaussianMixture(nn.Module):
    """The exact noise prediction for images drawn from sum_k weight_k N(mean_k, std^2 I).

    x_t is then a mixture with means sqrt(alpha_bar) mean_k and variance alpha_bar std^2 + 1 -
    alpha_bar, from which E[x_0 | x_t], and so eps, follows in closed form.
    """

    def __init__(
        self, schedule: Schedule, means: Sequence[float], weights: Sequence[float], std: float
    ) -> None:
        super().__init__()
        self.alpha_bar = torch.tensor(schedule.alpha_bar)
        self.means, self.log_weights, self.std = means, np.log(weights), std

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.alpha_bar[t].reshape(-1, 1, 1, 1).float()
        signal, variance = alpha_bar.sqrt(), alpha_bar * self.std**2 + 1 - alpha_bar
        logits, estimates = [], []
        for mean, log_weight in zip(self.means, self.log_weights, strict=True):
            away = x - signal * mean
            logits.append(log_weight - (away.square() / (2 * variance)).sum(dim=(1, 2, 3)))
            estimates.append(mean + signal * self.std**2 / variance * away)
        shares = torch.stack(logits).softmax(dim=0)[..., None, None, None]
        x0 = (shares * torch.stack(estimates)).sum(dim=0)
        return (x - signal * x0) / (1 - alpha_bar).sqrt()


class OptimalVariance(nn.Module):
    """The exact network for N(mean, std^2 I), with the variance that makes each reverse step exact.

    x_{i-1} given x_i is Gaussian, with variance beta~ + k^2 Var[x_0 | x_i], where k is the
    posterior mean's weight on x_0. v says so for the steps of one respaced schedule.
    """

    def __init__(self, full: Schedule, steps: int, mean: float, std: float) -> None:
        super().__init__()
        self.eps = GaussianMixture(full, [mean], [1.0], std)
        kept = full.respaced(steps)
        before, now, beta = kept.alpha_bar_previous, kept.alpha_bar, kept.beta
        of_x0 = std**2 * (1 - now) / (now * std**2 + 1 - now)
        exact = beta * (1 - before) / (1 - now) + (beta * before**0.5 / (1 - now)) ** 2 * of_x0
        low, high = kept.posterior_log_variance, np.log(beta)
        self.v = np.zeros(len(full))
        self.v[kept.timesteps[1:]] = (2 * (np.log(exact) - low) / (high - low) - 1)[1:]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        v = torch.full_like(x, float(self.v[int(t[0])]))
        return torch.cat([self.eps(x, t), v], dim=1)


class TinyNetwork(nn.Module):
    """A random, smooth convolutional network that knows the time and counts its calls."""

    def __init__(self, channels: int = 3, outputs: int | None = None, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(channels, 8, 3, padding=1)
            self.time = nn.Linear(1, 8)
            self.last = nn.Conv2d(8, outputs or channels, 3, padding=1)
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.forwards += 1
        hidden = self.first(x) + self.time(t.float().unsqueeze(1) / 1000)[..., None, None]
        output: Tensor = self.last(torch.tanh(hidden))
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1


def mixture_denoiser(
    means: Sequence[float] = (0.5, -0.5), weights: Sequence[float] = (0.9, 0.1), std: float = 0.15
) -> Denoiser:
    """Grey images of 4 x 4 pixels around two grey levels, the second of them rare."""
    schedule = Schedule.cosine()
    network = GaussianMixture(schedule, means, weights, std)
    return Denoiser(network, schedule, ImageFormat(channels=1, size=4))


def tiny_denoiser(variance: VarianceType = "learned_range", channels: int = 3) -> Denoiser:
    """A random network on 8 x 8 pixels, whose `network` counts its calls."""
    outputs = 2 * channels if variance == "learned_range" else channels
    return Denoiser(
        TinyNetwork(channels, outputs),
        Schedule.cosine(),
        ImageFormat(channels=channels, size=8),
        variance=variance,
    )


def tiny_unet(channels: int = 3, outputs: int | None = None, **changes: object) -> UNet2DModel:
    """A random UNet2DModel on 8 x 8 pixels."""
    config: dict[str, object] = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": outputs or channels,
        "layers_per_block": 1,
        "block_out_channels": (8, 8),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(**config | changes)


class ClassNetwork(nn.Module):
    """A network whose noise prediction depends on the class, and that notes the classes asked."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = TinyNetwork(1, 1)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(labels)
        output: Tensor = self.shared(x, t) + 0.2 * labels.reshape(-1, 1, 1, 1)
        return output


def class_denoiser(classes: int = 4) -> Denoiser:
    """A class-conditional random network on grey images of 8 x 8 pixels."""
    image = ImageFormat(channels=1, size=8)
    return Denoiser(ClassNetwork(), Schedule.cosine(), image, classes=classes)


class ShortOfMemory(nn.Module):
    """A network whose graph fits for so many images only; without a graph there is room enough."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.refused = network, most, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if x.requires_grad and len(x) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        output: Tensor = self.network(x, t)
        return output


def step_of(
    denoiser: Denoiser,
    i: int = 30,
    steps: int = 50,
    x: Tensor | None = None,
    seeds: range = range(3),
    *,
    labels: Tensor | None = None,
    linear: float | None = None,
) -> Step:
    """A step as the sampler makes it, with a graph, of `x` or of standard normal images.

    With `linear`, the estimate is so many times x_i, for closed forms, and the network is not
    asked. Of a model with classes, images have each class in turn if none are given.
    """
    schedule, shape = denoiser.schedule.respaced(steps), denoiser.image.shape
    if x is None:
        x = torch.randn(len(seeds), *shape, generator=torch.Generator().manual_seed(0))
    x_i = x.clone().requires_grad_(True)
    if labels is None and denoiser.classes is not None:
        labels = torch.arange(len(x)) % denoiser.classes
    if linear is None:
        prediction = denoiser(x_i, i, schedule, labels)
        estimate = schedule.predict_x0(x_i, i, prediction.eps)
        log_variance = denoiser.log_variance(prediction, i, schedule).detach()
    else:
        estimate, log_variance = linear * x_i, schedule.fixed_log_variance(i, x_i.detach())
    return Step(
        denoiser=denoiser,
        schedule=schedule,
        i=i,
        x_i=x_i,
        estimate=estimate,
        x0=estimate.detach(),
        log_variance=log_variance,
        perturbation=NoiseStream(seeds, PERTURBATION, shape, torch.device("cpu")),
        labels=labels,
        seeds=tuple(seeds),
    )


def random_alexnet() -> nn.Module:
    """AlexNet of torchvision with random weights in its trunk, and no classifier to speak of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = torchvision.models.alexnet()
    network.classifier = nn.Linear(2, 2)
    return network.eval()


def save_trunk(path: Path) -> Path:
    """Its weights, as the trunk of LPIPS."""
    torch.save(random_alexnet().state_dict(), path)
    return path
