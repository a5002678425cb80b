"""Pictures of the shop's products: the category gives the shape, style and hue give pattern and colours."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

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
    canvas = _background(size, other.hue, rng)
    canvas = _shadow(canvas, parts.body, size)
    canvas.paste(_shaded(Image.new("RGB", (size, size), dark), size), mask=parts.trim)
    canvas.paste(_shaded(surface, size), mask=parts.body)
    edge = ImageChops.subtract(parts.body, parts.body.filter(ImageFilter.MinFilter(2 * OVERSAMPLE + 1)))
    canvas.paste(
        Image.new("RGB", (size, size), dark), mask=ImageChops.multiply(edge, Image.new("L", (size, size), 150))
    )
    return canvas.resize((side, side), Image.Resampling.LANCZOS)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _background(size: int, hue: float, rng: np.random.Generator) -> Image.Image:
    """A studio wall that fades to the floor, tinted by the second style."""
    wall = np.array(_rgb(hue, 0.06, 0.97), dtype=float)
    floor = np.array(_rgb(hue, 0.10, 0.86), dtype=float)
    horizon = rng.uniform(0.68, 0.76)
    height = np.linspace(0, 1, size)[:, None, None]
    blend = 1 / (1 + np.exp(-(height - horizon) * 40))
    pixels = wall * (1 - blend) + floor * blend
    return Image.fromarray(np.broadcast_to(pixels, (size, size, 3)).round().astype(np.uint8), "RGB")


def _shadow(canvas: Image.Image, body: Image.Image, size: int) -> Image.Image:
    """A soft shadow on the floor, as wide as the body."""
    left, _, right, bottom = body.getbbox() or (0, 0, size, size)
    mask = Image.new("L", (size, size), 0)
    reach = (right - left) * 0.06
    ImageDraw.Draw(mask).ellipse((left - reach, bottom - size * 0.05, right + reach, bottom + size * 0.045), fill=110)
    mask = mask.filter(ImageFilter.GaussianBlur(size * 0.025))
    canvas.paste(Image.new("RGB", (size, size), (40, 36, 40)), mask=mask)
    return canvas


def _shaded(surface: Image.Image, size: int) -> Image.Image:
    """Light from the upper left."""
    across = np.linspace(-1, 1, size)
    light = 1.08 - 0.22 * np.clip(across[None, :] * 0.8 + across[:, None] * 0.35, -1, 1)
    pixels = np.asarray(surface, dtype=float) * light[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8), "RGB")
