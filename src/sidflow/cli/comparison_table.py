"""A comparison as a table with a line that explains its columns, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from sidflow.cli.compare import MetricComparison, RecommenderChange, RecommenderComparison, RevisionComparison
from sidflow.evaluation.statistics import format_difference, format_p, format_relative

_HEADS = ("difference, interval", "relative", "detectable", "p")


def to_json(comparison: RevisionComparison | RecommenderComparison) -> str:
    """Return a comparison as JSON."""
    return json.dumps(asdict(comparison), indent=1)


def to_text(comparison: RevisionComparison | RecommenderComparison) -> str:
    """Return a comparison as a table with one line that explains its columns."""
    if isinstance(comparison, RevisionComparison):
        title = f"{comparison.metric} of {comparison.queries} test queries of {comparison.users} users"
        head = ("", comparison.before, comparison.after, *_HEADS, "outcome")
        table = [head, *map(_change_cells, comparison.rows)]
        corrected = "recommenders that changed"
        notes = [f"{name}: refitted on train + validation in {at} alone." for name, at in comparison.refitted.items()]
    else:
        one, other = comparison.one, comparison.other
        title = (
            f"{one} against {other}, {comparison.revision}: "
            f"{comparison.queries} test queries of {comparison.users} users"
        )
        head = ("", one, other, *_HEADS, "verdict", f"claim of {comparison.claimed_gain:+.0%}")
        table = [
            head,
            *(
                (_title(row), f"{row.one:.4f}", f"{row.other:.4f}", *_number_cells(row), row.verdict, row.claim or "")
                for row in comparison.rows
            ),
        ]
        corrected = "rows; the leaderboard corrects for all its recommenders"
        gain = f"{comparison.claimed_gain:+.0%}"
        notes = [
            f"shown: {one} is better; behind: {other} is, by the same rule; contradicted: neither, and the interval "
            f"lies below {gain}; undecided: otherwise.",
            f"claim: reached where the interval lies at {gain} or above, excluded where it lies below, else open.",
        ]
        notes += [f"{name}: no test query." for name in comparison.empty_slices]
    legend = (
        f"interval: {comparison.level:.0%}, paired bootstrap over users. detectable: the smallest true difference that "
        f"so many users would show, before p's correction. p: corrected (Holm) for the number of {corrected}."
    )
    return "\n".join([title, *aligned(table), legend, *notes])


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _title(row: MetricComparison) -> str:
    return row.metric if row.slice == "all" else f"{row.metric}, {row.slice} ({row.queries})"


def _change_cells(row: RecommenderChange) -> tuple[str, ...]:
    means = ("-" if mean is None else f"{mean:.4f}" for mean in (row.before, row.after))
    compared = row.outcome not in ("", "unchanged")
    return (row.recommender, *means, *(_number_cells(row) if compared else [""] * len(_HEADS)), row.outcome)


def _number_cells(row: RecommenderChange | MetricComparison) -> tuple[str, ...]:
    """Return the cells under `_HEADS`."""
    return (
        format_difference(row.difference or 0, row.low or 0, row.high or 0),
        format_relative(row.relative),
        f"{row.detectable or 0:.4f}",
        "" if row.p_corrected is None else format_p(row.p_corrected),
    )
