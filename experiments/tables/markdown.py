"""Markdown tables and the numbers in them."""

from __future__ import annotations

import math

from sidflow.evaluation.statistics import PairedComparison, format_difference, format_relative


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with the header `head`; empty without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def format_estimate(value: float, low: float, high: float) -> str:
    """Return an unsigned value with its interval."""
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def format_short_estimate(value: float, low: float, high: float) -> str:
    """Return a value below 1 with half the width of its interval, without leading zeros, such as `.2203 ±.0153`."""
    return f"{value:.4f} ±{(high - low) / 2:.4f}".replace("0.", ".")


def difference_cells(comparison: PairedComparison | None) -> list[str]:
    """Return difference with interval, relative difference, smallest detectable one and verdict; empty of none."""
    if comparison is None:
        return [""] * 4
    return [
        format_difference(comparison.difference, comparison.low, comparison.high),
        format_relative(comparison.relative),
        f"{comparison.detectable:.4f}",
        comparison.verdict,
    ]


def format_log_ratio(log_ratio: float) -> str:
    """Return the gain in percent that a ratio's natural logarithm stands for."""
    percent = 100 * math.expm1(min(log_ratio, 700.0))
    return f"{percent:+.1f}%" if percent < 1000 else "> +1000%"


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, or in minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def format_number(value: float) -> str:
    """Return a number with three significant digits, or without decimals from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def format_optional(value: float | None, digits: int) -> str:
    """Return a number with `digits` decimals; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"
