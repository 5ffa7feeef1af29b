"""Where encoders come from: published networks, folders, TorchScript."""

from augment.metrics.encoders.load import load_encoder

__all__ = ["load_encoder"]
