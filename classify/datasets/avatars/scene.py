"""Who is drawn, and in what scene.

A `Scene` is what varies between pictures and is no label: pose, tones, background, light, noise. It
is drawn before, and independently of, the attributes: two pictures with one seed differ in nothing
but their attributes. A `Head` adds these, with the measures and colours that follow from them.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classify.datasets.avatars.canvas import Colour, blend

_SKIN_LIGHT, _SKIN_DARK = (240, 190, 152), (176, 122, 86)
_EYES: tuple[Colour, ...] = ((60, 38, 25), (35, 85, 150), (50, 115, 65))
_HAIR: dict[str, Colour] = {
    "Black_Hair": (28, 24, 32),
    "Blond_Hair": (236, 206, 98),
    "Brown_Hair": (112, 70, 36),
    "Gray_Hair": (178, 182, 190),
}
_UNNAMED_HAIR: Colour = (184, 80, 42)
"""Copper: a fifth colour for those whom CelebA gives none of the four."""
_PALE: Colour = (252, 238, 232)
_AGED: Colour = (206, 176, 140)
_BLACK: Colour = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The nuisance variables of one picture."""

    pose: NDArray[np.float64]
    """(2, 3) affine map of face units: rotation and scale beside the shift."""
    skin: Colour
    eyes: Colour
    hair_shift: int
    """Grey levels added to the hair's colour."""
    clothes: Colour
    hat: Colour
    backdrop: tuple[Colour, Colour]
    """Colours of the two ends of the background's gradient."""
    backdrop_angle: float
    light_angle: float
    light_strength: float
    """Relative change of brightness from the middle to the border, at most 0.15."""
    noise: float
    """Standard deviation of the sensor's noise in grey levels."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Scene:
        """Draw a scene; always takes the same amount from `rng`."""
        angle = np.deg2rad(rng.uniform(-7, 7))
        scale = rng.uniform(0.92, 1.03)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        shift = rng.uniform(-1, 1, 2) + (0, -1)  # up a little: the neck needs its place
        near = _hsv(rng.random(), rng.uniform(0.1, 0.35), rng.uniform(0.5, 0.8))
        return cls(
            pose=np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]]),
            skin=blend(_SKIN_LIGHT, _SKIN_DARK, rng.random()),
            eyes=_EYES[rng.integers(len(_EYES))],
            hair_shift=int(rng.integers(-10, 11)),
            clothes=_hsv(rng.random(), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.65)),
            hat=_hsv(rng.uniform(0.25, 0.9), 0.75, rng.uniform(0.55, 0.8)),
            backdrop=(near, blend(near, (255, 255, 255), rng.uniform(0.0, 0.5))),
            backdrop_angle=rng.uniform(0, 2 * np.pi),
            light_angle=rng.uniform(0, 2 * np.pi),
            light_strength=rng.uniform(0.03, 0.15),
            noise=rng.uniform(1.5, 2.5),
        )

    def background(self, size: int) -> Image.Image:
        """The empty background, (size, size), RGB."""
        weight = (_ramp(size, self.backdrop_angle)[..., None] + 1) / 2
        first, last = (np.array(colour) for colour in self.backdrop)
        return Image.fromarray((first + weight * (last - first)).astype(np.uint8))

    def expose(self, picture: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Light the picture from a side, add the sensor's noise: RGB to uint8 (size, size, 3)."""
        pixels = np.asarray(picture, dtype=np.float32)
        light = 1 + self.light_strength * _ramp(picture.width, self.light_angle)
        grain = self.noise * rng.standard_normal(pixels.shape, dtype=np.float32)
        exposed: NDArray[np.float32] = np.rint(pixels * light[..., None] + grain)
        return exposed.clip(0, 255).astype(np.uint8)


def _ramp(size: int, angle: float) -> NDArray[np.float32]:
    """(size, size) plane that rises from about -1 to 1 in direction `angle`."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    plane = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]
    ramp: NDArray[np.float32] = plane / np.float32(abs(np.cos(angle)) + abs(np.sin(angle)))
    return ramp


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))


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
