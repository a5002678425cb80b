"""Axes of charts: scales, round ticks, and labels that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sidflow.report.markup import MINUS


class Scale(NamedTuple):
    """A linear or logarithmic map from data to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`; a value outside the scale gets the edge."""
        low, high, point = (
            (math.log10(part) for part in (self.low, self.high, max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        share = 0.5 if high == low else (point - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers from `low` to `high`.

    >>> ticks(0, 0.37)
    [0.0, 0.1, 0.2, 0.3]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from `low` to `high`."""
    return [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """Return the text of a tick."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def spread_positions(positions: Sequence[float], gap: float) -> list[float]:
    """Return `positions` moved so that neighbours are at least `gap` apart: overlapping ones spread as a group."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _top(groups[-1], positions, gap) < _bottom(groups[-2], positions, gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    for group in groups:
        for step, index in enumerate(group):
            moved[index] = _top(group, positions, gap) + step * gap
    return moved


def _top(group: list[int], positions: Sequence[float], gap: float) -> float:
    return sum(positions[index] for index in group) / len(group) - (len(group) - 1) * gap / 2


def _bottom(group: list[int], positions: Sequence[float], gap: float) -> float:
    return _top(group, positions, gap) + (len(group) - 1) * gap
