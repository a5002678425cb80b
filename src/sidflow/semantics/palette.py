"""Colour names of pixels and backgrounds: that of the nearest reference colour in CIE L*a*b*."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from sidflow.contracts.pictures import rgb_to_lab

if TYPE_CHECKING:
    from jaxtyping import Int8, UInt8

_REFERENCE_COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {  # sRGB; a name may have several references
    "black": ((12, 12, 12), (30, 30, 32)),
    "dark grey": ((70, 70, 70),),
    "grey": ((128, 128, 128),),
    "light grey": ((192, 192, 192),),
    "white": ((255, 255, 255), (236, 236, 236)),
    "red": ((214, 30, 35), (235, 70, 60)),
    "maroon": ((110, 20, 25), (75, 15, 20)),
    "orange": ((245, 130, 20), (225, 105, 30)),
    "brown": ((110, 65, 30), (75, 45, 25), (145, 95, 55)),
    "tan": ((195, 160, 120), (175, 140, 100)),
    "beige": ((232, 218, 190), (245, 235, 215)),
    "gold": ((205, 160, 45),),
    "yellow": ((250, 220, 40), (245, 235, 110)),
    "olive": ((115, 115, 40), (85, 85, 40)),
    "green": ((50, 150, 60), (100, 190, 90)),
    "dark green": ((20, 70, 35), (25, 50, 30)),
    "light green": ((170, 220, 160),),
    "teal": ((20, 120, 120), (20, 80, 85)),
    "turquoise": ((70, 205, 200),),
    "light blue": ((150, 195, 235), (110, 170, 225)),
    "blue": ((40, 95, 200), (30, 60, 160), (70, 120, 180)),
    "navy": ((20, 30, 80), (25, 35, 60)),
    "purple": ((110, 50, 150), (75, 40, 95)),
    "lavender": ((190, 170, 220),),
    "pink": ((245, 170, 190), (235, 120, 165)),
    "magenta": ((200, 30, 130),),
}
COLOUR_NAMES: tuple[str, ...] = tuple(_REFERENCE_COLOURS)
_BACKGROUND_COLOURS = _REFERENCE_COLOURS | {  # most backgrounds are light, and tints of white have names here
    "white": ((255, 255, 255), (250, 250, 250)),
    "off-white": ((236, 236, 236),),
    "cream": ((247, 242, 233), (250, 243, 224), (248, 239, 232)),
    "pale pink": ((248, 233, 238), (252, 224, 232)),
    "pale lavender": ((244, 233, 247), (232, 220, 244)),
    "pale blue": ((233, 240, 247), (220, 234, 250)),
    "pale turquoise": ((230, 246, 246), (214, 243, 241)),
    "pale green": ((234, 247, 238), (220, 243, 222)),
    "pale yellow": ((250, 248, 228), (250, 247, 205)),
}
_LOOKUP_BITS = 5  # of each channel, in the look-up table


@cache
def _lookup() -> np.ndarray:
    step = 1 << (8 - _LOOKUP_BITS)
    axis = np.arange(0, 256, step) + step // 2
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return _nearest(cells.astype(np.uint8), _REFERENCE_COLOURS)


def _nearest(rgb: np.ndarray, references: Mapping[str, tuple[tuple[int, int, int], ...]]) -> np.ndarray:
    """Return for each row of `rgb` the index of the name whose reference colour is nearest."""
    reference = rgb_to_lab(np.array([colour for colours in references.values() for colour in colours], dtype=np.uint8))
    owner = np.array([index for index, colours in enumerate(references.values()) for _ in colours], dtype=np.int8)
    return owner[np.square(rgb_to_lab(rgb)[:, None, :] - reference).sum(axis=-1).argmin(axis=1)]


def colour_index(rgb: UInt8[np.ndarray, "*shape 3"]) -> Int8[np.ndarray, "*shape"]:
    """Return for each pixel the index in `COLOUR_NAMES` of its colour."""
    cell = (rgb >> (8 - _LOOKUP_BITS)).astype(np.int32)
    return _lookup()[(cell[..., 0] << (2 * _LOOKUP_BITS)) | (cell[..., 1] << _LOOKUP_BITS) | cell[..., 2]]


def background_name(rgb: UInt8[np.ndarray, 3]) -> str:
    """Return the name of a background's colour, tints of white included."""
    return tuple(_BACKGROUND_COLOURS)[int(_nearest(rgb[None], _BACKGROUND_COLOURS)[0])]
