"""The same denoiser, faster: compiled, with its convolutions' weights channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from augment.denoiser import Denoiser

__all__ = ["optimised"]


class _ChannelsLast(nn.Module):
    """A network whose input is laid out channels last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        output = self.network(x.contiguous(memory_format=torch.channels_last), *conditions)
        result: Tensor = getattr(output, "sample", output)
        return result


def optimised(
    denoiser: Denoiser,
    *,
    channels_last: bool = True,
    compiled: bool = True,
    backend: str = "inductor",
) -> Denoiser:
    """A denoiser that makes the same images up to rounding.

    Args:
        denoiser: left as it is, but that `channels_last` lays out its weights anew.
        channels_last: pays for convolutions on GPUs with tensor cores, and a little on CPUs (5 to
            10 % with the embedded generator on one core).
        compiled: `torch.compile` the network; takes minutes, once for plain steps and once for
            guided ones, at their first.
        backend: torch.compile's.
    """
    network = denoiser.network
    if channels_last:
        network = _ChannelsLast(network.to(memory_format=torch.channels_last))
    if compiled:
        network = torch.compile(network, backend=backend)  # type: ignore[assignment]
    return denoiser.with_network(network)
