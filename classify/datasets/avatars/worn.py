"""What a sitter wears: tie, necklace, earrings, glasses, hat."""

from __future__ import annotations

import numpy as np

from classify.datasets.avatars.canvas import Canvas, blend, ellipse
from classify.datasets.avatars.face import EYE
from classify.datasets.avatars.scene import Head

_GOLD = (255, 214, 30)
_PEARL = (255, 255, 250)
_FRAME = (18, 18, 26)


def draw_neckwear(canvas: Canvas, head: Head) -> None:
    """Collar and tie, and a string of pearls."""
    if "Wearing_Necktie" in head:
        canvas.both([(0, 14.6), (5.6, 10.6), (7.8, 13.4), (3.2, 17.5)], _PEARL)
        canvas.polygon(
            [(-1.7, 12.2), (1.7, 12.2), (1.2, 14.2), (2.6, 20), (-2.6, 20), (-1.2, 14.2)],
            (16, 26, 110),
        )
    if "Wearing_Necklace" in head:
        for x in np.linspace(-5.2, 5.2, 7):
            canvas.polygon(ellipse(x, 14.6 - 0.13 * x * x, 0.95, 0.95), (120, 60, 0))
            canvas.polygon(ellipse(x, 14.5 - 0.13 * x * x, 0.75, 0.75), _GOLD)


def draw_earrings(canvas: Canvas, head: Head) -> None:
    """Golden drops below the ears."""
    if "Wearing_Earrings" in head:
        x = head.half_width + 0.8
        canvas.both(ellipse(x, 3.4, 1.35, 1.7), (120, 60, 0))
        canvas.both(ellipse(x, 3.4, 1.0, 1.35), _GOLD)


def draw_glasses(canvas: Canvas, head: Head) -> None:
    """Dark round frames with a bridge and temples."""
    if "Eyeglasses" in head:
        x, y = EYE
        ring = ellipse(x, y, 2.95, 2.5)
        canvas.both(ring, (190, 215, 235, 60))
        canvas.both_lines(np.concatenate([ring, ring[:2]]), _FRAME, 0.9)
        canvas.line([(-1, y - 0.4), (1, y - 0.4)], _FRAME, 0.9)
        canvas.both_lines([(x + 2.9, y - 0.4), (head.half_width + 0.5, y - 0.8)], _FRAME, 0.8)


def draw_hat(canvas: Canvas, head: Head) -> None:
    """A hat with a dark ribbon and a brim, high enough to leave bangs in view."""
    if "Wearing_Hat" in head:
        x, colour = head.half_width, head.scene.hat
        canvas.polygon([(-x - 1, -8.5), (-x + 0.6, -15.5), (x - 0.6, -15.5), (x + 1, -8.5)], colour)
        canvas.polygon(
            [(-x - 0.8, -9.3), (-x - 0.4, -10.9), (x + 0.4, -10.9), (x + 0.8, -9.3)], _FRAME
        )
        canvas.polygon(
            [(-x - 4, -9.3), (x + 4, -9.3), (x + 3.6, -7.4), (-x - 3.6, -7.4)],
            blend(colour, _PEARL, 0.15),
        )
