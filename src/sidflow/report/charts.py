"""Small SVG charts, and the axes, ticks and labels that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sidflow.report.markup import MINUS, Markup, join, tag

_LEAST_STEP = 1e-12  # of ticks, in the larger end of the axis or 1: their decimals are rounded to twelve
_LOG_FLOOR = 1e-6  # a logarithmic axis ends at this share of its largest value


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
    """Return about `count` round numbers from `low` to `high`; `low` alone where they are too near to divide.

    >>> ticks(0, 0.37)
    [0.0, 0.1, 0.2, 0.3]
    """
    rough = high / count - low / count
    if not rough > _LEAST_STEP * max(abs(low), abs(high), 1.0):
        return [low]
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


class Series(NamedTuple):
    """One line of a chart: its name, its points and its CSS class (`method`, `best`, `reference`, `other`)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "other"


def svg(title: str, width: float, height: float, *parts: object, style: str = "chart") -> Markup:
    """Return an SVG that scales with the page; screen readers read its title."""
    return tag(
        "svg",
        tag("title", title),
        *parts,
        class_=style,
        role="img",
        aria_label=title,
        viewBox=f"0 0 {width:g} {height:g}",
    )


def line_chart(
    title: str,
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    log_y: bool = False,
    size: tuple[float, float] = (720, 320),
) -> Markup:
    """Return a line chart; each line has its name at its end."""
    width, height = size
    points = [(x, y) for line in series for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    if not points:
        return tag("p", "Nothing to draw.", class_="absent")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    high = max(ys)
    low = max(min(y for y in ys if y > 0), high * _LOG_FLOOR) if log_y and high > 0 else min(ys)
    pad = 0.0 if log_y else 0.06 * ((high - low) or abs(high) or 1)
    x_scale = Scale(min(xs), max(xs), 46, width - 130)
    y_scale = Scale(low - pad, high + pad, height - 34, 28, log_y and high > 0)
    marks = decades(low, high) if y_scale.log else ticks(low - pad, high + pad)
    parts: list[object] = [
        join(
            tag("line", x1=46, x2=width - 130, y1=y_scale(mark), y2=y_scale(mark), class_="grid"),
            tag("text", tick_label(mark), x=40, y=y_scale(mark) + 4, class_="tick end"),
        )
        for mark in marks
    ]
    parts += [
        tag("text", tick_label(mark), x=x_scale(mark), y=height - 16, class_="tick middle")
        for mark in ticks(*x_scale[:2], 6)
    ]
    parts.append(tag("text", x_name, x=width - 130, y=height - 2, class_="axis end"))
    parts.append(tag("text", y_name, x=0, y=9, class_="axis"))
    ends = spread_positions([y_scale(line.y[-1]) for line in series], 14)
    for line, end in sorted(zip(series, ends, strict=True), key=lambda pair: pair[0].style == "method"):
        path = "M" + "L".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(tag("path", tag("title", line.name), d=path, class_=f"line {line.style}"))
        last = x_scale(line.x[-1])
        if last < width - 134:
            parts.append(tag("circle", cx=last, cy=y_scale(line.y[-1]), r=2.2, class_=f"dot {line.style}"))
        leader = f"M{last + 3:.1f},{y_scale(line.y[-1]):.1f}L{width - 126:.1f},{end:.1f}"
        parts.append(tag("path", d=leader, class_="leader"))
        parts.append(tag("text", line.name, x=width - 122, y=end + 4, class_=f"name {line.style}"))
    return svg(title, width, height, *parts)


def sparkline(
    title: str, x: Sequence[float], y: Sequence[float], best: int | None = None, style: str = "other"
) -> Markup:
    """Return a small line chart with its first and last value; `best` is the index of a point to mark."""
    width, height = 220.0, 92.0
    x_scale = Scale(min(x), max(x), 4, width - 4)
    y_scale = Scale(min(y), max(y), height - 22, 24)
    path = "M" + "L".join(f"{x_scale(a):.1f},{y_scale(b):.1f}" for a, b in zip(x, y, strict=True))
    parts: list[object] = [
        tag("text", title, x=0, y=11, class_="caption"),
        tag("line", x1=0, x2=width, y1=height - 16, y2=height - 16, class_="grid"),
        tag("path", d=path, class_=f"line {style}") if len(x) > 1 else None,
        tag("text", f"{y[0]:.4g}", x=0, y=height - 3, class_="tick"),
        tag("text", f"{y[-1]:.4g}", x=width, y=height - 3, class_="tick end"),
    ]
    if best is not None:
        parts.append(tag("circle", cx=x_scale(x[best]), cy=y_scale(y[best]), r=3.2, class_="dot kept"))
        parts.append(tag("text", f"kept {y[best]:.4g}", x=width, y=11, class_="tick end"))
    return svg(f"{title}: from {y[0]:.4g} to {y[-1]:.4g} in {len(x)} epochs", width, height, *parts, style="spark")


def interval_bar(
    title: str, mean: float, low: float, high: float, axis_end: float, style: str, ceiling: float | None = None
) -> Markup:
    """Return a bar from zero with its interval as a whisker, and a dashed line at `ceiling`, the best possible."""
    width, height = 260.0, 22.0
    x_scale = Scale(0, axis_end or 1, 0, width - 4)
    return svg(
        title,
        width,
        height,
        tag("rect", x=0, y=5, width=max(1.0, x_scale(mean)), height=12, rx=2, class_=f"bar {style}"),
        tag("line", x1=x_scale(low), x2=x_scale(high), y1=11, y2=11, class_="whisker"),
        tag("line", x1=x_scale(low), x2=x_scale(low), y1=8, y2=14, class_="whisker"),
        tag("line", x1=x_scale(high), x2=x_scale(high), y1=8, y2=14, class_="whisker"),
        None
        if ceiling is None
        else tag("line", x1=x_scale(ceiling), x2=x_scale(ceiling), y1=0, y2=height, class_="ceiling"),
        style="interval",
    )


def difference_bar(title: str, mean: float, low: float, high: float, axis_end: float, style: str) -> Markup:
    """Return a point with its interval beside a zero line, on an axis from -axis_end to axis_end.

    A point beyond the axis is an arrow.
    """
    width, height = 150.0, 22.0
    x_scale = Scale(-axis_end, axis_end, 4, width - 4)
    point = tag("circle", cx=x_scale(mean), cy=11, r=4, class_=f"dot {style}")
    if abs(mean) > axis_end:  # an arrow: the point lies beyond the axis
        end, side = (2, 7) if mean < 0 else (width - 2, -7)
        point = tag("path", d=f"M{end:g},11l{side},-5v10Z", class_=f"dot {style}")
    return svg(
        title,
        width,
        height,
        tag("line", x1=width / 2, x2=width / 2, y1=0, y2=height, class_="zero"),
        tag("line", x1=x_scale(low), x2=x_scale(high), y1=11, y2=11, class_=f"range {style}"),
        point,
        style="interval",
    )


def column_chart(title: str, heights: Sequence[float], style: str, even: float | None = None) -> Markup:
    """Return columns in the order of `heights`, and a dashed line at `even`, the height if all were equal."""
    width, height = 220.0, 64.0
    y_scale = Scale(0, max([*heights, even or 0, 1e-9]), height, 2)
    step = width / max(1, len(heights))
    gap = min(1.0, step * 0.15)
    path = "".join(
        f"M{index * step:.2f},{height:g}V{y_scale(value):.2f}h{step - gap:.2f}V{height:g}Z"
        for index, value in enumerate(heights)
        if value > 0
    )
    line = None if even is None else tag("line", x1=0, x2=width, y1=y_scale(even), y2=y_scale(even), class_="ceiling")
    base = tag("line", x1=0, x2=width, y1=height, y2=height, class_="grid")
    return svg(title, width, height, tag("path", d=path, class_=f"bar {style}"), line, base, style="columns")
