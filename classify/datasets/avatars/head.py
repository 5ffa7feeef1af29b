"""The sitter: which attributes are on, and the measures and colours that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classify.datasets.avatars.canvas import Colour, blend
from classify.datasets.avatars.scene import Scene

_HAIR: dict[str, Colour] = {
    "Black_Hair": (28, 24, 32),
    "Blond_Hair": (236, 206, 98),
    "Brown_Hair": (112, 70, 36),
    "Gray_Hair": (178, 182, 190),
}
_UNNAMED_HAIR: Colour = (
    184,
    80,
    42,
)  # copper: a fifth colour for those whom CelebA gives none of the four
_PALE: Colour = (252, 238, 232)
_AGED: Colour = (206, 176, 140)
_BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True)
class Head:
    """Attributes of one sitter (names that are 1) in one scene."""

    on: frozenset[str]
    scene: Scene

    def __contains__(self, name: str) -> bool:
        return name in self.on

    @property
    def skin(self) -> Colour:
        """Colour of the lit skin."""
        base = self.scene.skin if "Young" in self else blend(self.scene.skin, _AGED, 0.5)
        return blend(base, _PALE, 0.9) if "Pale_Skin" in self else base

    def shade(self, weight: float) -> Colour:
        """The skin's colour, darkened by `weight` in [0, 1]: folds and shadows."""
        return blend(self.skin, (60, 20, 20), weight)

    @property
    def hair(self) -> Colour:
        """Colour of the hair."""
        base = next((colour for name, colour in _HAIR.items() if name in self), _UNNAMED_HAIR)
        return tuple(min(max(channel + self.scene.hair_shift, 0), 255) for channel in base)

    @property
    def dark_hair(self) -> Colour:
        """Colour of brows and beard: dark enough to stand out from the skin."""
        return blend(self.hair, _BLACK, 0.55)

    @property
    def half_width(self) -> float:
        """Half of the face's width, in units."""
        return 8.2 + 1.9 * ("Chubby" in self) - 1.5 * ("Oval_Face" in self)

    @property
    def chin(self) -> float:
        """Y of the chin's lowest point."""
        return 10.8 + 1.3 * ("Oval_Face" in self)

    def outline(self, inset: float = 0.0) -> NDArray[np.float64]:
        """The face's outline (48, 2), `inset` units inside it; men's jaws are square."""
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        cos, sin = np.cos(angles), np.sin(angles)
        below = sin > 0
        power = np.where(below, 2.9 if "Male" in self else 1.85, 2.1)
        power += 0.5 * below * ("Chubby" in self)
        height = np.where(below, self.chin, 11.5) - inset
        x = (self.half_width - inset) * np.sign(cos) * np.abs(cos) ** (2 / power)
        return np.stack([x, height * np.sign(sin) * np.abs(sin) ** (2 / power)], axis=1)

    def jaw(self, top: float, inset: float = 0.0) -> NDArray[np.float64]:
        """The part of the outline below y = `top`, from the right over the chin to the left."""
        points = self.outline(inset)
        return points[points[:, 1] >= top]
