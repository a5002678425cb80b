"""SVG charts: lines, bars with intervals, columns. The page's CSS classes give the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sidflow.report.markup import Markup, join, tag
from sidflow.report.scales import Scale, decades, spread_positions, tick_label, ticks

_LOG_FLOOR = 1e-6  # a logarithmic axis ends at this share of its largest value


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
    across = Scale(min(xs), max(xs), 46, width - 130)
    up = Scale(low - pad, high + pad, height - 34, 28, log_y and high > 0)
    marks = decades(low, high) if up.log else ticks(low - pad, high + pad)
    parts: list[object] = [
        join(
            tag("line", x1=46, x2=width - 130, y1=up(mark), y2=up(mark), class_="grid"),
            tag("text", tick_label(mark), x=40, y=up(mark) + 4, class_="tick end"),
        )
        for mark in marks
    ]
    parts += [
        tag("text", tick_label(mark), x=across(mark), y=height - 16, class_="tick middle")
        for mark in ticks(*across[:2], 6)
    ]
    parts.append(tag("text", x_name, x=width - 130, y=height - 2, class_="axis end"))
    parts.append(tag("text", y_name, x=0, y=9, class_="axis"))
    ends = spread_positions([up(line.y[-1]) for line in series], 14)
    for line, end in sorted(zip(series, ends, strict=True), key=lambda pair: pair[0].style == "method"):
        path = "M" + "L".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(tag("path", tag("title", line.name), d=path, class_=f"line {line.style}"))
        last = across(line.x[-1])
        if last < width - 134:
            parts.append(tag("circle", cx=last, cy=up(line.y[-1]), r=2.2, class_=f"dot {line.style}"))
        leader = f"M{last + 3:.1f},{up(line.y[-1]):.1f}L{width - 126:.1f},{end:.1f}"
        parts.append(tag("path", d=leader, class_="leader"))
        parts.append(tag("text", line.name, x=width - 122, y=end + 4, class_=f"name {line.style}"))
    return svg(title, width, height, *parts)


def sparkline(
    title: str, x: Sequence[float], y: Sequence[float], best: int | None = None, style: str = "other"
) -> Markup:
    """Return a small line chart with its first and last value; `best` is the index of a point to mark."""
    width, height = 220.0, 92.0
    across = Scale(min(x), max(x), 4, width - 4)
    up = Scale(min(y), max(y), height - 22, 24)
    path = "M" + "L".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(x, y, strict=True))
    parts: list[object] = [
        tag("text", title, x=0, y=11, class_="caption"),
        tag("line", x1=0, x2=width, y1=height - 16, y2=height - 16, class_="grid"),
        tag("path", d=path, class_=f"line {style}") if len(x) > 1 else None,
        tag("text", f"{y[0]:.4g}", x=0, y=height - 3, class_="tick"),
        tag("text", f"{y[-1]:.4g}", x=width, y=height - 3, class_="tick end"),
    ]
    if best is not None:
        parts.append(tag("circle", cx=across(x[best]), cy=up(y[best]), r=3.2, class_="dot kept"))
        parts.append(tag("text", f"kept {y[best]:.4g}", x=width, y=11, class_="tick end"))
    return svg(f"{title}: from {y[0]:.4g} to {y[-1]:.4g} in {len(x)} epochs", width, height, *parts, style="spark")


def interval_bar(
    title: str, mean: float, low: float, high: float, axis_end: float, style: str, ceiling: float | None = None
) -> Markup:
    """Return a bar from zero with its interval as a whisker, and a dashed line at `ceiling`, the best possible."""
    width, height = 260.0, 22.0
    across = Scale(0, axis_end or 1, 0, width - 4)
    return svg(
        title,
        width,
        height,
        tag("rect", x=0, y=5, width=max(1.0, across(mean)), height=12, rx=2, class_=f"bar {style}"),
        tag("line", x1=across(low), x2=across(high), y1=11, y2=11, class_="whisker"),
        tag("line", x1=across(low), x2=across(low), y1=8, y2=14, class_="whisker"),
        tag("line", x1=across(high), x2=across(high), y1=8, y2=14, class_="whisker"),
        None
        if ceiling is None
        else tag("line", x1=across(ceiling), x2=across(ceiling), y1=0, y2=height, class_="ceiling"),
        style="interval",
    )


def difference_bar(title: str, mean: float, low: float, high: float, axis_end: float, style: str) -> Markup:
    """Return a point with its interval beside a zero line, on an axis from -axis_end to axis_end."""
    width, height = 150.0, 22.0
    across = Scale(-axis_end, axis_end, 4, width - 4)
    return svg(
        title,
        width,
        height,
        tag("line", x1=width / 2, x2=width / 2, y1=0, y2=height, class_="zero"),
        tag("line", x1=across(low), x2=across(high), y1=11, y2=11, class_=f"range {style}"),
        tag("circle", cx=across(mean), cy=11, r=4, class_=f"dot {style}"),
        style="interval",
    )


def column_chart(title: str, heights: Sequence[float], style: str, even: float | None = None) -> Markup:
    """Return columns in the order of `heights`, and a dashed line at `even`, the height if all were equal."""
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
    return svg(title, width, height, tag("path", d=path, class_=f"bar {style}"), line, base, style="columns")
