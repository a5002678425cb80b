"""Surface patterns: each is a function of pixel coordinates that returns the shares of light and dark tone."""

from __future__ import annotations

import numpy as np

from sidflow.contracts.errors import InputError

Tone = tuple[int, int, int]


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


Layers = tuple[np.ndarray, np.ndarray]  # shares of light and dark tone per pixel, in [0, 1]


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
