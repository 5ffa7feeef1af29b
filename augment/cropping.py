"""The crop that guided-diffusion's models are trained on."""

from __future__ import annotations

from PIL import Image

__all__ = ["centre_crop"]


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The largest centred square, at `size` pixels a side.

    It halves the image by averaging while its short side is at least twice the size, then resizes
    (bicubic) and cuts, as guided-diffusion's loader does: for large images that blurs a little more
    than one bicubic step.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
