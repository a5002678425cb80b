"""Pictures of the synthetic products: a shape with a pattern in the product's colours."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from sidflow.catalog.synthetic.products import Grammar, Products, Style
from sidflow.catalog.synthetic.shapes import draw_shape
from sidflow.core.errors import InputError

OVERSAMPLE = 2  # drawn larger by this factor, then reduced, for smooth edges

Tone = tuple[int, int, int]  # sRGB
Layers = tuple[np.ndarray, np.ndarray]  # shares of light and dark tone per pixel, in [0, 1]

_INTERIOR = [255 if value > 250 else 0 for value in range(256)]  # a pixel that a blur leaves white is not at the edge


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
    turn, pattern = _details(style, rng)
    light = _rgb(hue + turn, 0.45 * saturation, min(1.0, brightness + 0.3))
    dark = _rgb(hue - 15, min(1.0, saturation + 0.15), 0.45 * brightness)
    size = side * OVERSAMPLE
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


def product_truth(grammar: Grammar, products: Products, row: int, seed: list[int]) -> dict[str, str]:
    """Return a product's category, stronger style, colour, and the pattern that `draw_product` paints with `seed`.

    The pattern is empty where the product has no picture.
    """
    styles = list(grammar.styles)
    style = styles[products.first[row]]
    pattern = _details(grammar.styles[style], np.random.default_rng(seed))[1] if products.has_picture[row] else ""
    return {
        "category": list(grammar.categories)[products.category[row]],
        "style": style,
        "colour": grammar.colour_of(float(products.hue[row])),
        "pattern": pattern,
    }


def _details(style: Style, rng: np.random.Generator) -> tuple[float, str]:
    """Return the first random details of a picture: by how many degrees the light tone is turned, and the pattern."""
    return rng.uniform(10, 30), style.patterns[int(rng.integers(len(style.patterns)))]


def paint_pattern(name: str, size: int, main: Tone, light: Tone, dark: Tone, rng: np.random.Generator) -> np.ndarray:
    """Return a surface of pattern `name`, float32 [3, size, size] in 0 to 255.

    Raises:
        InputError: there is no pattern of this name.
    """
    if name not in PATTERNS:
        raise InputError(
            "presets/grammar.yaml", expected=f"a pattern of {sorted(PATTERNS)}", found=name, remedy="use one of these"
        )
    axis = np.arange(size, dtype=np.float32) / np.float32(size)
    x, y = np.meshgrid(axis + np.float32(rng.uniform(0, 0.2)), axis + np.float32(rng.uniform(0, 0.2)))
    high, low = PATTERNS[name](x, y, rng.uniform(0.85, 1.2), rng)
    layers = []
    for middle, bright, deep in zip(main, light, dark, strict=True):
        channel = middle + high * (bright - middle)
        layers.append(channel + low * (deep - channel))
    return np.stack(layers).astype(np.float32, copy=False)


def _as_share(condition: np.ndarray) -> np.ndarray:
    return condition.astype(np.float32)


def _plain(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    return 0.15 * np.abs(np.sin(6 * y)), np.zeros_like(x)


def _stripes(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    phase = (y * 9 * scale) % 1
    return _as_share(phase < 0.42), _as_share((phase > 0.5) & (phase < 0.6))


def _diagonal(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    phase = ((x + 0.7 * y) * 6 * scale) % 1
    return _as_share(phase < 0.3), _as_share((phase > 0.62) & (phase < 0.9))


def _checks(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    across, down = (x * 8 * scale) % 1 < 0.5, (y * 8 * scale) % 1 < 0.5
    return 0.85 * _as_share(across & down), 0.45 * _as_share(~across & ~down)


def _grid(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    across, down = (x * 7 * scale) % 1, (y * 7 * scale) % 1
    rivet = (across - 0.5) ** 2 + (down - 0.5) ** 2 < 0.02
    return _as_share(rivet), 0.8 * _as_share((across < 0.1) | (down < 0.1))


def _chevrons(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    phase = (y * 8 * scale + np.abs((x * 5 * scale) % 1 - 0.5) * 1.6) % 1
    return 0.9 * _as_share(phase < 0.35), 0.3 * _as_share((phase > 0.6) & (phase < 0.7))


def _dots(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    row = np.floor(y * 9 * scale)
    distance = ((x * 9 * scale + 0.5 * row) % 1 - 0.5) ** 2 + ((y * 9 * scale) % 1 - 0.5) ** 2
    return _as_share(distance < 0.085), np.zeros_like(x)


def _flowers(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    row = np.floor(y * 5 * scale)
    u, v = (x * 5 * scale + 0.5 * row) % 1 - 0.5, (y * 5 * scale) % 1 - 0.5
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    return _as_share(radius < 0.26 + 0.14 * np.cos(5 * angle)), _as_share(radius < 0.1)


def _leaves(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    row = np.floor(y * 5 * scale)
    u, v = (x * 4 * scale + 0.37 * row) % 1 - 0.5, (y * 5 * scale) % 1 - 0.5
    u, v = 0.8 * u + 0.6 * v, 0.8 * v - 0.6 * u
    leaf = np.abs(v) < 0.24 * np.cos(np.pi * u / 0.9).clip(0)
    return 0.8 * _as_share(leaf & (v > 0)), 0.8 * _as_share(leaf & (v <= 0))


def _waves(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    phase = (y * 8 * scale + 0.28 * np.sin(x * 22 * scale)) % 1
    return _as_share(phase < 0.35), 0.6 * _as_share((phase > 0.55) & (phase < 0.72))


def _arcs(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    u, v = (x * 3.6 * scale) % 1 - 0.5, (y * 3.6 * scale) % 1 - 0.5
    ring = (np.hypot(u, v) * 7) % 2
    return _as_share(ring < 0.7), _as_share((ring > 1.2) & (ring < 1.7))


def _diamonds(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    reach = np.abs((x * 6 * scale) % 1 - 0.5) + np.abs((y * 5 * scale) % 1 - 0.5)
    return _as_share(reach < 0.2), 0.8 * _as_share((reach > 0.36) & (reach < 0.46))


def _grain(x: np.ndarray, y: np.ndarray, scale: float, rng: np.random.Generator) -> Layers:
    bend = 0.04 * np.sin(9 * x + rng.uniform(0, 6)) + 0.015 * np.sin(31 * x)
    wave = np.sin((y + bend) * 70 * scale) * np.sin((y + 2 * bend) * 23 * scale + 1)
    return 0.5 * wave.clip(0, 1), 0.6 * (-wave).clip(0, 1)


PATTERNS = {
    "arcs": _arcs,
    "checks": _checks,
    "chevrons": _chevrons,
    "diagonal": _diagonal,
    "diamonds": _diamonds,
    "dots": _dots,
    "flowers": _flowers,
    "grain": _grain,
    "grid": _grid,
    "leaves": _leaves,
    "plain": _plain,
    "stripes": _stripes,
    "waves": _waves,
}


def _colour(rgb: Tone) -> np.ndarray:
    """Return a colour as float32 [3, 1, 1]."""
    return np.array(rgb, dtype=np.float32)[:, None, None]


def _opacity(mask: Image.Image) -> np.ndarray:
    """Return a mask as float32 [size, size] in [0, 1]."""
    return np.asarray(mask, dtype=np.float32) / 255


def _blend(pixels: np.ndarray, opacity: np.ndarray, layer: np.ndarray) -> None:
    """Blend `layer` over `pixels` by opacity, in place."""
    pixels += opacity * (layer - pixels)


def _rgb(hue: float, saturation: float, value: float) -> Tone:
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
