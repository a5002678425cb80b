"""Product shapes: each category has a body, filled with the surface pattern, and a trim in the dark tone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sidflow.core.errors import InputError


class Shape(NamedTuple):
    """The two masks of a product, as images of mode L."""

    body: Image.Image
    trim: Image.Image


class _Pen:
    """Draws on both masks in a unit square, stretched at random so that products differ."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self._size = size
        self._wide, self._high = rng.uniform(0.88, 1.1), rng.uniform(0.88, 1.08)
        self.masks = {name: Image.new("L", (size, size), 0) for name in ("body", "trim")}

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a point, stretched about the middle of the floor line."""
        return (0.5 + (x - 0.5) * self._wide) * self._size, (0.84 + (y - 0.84) * self._high) * self._size

    def _box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        return (*self._at(*box[:2]), *self._at(*box[2:]))

    def polygon(self, points: list[tuple[float, float]], on: str = "body", fill: int = 255) -> None:
        ImageDraw.Draw(self.masks[on]).polygon([self._at(*point) for point in points], fill=fill)

    def ellipse(self, *box: float, on: str = "body", fill: int = 255) -> None:
        ImageDraw.Draw(self.masks[on]).ellipse(self._box(box), fill=fill)  # type: ignore[arg-type]

    def block(self, *box: float, on: str = "body", corner: float = 0.03, fill: int = 255) -> None:
        ImageDraw.Draw(self.masks[on]).rounded_rectangle(self._box(box), radius=corner * self._size, fill=fill)  # type: ignore[arg-type]

    def ring(self, *box: float, width: float) -> None:
        ImageDraw.Draw(self.masks["trim"]).ellipse(self._box(box), outline=255, width=round(width * self._size))  # type: ignore[arg-type]

    def line(self, *points: tuple[float, float], width: float = 0.03, on: str = "trim") -> None:
        ImageDraw.Draw(self.masks[on]).line(
            [self._at(*point) for point in points], fill=255, width=round(width * self._size), joint="curve"
        )


def draw_shape(category: str, size: int, rng: np.random.Generator) -> Shape:
    """Return the masks of one product of `category`.

    Raises:
        InputError: there is no shape of this name.
    """
    if category not in SHAPES:
        raise InputError(
            "presets/grammar.yaml",
            expected=f"categories of {sorted(SHAPES)}",
            found=category,
            remedy="use one of these, or add its drawing to `SHAPES`",
        )
    pen = _Pen(size, rng)
    SHAPES[category](pen)
    return Shape(pen.masks["body"], pen.masks["trim"])


def _mug(pen: _Pen) -> None:
    pen.ring(0.58, 0.42, 0.84, 0.72, width=0.05)
    pen.polygon([(0.22, 0.34), (0.7, 0.34), (0.67, 0.8), (0.25, 0.8)])
    pen.ellipse(0.25, 0.75, 0.67, 0.85)
    pen.ellipse(0.22, 0.29, 0.7, 0.39)


def _teapot(pen: _Pen) -> None:
    pen.ring(0.66, 0.42, 0.92, 0.7, width=0.045)
    pen.polygon([(0.3, 0.68), (0.08, 0.4), (0.15, 0.37), (0.36, 0.54)], on="trim")
    pen.ellipse(0.2, 0.38, 0.8, 0.84)
    pen.ellipse(0.36, 0.33, 0.64, 0.45, on="trim")
    pen.ellipse(0.46, 0.25, 0.54, 0.35, on="trim")


def _bowl(pen: _Pen) -> None:
    pen.block(0.4, 0.76, 0.6, 0.85, on="trim", corner=0.01)
    pen.polygon([(0.12, 0.48), (0.88, 0.48), (0.78, 0.66), (0.62, 0.78), (0.38, 0.78), (0.22, 0.66)])
    pen.ellipse(0.12, 0.42, 0.88, 0.54)


def _bottle(pen: _Pen) -> None:
    pen.block(0.42, 0.12, 0.58, 0.22, on="trim", corner=0.02)
    pen.block(0.44, 0.2, 0.56, 0.4, corner=0.02)
    pen.block(0.34, 0.34, 0.66, 0.86, corner=0.08)


def _backpack(pen: _Pen) -> None:
    pen.ring(0.4, 0.1, 0.6, 0.28, width=0.03)
    pen.block(0.2, 0.5, 0.3, 0.8, on="trim", corner=0.04)
    pen.block(0.7, 0.5, 0.8, 0.8, on="trim", corner=0.04)
    pen.block(0.25, 0.18, 0.75, 0.85, corner=0.13)
    pen.block(0.33, 0.57, 0.67, 0.78, corner=0.03, fill=0)
    pen.block(0.33, 0.57, 0.67, 0.78, on="trim", corner=0.03)


def _notebook(pen: _Pen) -> None:
    pen.polygon([(0.24, 0.22), (0.78, 0.14), (0.82, 0.78), (0.28, 0.86)], on="trim")
    pen.polygon([(0.2, 0.2), (0.74, 0.12), (0.78, 0.76), (0.24, 0.84)])
    for step in range(7):
        pen.ellipse(0.18 + 0.005 * step, 0.25 + 0.083 * step, 0.23 + 0.005 * step, 0.29 + 0.083 * step, on="trim")


def _clock(pen: _Pen) -> None:
    pen.ellipse(0.16, 0.14, 0.84, 0.82, on="trim")
    pen.ellipse(0.22, 0.2, 0.78, 0.76)
    pen.line((0.5, 0.48), (0.5, 0.27), width=0.03, on="trim")
    pen.ellipse(0.48, 0.46, 0.52, 0.5, fill=0)
    cut = ImageDraw.Draw(pen.masks["body"])
    for tip, width in (((0.5, 0.28), 0.028), ((0.66, 0.55), 0.036)):
        cut.line([pen._at(0.5, 0.48), pen._at(*tip)], fill=0, width=round(width * pen._size))
    pen.line((0.5, 0.48), (0.66, 0.55), width=0.036)
    pen.polygon([(0.3, 0.74), (0.36, 0.78), (0.28, 0.86), (0.23, 0.86)], on="trim")
    pen.polygon([(0.7, 0.74), (0.64, 0.78), (0.72, 0.86), (0.77, 0.86)], on="trim")


def _lamp(pen: _Pen) -> None:
    pen.block(0.47, 0.46, 0.53, 0.82, on="trim", corner=0.01)
    pen.ellipse(0.32, 0.77, 0.68, 0.86, on="trim")
    pen.polygon([(0.37, 0.14), (0.63, 0.14), (0.8, 0.5), (0.2, 0.5)])


def _chair(pen: _Pen) -> None:
    for left, right in ((0.24, 0.2), (0.76, 0.8)):
        pen.line((left, 0.6), (right, 0.86), width=0.04)
    pen.line((0.4, 0.62), (0.38, 0.8), width=0.03)
    pen.line((0.6, 0.62), (0.62, 0.8), width=0.03)
    pen.block(0.24, 0.14, 0.76, 0.52, corner=0.1)
    pen.block(0.18, 0.5, 0.82, 0.66, corner=0.06)


def _cushion(pen: _Pen) -> None:
    pen.polygon(
        [(0.14, 0.22), (0.5, 0.28), (0.86, 0.22), (0.8, 0.54), (0.86, 0.84), (0.5, 0.79), (0.14, 0.84), (0.2, 0.54)]
    )
    for x, y in ((0.14, 0.22), (0.86, 0.22), (0.14, 0.84), (0.86, 0.84)):
        pen.ellipse(x - 0.035, y - 0.035, x + 0.035, y + 0.035, on="trim")


def _rug(pen: _Pen) -> None:
    for step in range(13):
        across = 0.08 + step * 0.07
        pen.line((across, 0.8), (across - 0.012, 0.87), width=0.015)
        pen.line((0.22 + step * 0.047, 0.42), (0.222 + step * 0.047, 0.37), width=0.012)
    pen.polygon([(0.22, 0.41), (0.78, 0.41), (0.95, 0.81), (0.05, 0.81)])


def _vase(pen: _Pen) -> None:
    pen.line((0.5, 0.3), (0.42, 0.06), width=0.015)
    pen.line((0.5, 0.3), (0.6, 0.09), width=0.015)
    pen.ellipse(0.37, 0.03, 0.46, 0.11, on="trim")
    pen.ellipse(0.56, 0.06, 0.65, 0.14, on="trim")
    pen.block(0.43, 0.26, 0.57, 0.5, corner=0.02)
    pen.ellipse(0.38, 0.23, 0.62, 0.31)
    pen.ellipse(0.28, 0.4, 0.72, 0.86)


SHAPES = {
    "backpack": _backpack,
    "bottle": _bottle,
    "bowl": _bowl,
    "chair": _chair,
    "clock": _clock,
    "cushion": _cushion,
    "lamp": _lamp,
    "mug": _mug,
    "notebook": _notebook,
    "rug": _rug,
    "teapot": _teapot,
    "vase": _vase,
}
