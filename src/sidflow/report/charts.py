"""Small SVG charts, drawn here: lines, an interval on a bar, columns. Colours come from the page's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sidflow.report.markup import Markup, join, tag
from sidflow.report.scales import Scale, apart, decades, label, ticks

_FLOOR = 1e-6  # a logarithmic axis shows nothing below that share of its largest value


class Series(NamedTuple):
    """One line: its name, points, and a class that says how it is drawn (`method`, `best`, `other`)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: str = "other"


def drawing(title: str, width: float, height: float, *parts: object, look: str = "chart") -> Markup:
    """Return an SVG that scales with the page and tells its title to those who cannot see it."""
    return tag(
        "svg",
        tag("title", title),
        *parts,
        class_=look,
        role="img",
        aria_label=title,
        viewBox=f"0 0 {width:g} {height:g}",
    )


def lines(
    title: str,
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    log_y: bool = False,
    size: tuple[float, float] = (720, 320),
) -> Markup:
    """Return a line chart whose lines are named at their ends."""
    width, height = size
    points = [(x, y) for one in series for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    if not points:
        return tag("p", "Nothing to draw.", class_="absent")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    high = max(ys)
    low = max(min(y for y in ys if y > 0), high * _FLOOR) if log_y and high > 0 else min(ys)
    pad = 0.0 if log_y else 0.06 * ((high - low) or abs(high) or 1)
    across = Scale(min(xs), max(xs), 46, width - 130)
    up = Scale(low - pad, high + pad, height - 34, 28, log_y and high > 0)
    marks = decades(low, high) if up.log else ticks(low - pad, high + pad)
    parts: list[object] = [
        join(
            tag("line", x1=46, x2=width - 130, y1=up(mark), y2=up(mark), class_="grid"),
            tag("text", label(mark), x=40, y=up(mark) + 4, class_="tick end"),
        )
        for mark in marks
    ]
    parts += [
        tag("text", label(mark), x=across(mark), y=height - 16, class_="tick middle") for mark in ticks(*across[:2], 6)
    ]
    parts.append(tag("text", x_name, x=width - 130, y=height - 2, class_="axis end"))
    parts.append(tag("text", y_name, x=0, y=9, class_="axis"))
    ends = apart([up(one.y[-1]) for one in series], 14)
    for one, end in sorted(zip(series, ends, strict=True), key=lambda pair: pair[0].look == "method"):
        path = "M" + "L".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(one.x, one.y, strict=True))
        parts.append(tag("path", tag("title", one.name), d=path, class_=f"line {one.look}"))
        last = across(one.x[-1])
        if last < width - 134:
            parts.append(tag("circle", cx=last, cy=up(one.y[-1]), r=2.2, class_=f"dot {one.look}"))
        at = f"M{last + 3:.1f},{up(one.y[-1]):.1f}L{width - 126:.1f},{end:.1f}"
        parts.append(tag("path", d=at, class_="leader"))
        parts.append(tag("text", one.name, x=width - 122, y=end + 4, class_=f"name {one.look}"))
    return drawing(title, width, height, *parts)


def spark(title: str, x: Sequence[float], y: Sequence[float], best: int | None = None, look: str = "other") -> Markup:
    """Return a small line with its first and last value; `best` marks a point."""
    width, height = 220.0, 92.0
    across = Scale(min(x), max(x), 4, width - 4)
    up = Scale(min(y), max(y), height - 22, 24)
    path = "M" + "L".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(x, y, strict=True))
    parts: list[object] = [
        tag("text", title, x=0, y=11, class_="caption"),
        tag("line", x1=0, x2=width, y1=height - 16, y2=height - 16, class_="grid"),
        tag("path", d=path, class_=f"line {look}") if len(x) > 1 else None,
        tag("text", f"{y[0]:.4g}", x=0, y=height - 3, class_="tick"),
        tag("text", f"{y[-1]:.4g}", x=width, y=height - 3, class_="tick end"),
    ]
    if best is not None:
        parts.append(tag("circle", cx=across(x[best]), cy=up(y[best]), r=3.2, class_="dot kept"))
        parts.append(tag("text", f"kept {y[best]:.4g}", x=width, y=11, class_="tick end"))
    return drawing(f"{title}: from {y[0]:.4g} to {y[-1]:.4g} in {len(x)} epochs", width, height, *parts, look="spark")


def interval_bar(
    title: str, mean: float, low: float, high: float, scale_to: float, look: str, ceiling: float | None = None
) -> Markup:
    """Return a bar from zero with its interval as a whisker, and a dashed line where the best possible lies."""
    width, height = 260.0, 22.0
    across = Scale(0, scale_to or 1, 0, width - 4)
    return drawing(
        title,
        width,
        height,
        tag("rect", x=0, y=5, width=max(1.0, across(mean)), height=12, rx=2, class_=f"bar {look}"),
        tag("line", x1=across(low), x2=across(high), y1=11, y2=11, class_="whisker"),
        tag("line", x1=across(low), x2=across(low), y1=8, y2=14, class_="whisker"),
        tag("line", x1=across(high), x2=across(high), y1=8, y2=14, class_="whisker"),
        None
        if ceiling is None
        else tag("line", x1=across(ceiling), x2=across(ceiling), y1=0, y2=height, class_="ceiling"),
        look="interval",
    )


def difference_bar(title: str, mean: float, low: float, high: float, reach: float, look: str) -> Markup:
    """Return a point with its interval around a zero line; `reach` is what the half width stands for."""
    width, height = 150.0, 22.0
    across = Scale(-reach, reach, 4, width - 4)
    return drawing(
        title,
        width,
        height,
        tag("line", x1=width / 2, x2=width / 2, y1=0, y2=height, class_="zero"),
        tag("line", x1=across(low), x2=across(high), y1=11, y2=11, class_=f"range {look}"),
        tag("circle", cx=across(mean), cy=11, r=4, class_=f"dot {look}"),
        look="interval",
    )


def columns(title: str, heights: Sequence[float], look: str, even: float | None = None) -> Markup:
    """Return columns side by side, largest first as given; a dashed line where all would be alike."""
    width, height = 220.0, 64.0
    up = Scale(0, max([*heights, even or 0, 1e-9]), height, 2)
    step = width / max(1, len(heights))
    gap = min(1.0, step * 0.15)
    path = "".join(
        f"M{index * step:.2f},{height:g}V{up(value):.2f}h{step - gap:.2f}V{height:g}Z"
        for index, value in enumerate(heights)
        if value > 0
    )
    line = None if even is None else tag("line", x1=0, x2=width, y1=up(even), y2=up(even), class_="ceiling")
    base = tag("line", x1=0, x2=width, y1=height, y2=height, class_="grid")
    return drawing(title, width, height, tag("path", d=path, class_=f"bar {look}"), line, base, look="columns")
