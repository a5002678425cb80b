"""Pictures of the synthetic products: the category sets the shape, style and hue set pattern and colours."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from sidflow.catalog.shop.grammar import Grammar
from sidflow.catalog.shop.patterns import paint_pattern
from sidflow.catalog.shop.products import Products
from sidflow.catalog.shop.shapes import draw_shape

OVERSAMPLE = 2  # drawn larger by this factor, then reduced, for smooth edges


def draw_product(grammar: Grammar, products: Products, row: int, side: int, seed: list[int]) -> Image.Image:
    """Return an RGB picture of one product, `side` x `side` pixels; `seed` sets its random details."""
    rng = np.random.default_rng(seed)
    styles, categories = list(grammar.styles.values()), list(grammar.categories)
    style, second_style = styles[products.first[row]], styles[products.second[row]]
    weight = float(products.style[row].max())
    saturation = weight * style.saturation + (1 - weight) * second_style.saturation
    brightness = weight * style.brightness + (1 - weight) * second_style.brightness
    hue = float(products.hue[row])
    main = _rgb(hue, saturation, brightness)
    light = _rgb(hue + rng.uniform(10, 30), 0.45 * saturation, min(1.0, brightness + 0.3))
    dark = _rgb(hue - 15, min(1.0, saturation + 0.15), 0.45 * brightness)
    size = side * OVERSAMPLE
    pattern = style.patterns[int(rng.integers(len(style.patterns)))]
    surface = paint_pattern(pattern, size, main, light, dark, rng)
    shape = draw_shape(categories[products.category[row]], size, rng)
    light_map, dark_tone = _light(size), _colour(dark)
    pixels = _studio(size, second_style.hue, rng)
    _blend(pixels, _shadow(shape.body, size), _colour((40, 36, 40)))
    _blend(pixels, _opacity(shape.trim), dark_tone * light_map)
    _blend(pixels, _opacity(shape.body), surface * light_map)
    inner = shape.body.filter(ImageFilter.BoxBlur(OVERSAMPLE))
    _blend(pixels, 0.6 * _opacity(ImageChops.subtract(shape.body, inner.point(_INTERIOR))), dark_tone)
    picture = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())
    return picture.reduce(OVERSAMPLE)


_INTERIOR = [255 if value > 250 else 0 for value in range(256)]  # a pixel that a blur leaves white is not at the edge


def _colour(rgb: tuple[int, int, int]) -> np.ndarray:
    """Return a colour as float32 [3, 1, 1]."""
    return np.array(rgb, dtype=np.float32)[:, None, None]


def _opacity(mask: Image.Image) -> np.ndarray:
    """Return a mask as float32 [size, size] in [0, 1]."""
    return np.asarray(mask, dtype=np.float32) / 255


def _blend(pixels: np.ndarray, opacity: np.ndarray, layer: np.ndarray) -> None:
    """Blend `layer` over `pixels` by opacity, in place."""
    pixels += opacity * (layer - pixels)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _studio(size: int, hue: float, rng: np.random.Generator) -> np.ndarray:
    """Return the background, a wall that fades into a floor in the second style's tint: float32 [3, size, size]."""
    wall = _colour(_rgb(hue, 0.06, 0.97))
    floor = _colour(_rgb(hue, 0.10, 0.86))
    horizon = rng.uniform(0.68, 0.76)
    height = np.linspace(0, 1, size, dtype=np.float32)[None, :, None]
    blend = 1 / (1 + np.exp(-(height - np.float32(horizon)) * 40))
    return np.repeat(wall * (1 - blend) + floor * blend, size, axis=2)


def _shadow(body: Image.Image, size: int) -> np.ndarray:
    """Return the opacity of a soft shadow on the floor, as wide as the body: float32 [size, size]."""
    left, _, right, bottom = body.getbbox() or (0, 0, size, size)
    axis = np.arange(size, dtype=np.float32)
    across = (axis - np.float32((left + right) / 2)) / np.float32(0.55 * (right - left) + 1)
    down = (axis - np.float32(bottom)) / np.float32(0.05 * size)
    reach = across[None, :] ** 2 + down[:, None] ** 2
    return 0.45 * np.exp(-(reach**2))


@lru_cache(maxsize=4)
def _light(size: int) -> np.ndarray:
    """Return a brightness factor per pixel, light from the upper left: float32 [size, size]."""
    across = np.linspace(-1, 1, size, dtype=np.float32)
    return 1.08 - 0.22 * np.clip(across[None, :] * 0.8 + across[:, None] * 0.35, -1, 1)
