"""How a table, and the numbers in it, are written in Markdown."""

from __future__ import annotations

import math


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table with a line of `head`; empty without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def estimate(value: float, low: float, high: float) -> str:
    """Return a value of which only the size counts, with its interval."""
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def difference(value: float, low: float, high: float) -> str:
    """Return a difference with its interval, all signed."""
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def gain(logarithm: float) -> str:
    """Return the gain in percent of a ratio's natural logarithm."""
    percent = 100 * math.expm1(min(logarithm, 700.0))
    return f"{percent:+.1f}%" if percent < 1000 else "> +1000%"


def duration(seconds: float) -> str:
    """Return seconds or minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def number(value: float) -> str:
    """Return three digits that count, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def optional(value: float | None, digits: int) -> str:
    """Return `digits` after the point; empty where nothing was measured."""
    return "" if value is None else f"{value:.{digits}f}"
