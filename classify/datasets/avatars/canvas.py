"""A small supersampled canvas whose coordinates are those of a face.

One unit is a pixel of a 32-pixel picture, the origin is the middle of the face, x points right and
y down, so the frame spans about [-16, 16] on both axes before the pose (rotation, scale, shift)
moves it. Shapes are drawn with hard edges at `OVERSAMPLING` times the size and averaged on the way
out, which is faster than antialiased drawing and looks the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, ...]
"""RGB or RGBA, 0 to 255."""

Points = NDArray[np.float64] | Sequence[tuple[float, float]]
"""(N, 2) face coordinates."""

OVERSAMPLING = 4
UNITS = 32.0
"""Side of the frame in face units."""

_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
MIRROR = np.array([-1.0, 1.0])
"""Multiplies points of one side of the face to give the other side's."""


def blend(a: Colour, b: Colour, weight: float) -> Colour:
    """RGB colour `weight` of the way from `a` to `b`; weight in [0, 1]."""
    return tuple(round(p + weight * (q - p)) for p, q in zip(a[:3], b[:3], strict=True))


def ellipse(x: float, y: float, rx: float, ry: float) -> NDArray[np.float64]:
    """Outline (28, 2) of an axis-parallel ellipse about (x, y)."""
    return _CIRCLE * (rx, ry) + (x, y)


class Canvas:
    """An RGB picture that is drawn on in face coordinates."""

    def __init__(self, size: int, pose: NDArray[np.float64]) -> None:
        """Take the finished side in pixels and the (2, 3) affine map of face units."""
        self.size = size
        self._zoom = size * OVERSAMPLING / UNITS
        self._linear = pose[:, :2].T * self._zoom
        self._shift = (pose[:, 2] + UNITS / 2) * self._zoom
        self.image = Image.new("RGB", (size * OVERSAMPLING,) * 2)
        self._draw = ImageDraw.Draw(self.image, "RGBA")  # RGBA mode: translucent colours blend

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill the polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def line(self, points: Points, colour: Colour, width: float = 0.6) -> None:
        """Draw an open line `width` units thick."""
        self._draw.line(self._pixels(points), colour, round(width * self._zoom), joint="curve")

    def both(self, points: Points, colour: Colour) -> None:
        """Fill the polygon and its mirror image."""
        right = np.asarray(points)
        self.polygon(right, colour)
        self.polygon(right * MIRROR, colour)

    def both_lines(self, points: Points, colour: Colour, width: float = 0.6) -> None:
        """Draw the line and its mirror image."""
        right = np.asarray(points)
        self.line(right, colour, width)
        self.line(right * MIRROR, colour, width)

    def finished(self) -> Image.Image:
        """Return the picture at its final size."""
        return self.image.reduce(OVERSAMPLING)

    def _pixels(self, points: Points) -> list[float]:
        moved: list[float] = (np.asarray(points) @ self._linear + self._shift).ravel().tolist()
        return moved
