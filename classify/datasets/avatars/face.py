"""Bust, skin and features of a face: everything that neither grows nor is worn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classify.datasets.avatars.canvas import Canvas, blend, ellipse
from classify.datasets.avatars.scene import Head

EYE = (3.6, -1.6)
"""Middle of the right-hand eye; the other is its mirror image."""
_WHITE = (250, 250, 250)
_LASHES = (25, 18, 20)
_BRUISE = (72, 30, 96)


def draw_bust(canvas: Canvas, head: Head) -> None:
    """Shoulders, neck and ears."""
    clothes = head.scene.clothes
    canvas.polygon([(-20, 22), (-17, 14), (-5, 11.5), (5, 11.5), (17, 14), (20, 22)], clothes)
    neck = 4.6 if "Male" in head else 3.6
    canvas.polygon(
        [(-neck, 6), (neck, 6), (neck + 0.6, 12), (0, 15.5), (-neck - 0.6, 12)], head.shade(0.18)
    )
    canvas.both(ellipse(head.half_width + 0.2, -0.2, 1.5, 2.3), head.shade(0.12))


def draw_head(canvas: Canvas, head: Head) -> None:
    """Double chin and the head itself with the marks on its skin."""
    if "Double_Chin" in head:
        fold = ellipse(0, head.chin - 0.6, 6.4, 3.1)
        canvas.polygon(fold, head.shade(0.8))
        canvas.polygon(fold * (0.94, 1) - (0, 0.8), head.skin)
    canvas.polygon(head.outline(), head.shade(0.45 if "Double_Chin" in head else 0.2))
    canvas.polygon(head.outline(inset=0.45), head.skin)
    if "5_o_Clock_Shadow" in head:
        canvas.polygon(head.jaw(top=2.5, inset=0.45), (62, 78, 105, 120))
    _draw_cheeks(canvas, head)
    if "Young" not in head:
        _draw_wrinkles(canvas, head)


def _draw_cheeks(canvas: Canvas, head: Head) -> None:
    x = head.half_width
    bones = "High_Cheekbones" in head
    if bones:
        hollow = [(x - 0.6, 2.0), (x - 3.4, 3.2), (x - 3.9, 5.4), (x - 1.2, 3.4)]
        canvas.both(hollow, head.shade(0.5))
    if "Rosy_Cheeks" in head:
        canvas.both(ellipse(x - 2.7, 3.4, 2.1, 1.9), (250, 50, 105, 200))
    if bones:
        ridge = [(x - 0.6, -0.2), (x - 3.4, 1.6), (x - 3.6, 2.6), (x - 0.8, 1.6)]
        canvas.both(ridge, (255, 250, 235, 215))


def _draw_wrinkles(canvas: Canvas, head: Head) -> None:
    fold = head.shade(0.62)
    for y in (-6.9, -5.6):
        canvas.line([(-3.6, y), (0, y - 0.3), (3.6, y)], fold, 0.7)
    canvas.both_lines([(1.9, 3.2), (3.6, 4.6), (5.2, 7.4)], fold, 0.9)
    canvas.both_lines([(5.9, -1.2), (7.4, -2.0)], fold, 0.6)
    canvas.both_lines([(5.9, -0.8), (7.4, -0.2)], fold, 0.6)


def draw_eyes(canvas: Canvas, head: Head) -> None:
    """Eyes with eye shadow (make-up), bags and lashes."""
    x, y = EYE
    height = 0.5 if "Narrow_Eyes" in head else 1.45
    if "Heavy_Makeup" in head:
        canvas.both(ellipse(x + 0.2, y - 0.8, 2.7, 1.8), (120, 40, 205, 225))
    if "Bags_Under_Eyes" in head:
        canvas.both(ellipse(x, y + 1.7, 2.4, 2.0), blend(head.skin, _BRUISE, 0.75))
        canvas.both(ellipse(x, y + 0.4, 2.5, 1.8), head.skin)
    canvas.both(ellipse(x, y, 2.0, height), _WHITE)
    canvas.both(ellipse(x, y, 0.95, min(height, 1.05)), head.scene.eyes)
    canvas.both(ellipse(x, y, 0.4, min(height, 0.5)), _LASHES)
    top = y - height * 0.85
    lid = [(x - 2.0, y - 0.2), (x - 1.0, top), (x + 1.0, top), (x + 2.1, y - 0.1)]
    canvas.both_lines(lid, _LASHES, 0.4 if "Male" in head else 0.75)
    if "Male" not in head:
        canvas.both_lines([(x + 1.7, y - 0.3), (x + 2.8, y - 1.1)], _LASHES, 0.6)


def draw_brows(canvas: Canvas, head: Head) -> None:
    """Eyebrows: flat or arched, thin or bushy."""
    rise = 1.7 if "Arched_Eyebrows" in head else 0.1
    thick = 1.15 if "Bushy_Eyebrows" in head else 0.35
    x = np.array([1.5, 2.7, 4.0, 5.2, 6.2])
    middle = np.array([-4.3, -4.4, -4.5, -4.4, -4.1]) - rise * np.array([0.0, 0.7, 1.0, 0.5, 0.0])
    canvas.both(_band(x, middle, thick * np.array([0.7, 1.0, 1.0, 0.9, 0.3])), head.dark_hair)


def draw_nose(canvas: Canvas, head: Head) -> None:
    """Nose: short; wide with nostrils when big, a long two-sided wedge when pointy."""
    big, pointy = "Big_Nose" in head, "Pointy_Nose" in head
    wide, tip = (2.9 if big else 1.1), 3.0
    if pointy:
        canvas.polygon([(0, -2.6), (wide + 0.7, tip - 0.2), (0, tip + 1.3)], head.shade(0.65))
        canvas.polygon([(0, -2.6), (-wide - 0.1, tip - 0.2), (0, tip + 1.3)], (255, 246, 228))
    elif big:
        canvas.polygon(ellipse(0, tip - 0.6, wide + 0.2, 2.1), head.shade(0.5))
        canvas.polygon(ellipse(0, tip - 1.1, wide - 0.6, 1.8), head.skin)
    else:
        canvas.line([(-wide, tip - 0.2), (0, tip + 0.2), (wide, tip - 0.2)], head.shade(0.5), 0.6)
    if big:
        canvas.both(ellipse(1.4, tip + 0.5, 0.9, 0.7), head.shade(0.9))


def draw_mouth(canvas: Canvas, head: Head) -> None:
    """Lips about a parabola: its ends are up when smiling, thick when big, red with lipstick."""
    smiling = "Smiling" in head
    lip = 2.1 if "Big_Lips" in head else 0.9
    gap = 2.4 if "Mouth_Slightly_Open" in head else 0.0
    across = np.linspace(-1, 1, 15)
    bulge = 1 - across**2
    corner = -2.6 if smiling else 0.9
    x = across * (4.6 if smiling else 3.4)
    y = 6.5 + corner * (across**2 - 0.35)
    colour = (222, 12, 48) if "Wearing_Lipstick" in head else head.shade(0.48)
    canvas.polygon(_band(x, y, (gap / 2 + lip) * bulge), colour)
    if gap:
        canvas.polygon(_band(x, y, gap / 2 * bulge), (45, 8, 15))
        teeth = y - gap / 2 * bulge + 0.35
        canvas.polygon(_band(0.8 * x[2:-2], teeth[2:-2], np.full(11, 0.35)), _WHITE)
    else:
        canvas.line(np.stack([x, y], axis=1), (95, 20, 25), 0.5)


def _band(
    x: NDArray[np.float64], y: NDArray[np.float64], half_height: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Outline (2 N, 2) of the area within `half_height` (N,) of the curve (x, y), each (N,)."""
    upper = np.stack([x, y - half_height], axis=1)
    lower = np.stack([x, y + half_height], axis=1)
    return np.concatenate([upper, lower[::-1]])
