"""What varies between pictures and is no label: pose, tones, background, light, noise.

Everything is drawn before, and independently of, the attributes: two pictures with one seed differ
in nothing but their attributes.
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
