"""Measurements of pictures: colours and their names, light, layout, texture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.artifacts.item_content import rgb_to_lab

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int8, UInt8


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
def _colour_table() -> np.ndarray:
    step = 1 << (8 - _LOOKUP_BITS)
    axis = np.arange(0, 256, step) + step // 2
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return _nearest(cells.astype(np.uint8), _REFERENCE_COLOURS)


def _nearest(rgb: np.ndarray, references: Mapping[str, tuple[tuple[int, int, int], ...]]) -> np.ndarray:
    """Return for each row of `rgb` the index of the name whose reference colour is nearest."""
    reference = rgb_to_lab(np.array([colour for colours in references.values() for colour in colours], dtype=np.uint8))
    name_index = np.array([index for index, colours in enumerate(references.values()) for _ in colours], dtype=np.int8)
    return name_index[np.square(rgb_to_lab(rgb)[:, None, :] - reference).sum(axis=-1).argmin(axis=1)]


def colour_index(rgb: UInt8[np.ndarray, "*shape 3"]) -> Int8[np.ndarray, "*shape"]:
    """Return for each pixel the index in `COLOUR_NAMES` of its colour."""
    cell = (rgb >> (8 - _LOOKUP_BITS)).astype(np.int32)
    return _colour_table()[(cell[..., 0] << (2 * _LOOKUP_BITS)) | (cell[..., 1] << _LOOKUP_BITS) | cell[..., 2]]


def background_name(rgb: UInt8[np.ndarray, 3]) -> str:
    """Return the name of a background's colour, tints of white included."""
    return tuple(_BACKGROUND_COLOURS)[int(_nearest(rgb[None], _BACKGROUND_COLOURS)[0])]


PLAIN_DISTANCE = 10.0  # in L*a*b*; a pixel nearer to the border's colour belongs to the background
PLAIN_SHARE = 0.85  # of the border that must belong to a plain background
EDGE_STRENGTH = 6.0  # lightness change per pixel above which it is an edge
LINE_DIRECTIONS = ("horizontal", "rising diagonal", "vertical", "falling diagonal")  # of lines, not of gradients


class Measurements(NamedTuple):
    """One row per picture; the subject is measured where the background is plain, otherwise the whole picture.

    Shares are of the measured pixels. Coordinates run from 0 (left, top) to 1 (right, bottom).
    """

    colours: Float32[np.ndarray, "b colours"]  # share of each of `COLOUR_NAMES`
    background: UInt8[np.ndarray, "b 3"]  # sRGB of the border; meaningful where `plain`
    plain: Bool[np.ndarray, " b"]  # the background is plain
    subject: Float32[np.ndarray, " b"]  # share of all pixels that differs from a plain background; 1 without one
    centre: Float32[np.ndarray, "b 2"]  # (x, y): of the subject, or of the detail where no background is plain
    lightness: Float32[np.ndarray, " b"]  # mean L*, 0 to 100
    contrast: Float32[np.ndarray, " b"]  # standard deviation of L*
    chroma: Float32[np.ndarray, " b"]  # mean distance from grey in L*a*b*
    edges: Float32[np.ndarray, " b"]  # share of the pixels that lie on an edge
    orientations: Float32[np.ndarray, "b 4"]  # share of the edges' strength that runs along each of `LINE_DIRECTIONS`
    regularity: Float32[np.ndarray, " b"]  # share of the finer detail's power in its strongest frequency
    aspect: Float32[np.ndarray, " b"]  # width / height


def measure_pictures(pixels: UInt8[np.ndarray, "b side side 3"], aspect: Float32[np.ndarray, " b"]) -> Measurements:
    """Return the measurements of a batch of thumbnails; `aspect` is the original width / height of each."""
    values = rgb_to_lab(pixels)
    lightness = values[..., 0]
    plain, background, subject = _background(pixels, values)
    mask = (subject | ~subject.any(axis=(1, 2), keepdims=True)).astype(np.float32)
    mean = _mean(lightness, mask)
    deviation = (lightness - mean[:, None, None]) * mask
    gradient_y, gradient_x = np.gradient(lightness, axis=(1, 2))
    stretch = np.sqrt(aspect)[:, None, None]  # so that angles are those of the original picture
    gradient_x, gradient_y = gradient_x / stretch, gradient_y * stretch
    strength = np.hypot(gradient_x, gradient_y) * mask
    return Measurements(
        colours=_colour_shares(pixels, mask > 0),
        background=background,
        plain=plain,
        subject=subject.mean(axis=(1, 2), dtype=np.float32),
        centre=_centre(np.where(plain[:, None, None], subject, strength).astype(np.float32)),
        lightness=mean,
        contrast=np.sqrt(_mean(np.square(deviation), mask)),
        chroma=_mean(np.hypot(values[..., 1], values[..., 2]), mask),
        edges=_mean((strength > EDGE_STRENGTH).astype(np.float32), mask),
        orientations=_orientations(gradient_x, gradient_y, strength),
        regularity=_regularity(deviation),
        aspect=aspect,
    )


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (values * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))


def _background(pixels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whether the border is plain, its colour, and which pixels [b, side, side] are the subject.

    The background of a pixel row is the colour at its two ends, so that a fading sky counts as background. It is plain
    where both ends agree, the colour changes little from row to row, and the top rows have the colour of their ends.
    """
    width = max(1, values.shape[1] // 20)
    end_colours = np.stack([np.median(values[:, :, :width], axis=2), np.median(values[:, :, -width:], axis=2)])
    row_changes = np.linalg.norm(np.diff(end_colours, axis=2), axis=-1).mean(axis=(0, 2))
    agreement = np.mean(np.linalg.norm(end_colours[0] - end_colours[1], axis=-1) < PLAIN_DISTANCE, axis=1)
    is_background = np.zeros(values.shape[:3], dtype=bool)
    for end_colour in end_colours:
        is_background |= np.square(values - end_colour[:, :, None]).sum(axis=-1) < PLAIN_DISTANCE**2
    top_share = np.mean(is_background[:, :width], axis=(1, 2))
    plain = np.asarray((agreement >= PLAIN_SHARE) & (top_share >= PLAIN_SHARE) & (row_changes < PLAIN_DISTANCE / 3))
    border = np.concatenate([pixels[:, :, :width], pixels[:, :, -width:]], axis=2)
    subject = ~(is_background & plain.reshape(-1, 1, 1))
    return plain, np.median(border, axis=(1, 2)).astype(np.uint8), subject


def _colour_shares(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the colours' shares of the pixels in `mask`, [b, colours]."""
    batch = len(pixels)
    index = colour_index(pixels).astype(np.int64) + np.arange(batch)[:, None, None] * len(COLOUR_NAMES)
    counts = np.bincount(index[mask], minlength=batch * len(COLOUR_NAMES)).reshape(batch, len(COLOUR_NAMES))
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def _centre(mass: np.ndarray) -> np.ndarray:
    side = mass.shape[1]
    coordinate = ((np.arange(side) + 0.5) / side).astype(np.float32)
    total = mass.sum(axis=(1, 2))
    divisor = np.where(total > 0, total, 1)
    x = (mass.sum(axis=1) * coordinate).sum(axis=1) / divisor
    y = (mass.sum(axis=2) * coordinate).sum(axis=1) / divisor
    return np.where(total[:, None] > 0, np.stack([x, y], axis=1), np.float32(0.5)).astype(np.float32)


def _orientations(gradient_x: np.ndarray, gradient_y: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return [b, 4] shares: a line runs at a right angle to its gradient; y points down."""
    angle = np.arctan2(-gradient_y, gradient_x) + np.pi / 2
    sector = np.round(angle / (np.pi / 4)).astype(np.int64) % 4
    edge_strength = np.where(strength > EDGE_STRENGTH, strength, 0)
    total = np.stack(
        [np.where(sector == direction, edge_strength, 0).sum(axis=(1, 2)) for direction in range(4)], axis=1
    )
    return (total / np.maximum(total.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _regularity(deviation: np.ndarray) -> np.ndarray:
    """Return [b]: near 0 for noise and single objects, towards 1 for stripes, checks and dots in a grid."""
    side = deviation.shape[1]
    window = np.hanning(side)
    power = np.abs(np.fft.rfft2(deviation * (window[:, None] * window[None, :]))) ** 2
    cycles = np.hypot(np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)[None, :])
    power = np.where((cycles >= 4.5) & (cycles <= side * 0.45), power, 0)
    total = power.sum(axis=(1, 2))
    neighbourhood = sum(
        np.roll(power, (down, right), axis=(1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)
    )  # the window spreads a peak over its neighbours
    return (np.asarray(neighbourhood).max(axis=(1, 2)) / np.where(total > side**2, total, np.inf)).astype(np.float32)
