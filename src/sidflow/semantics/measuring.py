"""What rules can see in a picture: colours, light, where the subject lies, lines and patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.contracts.pictures import rgb_to_lab
from sidflow.semantics.palette import NAMES, colour_index

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

PLAIN_DISTANCE = 10.0  # in L*a*b*: nearer to the border's colour than this looks the same
PLAIN_SHARE = 0.85  # of the border that must look like a background
EDGE = 6.0  # lightness steps a pixel from which on there is an edge
ORIENTATIONS = ("horizontal", "rising diagonal", "vertical", "falling diagonal")  # of lines, not of gradients


class Measurements(NamedTuple):
    """One row per picture. Before a plain background it is the subject that is measured, otherwise the whole picture.

    Shares are of the measured pixels, places run from 0 (left, top) to 1.
    """

    colours: Float32[np.ndarray, "b colours"]  # share of each of `palette.NAMES`
    background: UInt8[np.ndarray, "b 3"]  # sRGB of the border; meaningful where `plain`
    plain: Bool[np.ndarray, " b"]  # the subject stands before an empty background
    subject: Float32[np.ndarray, " b"]  # share of all pixels that differs from a plain background; 1 without one
    centre: Float32[np.ndarray, "b 2"]  # (x, y): of the subject, or of the detail where no background is plain
    lightness: Float32[np.ndarray, " b"]  # mean L*, 0 to 100
    contrast: Float32[np.ndarray, " b"]  # standard deviation of L*
    chroma: Float32[np.ndarray, " b"]  # mean distance from grey in L*a*b*
    edges: Float32[np.ndarray, " b"]  # share of the pixels that lie on an edge
    orientations: Float32[np.ndarray, "b 4"]  # share of the edges' strength that runs along each of `ORIENTATIONS`
    regularity: Float32[np.ndarray, " b"]  # share of the finer detail's power in its strongest frequency
    aspect: Float32[np.ndarray, " b"]  # width / height


def measure(pixels: UInt8[np.ndarray, "b side side 3"], aspect: Float32[np.ndarray, " b"]) -> Measurements:
    """Measure a batch of thumbnails; `aspect` is the width / height that each had before it was made square."""
    values = rgb_to_lab(pixels)
    lightness = values[..., 0]
    plain, background, subject = _background(pixels, values)
    counted = (subject | ~subject.any(axis=(1, 2), keepdims=True)).astype(np.float32)
    mean = _mean(lightness, counted)
    apart = (lightness - mean[:, None, None]) * counted
    gradient_y, gradient_x = np.gradient(lightness, axis=(1, 2))
    stretch = np.sqrt(aspect)[:, None, None]  # undo the squeezing: angles are those of the picture, not of the square
    gradient_x, gradient_y = gradient_x / stretch, gradient_y * stretch
    strength = np.hypot(gradient_x, gradient_y) * counted
    return Measurements(
        colours=_colour_shares(pixels, counted > 0),
        background=background,
        plain=plain,
        subject=subject.mean(axis=(1, 2), dtype=np.float32),
        centre=_centre(np.where(plain[:, None, None], subject, strength).astype(np.float32)),
        lightness=mean,
        contrast=np.sqrt(_mean(np.square(apart), counted)),
        chroma=_mean(np.hypot(values[..., 1], values[..., 2]), counted),
        edges=_mean((strength > EDGE).astype(np.float32), counted),
        orientations=_orientations(gradient_x, gradient_y, strength),
        regularity=_regularity(apart),
        aspect=aspect,
    )


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (values * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))


def _background(pixels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whether the border is plain, its colour, and which pixels [b, side, side] are the subject.

    The background of a row is the colour at its two ends, so that a floor below a wall, or a sky that fades, is one.
    It is plain where both ends agree, the colour hardly changes from row to row, and the top row looks like its ends.
    """
    width = max(1, values.shape[1] // 20)
    ends = np.stack([np.median(values[:, :, :width], axis=2), np.median(values[:, :, -width:], axis=2)])
    steps = np.linalg.norm(np.diff(ends, axis=2), axis=-1).mean(axis=(0, 2))
    agree = np.mean(np.linalg.norm(ends[0] - ends[1], axis=-1) < PLAIN_DISTANCE, axis=1)
    near = np.zeros(values.shape[:3], dtype=bool)
    for end in ends:
        near |= np.square(values - end[:, :, None]).sum(axis=-1) < PLAIN_DISTANCE**2
    top = np.mean(near[:, :width], axis=(1, 2))
    plain = np.asarray((agree >= PLAIN_SHARE) & (top >= PLAIN_SHARE) & (steps < PLAIN_DISTANCE / 3))
    border = np.concatenate([pixels[:, :, :width], pixels[:, :, -width:]], axis=2)
    subject = ~(near & plain.reshape(-1, 1, 1))
    return plain, np.median(border, axis=(1, 2)).astype(np.uint8), subject


def _colour_shares(pixels: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return [b, colours] shares among the counted pixels."""
    batch = len(pixels)
    index = colour_index(pixels).astype(np.int64) + np.arange(batch)[:, None, None] * len(NAMES)
    counts = np.bincount(index[counted], minlength=batch * len(NAMES)).reshape(batch, len(NAMES))
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def _centre(mass: np.ndarray) -> np.ndarray:
    side = mass.shape[1]
    place = ((np.arange(side) + 0.5) / side).astype(np.float32)
    total = mass.sum(axis=(1, 2))
    safe = np.where(total > 0, total, 1)
    x = (mass.sum(axis=1) * place).sum(axis=1) / safe
    y = (mass.sum(axis=2) * place).sum(axis=1) / safe
    return np.where(total[:, None] > 0, np.stack([x, y], axis=1), np.float32(0.5)).astype(np.float32)


def _orientations(gradient_x: np.ndarray, gradient_y: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Return [b, 4] shares: a line runs at a right angle to its gradient; y points down."""
    angle = np.arctan2(-gradient_y, gradient_x) + np.pi / 2
    sector = np.round(angle / (np.pi / 4)).astype(np.int64) % 4
    strong = np.where(strength > EDGE, strength, 0)
    total = np.stack([np.where(sector == each, strong, 0).sum(axis=(1, 2)) for each in range(4)], axis=1)
    return (total / np.maximum(total.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _regularity(apart: np.ndarray) -> np.ndarray:
    """Return [b]: near 0 for noise and single objects, towards 1 for stripes, checks and dots in a grid."""
    side = apart.shape[1]
    window = np.hanning(side)
    power = np.abs(np.fft.rfft2(apart * (window[:, None] * window[None, :]))) ** 2
    cycles = np.hypot(np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)[None, :])
    power = np.where((cycles >= 4.5) & (cycles <= side * 0.45), power, 0)
    total = power.sum(axis=(1, 2))
    around = sum(
        np.roll(power, (down, right), axis=(1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)
    )  # the window spreads a peak over its neighbours
    return (np.asarray(around).max(axis=(1, 2)) / np.where(total > side**2, total, np.inf)).astype(np.float32)
