"""From a folder of small images to one of large ones, as ADM's 64-to-256 chain for ImageNet."""

from augment.upsample.files import upsample

__all__ = ["upsample"]
