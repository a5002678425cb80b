"""Pictures of the shop's products: the category gives the shape, style and hue give pattern and colours."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from sidflow.catalog.shop import patterns, shapes
from sidflow.catalog.shop.grammar import Grammar
from sidflow.catalog.shop.products import Products

OVERSAMPLE = 2  # drawn so much larger, then reduced: smooth edges


def draw(grammar: Grammar, products: Products, row: int, side: int, seed: list[int]) -> Image.Image:
    """Draw one product as an RGB picture of `side` x `side` pixels; `seed` sets its small accidents."""
    rng = np.random.default_rng(seed)
    styles, categories = list(grammar.styles.values()), list(grammar.categories)
    look, other = styles[products.first[row]], styles[products.second[row]]
    weight = float(products.style[row].max())
    saturation = weight * look.saturation + (1 - weight) * other.saturation
    brightness = weight * look.brightness + (1 - weight) * other.brightness
    hue = float(products.hue[row])
    main = _rgb(hue, saturation, brightness)
    light = _rgb(hue + rng.uniform(10, 30), 0.45 * saturation, min(1.0, brightness + 0.3))
    dark = _rgb(hue - 15, min(1.0, saturation + 0.15), 0.45 * brightness)
    size = side * OVERSAMPLE
    pattern = look.patterns[int(rng.integers(len(look.patterns)))]
    surface = patterns.paint(pattern, size, main, light, dark, rng)
    parts = shapes.outline(categories[products.category[row]], size, rng)
    lit, tone = _light(size), _colour(dark)
    pixels = _studio(size, other.hue, rng)
    _lay(pixels, _shadow(parts.body, size), _colour((40, 36, 40)))
    _lay(pixels, _opacity(parts.trim), tone * lit)
    _lay(pixels, _opacity(parts.body), surface * lit)
    inner = parts.body.filter(ImageFilter.BoxBlur(OVERSAMPLE))
    _lay(pixels, 0.6 * _opacity(ImageChops.subtract(parts.body, inner.point(_INSIDE))), tone)
    whole = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())
    return whole.reduce(OVERSAMPLE)


_INSIDE = [255 if value > 250 else 0 for value in range(256)]  # what a blur leaves untouched is not at the edge


def _colour(tone: tuple[int, int, int]) -> np.ndarray:
    """Return a colour as float32 [3, 1, 1]."""
    return np.array(tone, dtype=np.float32)[:, None, None]


def _opacity(mask: Image.Image) -> np.ndarray:
    """Return a mask as float32 [size, size] in [0, 1]."""
    return np.asarray(mask, dtype=np.float32) / 255


def _lay(pixels: np.ndarray, opacity: np.ndarray, layer: np.ndarray) -> None:
    """Lay `layer` over `pixels`, in place."""
    pixels += opacity * (layer - pixels)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _studio(size: int, hue: float, rng: np.random.Generator) -> np.ndarray:
    """A studio wall that fades to the floor, tinted by the second style: float32 [3, size, size]."""
    wall = _colour(_rgb(hue, 0.06, 0.97))
    floor = _colour(_rgb(hue, 0.10, 0.86))
    horizon = rng.uniform(0.68, 0.76)
    height = np.linspace(0, 1, size, dtype=np.float32)[None, :, None]
    blend = 1 / (1 + np.exp(-(height - np.float32(horizon)) * 40))
    return np.repeat(wall * (1 - blend) + floor * blend, size, axis=2)


def _shadow(body: Image.Image, size: int) -> np.ndarray:
    """A soft shadow on the floor, as wide as the body: opacity, float32 [size, size]."""
    left, _, right, bottom = body.getbbox() or (0, 0, size, size)
    axis = np.arange(size, dtype=np.float32)
    across = (axis - np.float32((left + right) / 2)) / np.float32(0.55 * (right - left) + 1)
    down = (axis - np.float32(bottom)) / np.float32(0.05 * size)
    reach = across[None, :] ** 2 + down[:, None] ** 2
    return 0.45 * np.exp(-(reach**2))


@lru_cache(maxsize=4)
def _light(size: int) -> np.ndarray:
    """Light from the upper left: a factor per pixel, float32 [size, size]."""
    across = np.linspace(-1, 1, size, dtype=np.float32)
    return 1.08 - 0.22 * np.clip(across[None, :] * 0.8 + across[:, None] * 0.35, -1, 1)
