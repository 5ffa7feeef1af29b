"""A face from 40 attributes: the layers of the picture, from the background to the lens.

Every attribute of CelebA but `Attractive` has a cue that is visible at 32 pixels; what is no
attribute comes from the scene, which depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

from classify.datasets.avatars import face, hair, worn
from classify.datasets.avatars.canvas import OVERSAMPLING, UNITS, Canvas
from classify.datasets.avatars.distribution import ATTRIBUTES
from classify.datasets.avatars.scene import Head, Scene

_LAYERS = (
    hair.draw_back_hair,
    face.draw_bust,
    worn.draw_neckwear,
    face.draw_head,
    hair.draw_beard,
    face.draw_nose,
    face.draw_mouth,
    hair.draw_mustache,
    face.draw_eyes,
    hair.draw_front_hair,
    face.draw_brows,
    worn.draw_glasses,
    worn.draw_earrings,
    worn.draw_hat,
)
_BLUR = 0.95
"""Standard deviation of a blurry picture's defocus, in units."""


def draw(
    attributes: Sequence[int] | NDArray[np.integer], seed: int, size: int = 32
) -> NDArray[np.uint8]:
    """Draw one face.

    Args:
        attributes: 40 values 1 or 0 in the order of `ATTRIBUTES`; contradictions are drawn as well
            as they can be.
        seed: Chooses everything that is no attribute; the same arguments give the same bytes.
        size: Side of the picture in pixels.

    Returns:
        uint8 (size, size, 3), RGB.
    """
    on = frozenset(name for name, value in zip(ATTRIBUTES, attributes, strict=True) if value == 1)
    rng = np.random.default_rng(seed)
    head = Head(on, Scene.random(rng))
    canvas = Canvas(size, head.scene.pose)
    canvas.image.paste(head.scene.background(size * OVERSAMPLING))
    for layer in _LAYERS:
        layer(canvas, head)
    picture = canvas.finished()
    if "Blurry" in head:
        picture = picture.filter(ImageFilter.GaussianBlur(_BLUR * size / UNITS))
    return head.scene.expose(picture, rng)
