"""Hair of the head and of the face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classify.datasets.avatars.canvas import MIRROR, Canvas, Colour, blend, ellipse
from classify.datasets.avatars.scene import Head

_SKULL = -2.0
"""y of the widest part of the hair."""


def _locks(head: Head) -> float:
    """How far the hair's outline swings, in units."""
    return 0.95 if "Wavy_Hair" in head else 0.0


def _cap(head: Head, margin: float) -> NDArray[np.float64]:
    """Upper outline of the hair (45, 2), `margin` outside the skull, from right to left."""
    angle = np.linspace(0.0, -np.pi, 45)
    swing = 1 + _locks(head) / 11 * np.sin(11 * angle + np.pi / 2)
    power = 2 / (3.2 if "Straight_Hair" in head else 2.2)  # straight hair lies flat: squarer
    cos, sin = np.cos(angle), np.sin(angle)
    x = (head.half_width + margin) * np.sign(cos) * np.abs(cos) ** power * swing
    return np.stack([x, _SKULL - (9.6 + margin) * np.abs(sin) ** power * swing], axis=1)


def draw_back_hair(canvas: Canvas, head: Head) -> None:
    """Hair behind the head: to the ears for men, to the shoulders for women."""
    if "Bald" in head:
        return
    male = "Male" in head
    margin, length = (1.3, 3.0) if male else (2.7, 13.5)
    cap = _cap(head, margin)
    down = np.linspace(_SKULL, length, 16)[1:]
    swing = _locks(head) * 1.3 * np.sin((down - _SKULL) * 1.5)
    flare = 0.0 if "Straight_Hair" in head or male else 0.08
    side = np.stack([head.half_width + margin + flare * (down - _SKULL) + swing, down], axis=1)
    outline = np.concatenate([cap, side * MIRROR, side[::-1]])
    canvas.polygon(outline, blend(head.hair, (0, 0, 0), 0.18))
    if "Straight_Hair" in head:
        for offset in (0.6, 1.9) if not male else (0.6,):
            x = head.half_width + offset
            canvas.both_lines([(x, -8), (x, length)], _strand(head), 0.5)


def draw_front_hair(canvas: Canvas, head: Head) -> None:
    """Hair above the forehead with its strands, down to the hairline or the bangs."""
    if "Bald" in head:
        _draw_bald_crown(canvas, head)
        return
    cap = _cap(head, 1.3 if "Male" in head else 2.7)
    canvas.polygon(np.concatenate([cap, _hairline(head)]), head.hair)
    _draw_strands(canvas, head)
    if "Bangs" in head:
        _draw_bangs(canvas, head)


def _draw_bald_crown(canvas: Canvas, head: Head) -> None:
    """A shining skull; a hairline that only recedes leaves a fringe above the ears."""
    canvas.polygon(ellipse(-2.5, -8.2, 2.6, 1.3), (255, 252, 240, 190))
    if "Receding_Hairline" in head:
        x = head.half_width
        canvas.both([(x + 0.9, -1.5), (x + 0.4, -7.0), (x - 1.6, -7.6), (x - 1.0, -2.0)], head.hair)


def _hairline(head: Head) -> NDArray[np.float64]:
    """Lower edge of the front hair from the left temple to the right one."""
    x = head.half_width
    if "Receding_Hairline" in head:
        right = [(0.0, -8.3), (1.6, -8.5), (3.0, -11.0)]
        right += [(x - 2.4, -10.2), (x - 0.3, -6.0), (x + 0.3, -2.0)]
    else:
        right = [(0.0, -7.6), (2.5, -7.6), (x - 2.6, -6.8), (x - 1.0, -5.0), (x - 0.2, -2.0)]
    half = np.array(right)
    return np.concatenate([half[:0:-1] * MIRROR, half])


def _strand(head: Head) -> Colour:
    """A colour that stands out from the hair: darker on light hair, lighter on dark hair."""
    light = sum(head.hair) > 330
    return blend(head.hair, (40, 20, 10), 0.55) if light else blend(head.hair, (255, 225, 190), 0.4)


def _draw_strands(canvas: Canvas, head: Head) -> None:
    top = -12.2 if "Male" in head else -13.2
    if "Straight_Hair" in head:
        for x in np.linspace(0.9, head.half_width - 0.6, 4):
            sag = 0.03 * x * x
            canvas.both_lines([(x, top + sag), (x, sag - 8.4)], _strand(head), 0.5)
    if "Wavy_Hair" in head:
        x = np.linspace(-head.half_width, head.half_width, 33)
        for y in (top + 1.3, top + 3.4):
            wave = y + 0.05 * x * x + 0.7 * np.sin(1.7 * x)
            canvas.line(np.stack([x, wave], axis=1), _strand(head), 0.6)


def _draw_bangs(canvas: Canvas, head: Head) -> None:
    """A fringe to the brows with three notches."""
    x = head.half_width - 0.8
    fringe = [(-x, -9.0), (x, -9.0), (x, -4.6)]
    for notch in (0.6, 0.0, -0.6):
        fringe += [((notch + 0.25) * x, -4.6), (notch * x, -6.2), ((notch - 0.25) * x, -4.6)]
    canvas.polygon([*fringe, (-x, -4.6)], blend(head.hair, (0, 0, 0), 0.25))


def draw_beard(canvas: Canvas, head: Head) -> None:
    """A beard along the jaw unless No_Beard, a goatee on the chin, sideburns before the ears."""
    colour = head.dark_hair
    if "No_Beard" not in head:
        outer, inner = head.jaw(top=3.0), head.jaw(top=3.0, inset=1.7)
        canvas.polygon(np.concatenate([outer, inner[::-1]]), colour)
    if "Goatee" in head:
        tuft = [(-3, -3), (3, -3), (2.6, 1), (0, 2.6), (-2.6, 1)]
        canvas.polygon(np.array(tuft) + (0, head.chin), colour)
    if "Sideburns" in head:
        x = head.half_width
        canvas.both([(x + 0.2, -4), (x - 2.0, -4), (x - 2.2, 3.2), (x - 0.4, 3.6)], colour)


def draw_mustache(canvas: Canvas, head: Head) -> None:
    """A mustache between nose and lip."""
    if "Mustache" in head:
        canvas.both([(0, 3.7), (2.2, 4.1), (4.6, 6.6), (2.4, 5.7), (0, 5.5)], head.dark_hair)
