"""The leaderboards of two revisions side by side: means, paired differences, corrected tests."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import polars as pl

from sidflow.commands.revisions import Revision
from sidflow.contracts.errors import InputError
from sidflow.evaluation.comparison import LOWER_IS_BETTER, columns
from sidflow.evaluation.params import CompareParams
from sidflow.measures import intervals

_SAME = ["query_id", "user_id", "tied", "history_length", "target_count"]
HEADS = ("difference", "interval", "relative", "detectable", "p", "judged")


@dataclasses.dataclass(frozen=True)
class Row:
    """One recommender before and after; what takes both is None where a revision lacks it."""

    recommender: str
    before: float | None
    after: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None  # to `before`
    detectable: float | None = None  # the smallest true difference that this many users would show, uncorrected
    p_corrected: float | None = None  # Holm, over the recommenders whose values changed
    judged: str = ""  # better | worse | undecided | unchanged


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two leaderboards in one metric, best recommender of the later one first."""

    metric: str
    before: str
    after: str
    users: int
    queries: int
    level: float
    rows: tuple[Row, ...]
    refitted: dict[str, str]  # who was refitted on train + validation in one of the two alone, and in which


def compare(before: Revision, after: Revision, settings: CompareParams, metric: str | None = None) -> Compared:
    """Compare every recommender with itself, over the same resamples of users for all.

    Args:
        before: the earlier state.
        after: the later one.
        settings: level, power, draws and seed of the resampling, and the metric where none is given.
        metric: what to compare, for example `recall_at_10`.

    Raises:
        InputError: the two answered different queries, or do not have that metric.
    """
    first = same_queries(before, after)
    metric = metric or settings.primary
    values = {
        (side, name): values_of(table, metric)
        for side, revision in enumerate((before, after))
        for name, table in revision.tests.items()
    }
    place = {key: index for index, key in enumerate(values)}
    drawn = intervals.resample(
        np.stack(list(values.values()), axis=1), first["user_id"].to_numpy(), settings.draws, settings.seed
    )
    both = [name for name in after.tests if name in before.tests]
    found = {
        name: intervals.difference(
            float(drawn.mean[place[1, name]] - drawn.mean[place[0, name]]),
            drawn.drawn[:, place[1, name]] - drawn.drawn[:, place[0, name]],
            settings.level,
            settings.power,
        )
        for name in both
    }
    changed = {name: one.p for name, one in found.items() if not np.array_equal(values[0, name], values[1, name])}
    corrected = intervals.holm(changed)
    rows = []
    for name in dict.fromkeys([*after.tests, *before.tests]):
        means = [float(drawn.mean[place[side, name]]) if (side, name) in place else None for side in (0, 1)]
        row = Row(name, means[0], means[1])
        rows.append(_judge(row, found[name], corrected.get(name), metric, settings) if name in found else row)
    rows.sort(key=lambda row: _place(row, 1 if metric in LOWER_IS_BETTER else -1))
    titles = title(before), title(after)
    unlike = [name for name in both if bool(before.refits.get(name)) != bool(after.refits.get(name))]
    refitted = {name: titles[bool(after.refits.get(name))] for name in unlike}
    users, queries = first["user_id"].n_unique(), first.height
    return Compared(metric, *titles, users, queries, settings.level, tuple(rows), refitted)


def require_fitting(rev: str | None, other: str | None, metrics: Sequence[str], *, pair: bool) -> None:
    """Refuse what `sidflow compare` cannot do together.

    Raises:
        InputError: nothing to compare, a second revision beside a pair, or several metrics without a pair.
    """
    if pair and other:
        raise InputError("--pair", expected="one revision or none", found=repr(other), remedy="leave out OTHER")
    if not pair and rev is None:
        raise InputError("compare", expected="REV or --pair A B", found="neither", remedy="`sidflow compare --help`")
    if not pair and len(metrics) > 1:
        raise InputError("--metric", expected="one, or --pair", found=f"{len(metrics)}", remedy="name one")


def as_json(found: Compared) -> str:
    """Return everything as JSON."""
    return json.dumps(dataclasses.asdict(found), indent=1)


def as_text(found: Compared) -> str:
    """Return a table, a recommender a line, and what its columns mean."""
    table = [("", found.before, found.after, *HEADS), *map(_cells, found.rows)]
    lines = [
        f"{found.metric} of {found.queries} test queries of {found.users} users",
        *aligned(table),
        f"interval: {found.level:.0%}, paired bootstrap over users. detectable: the smallest true difference that so "
        "many users would show, before p's correction. p: corrected for the number of recommenders that changed "
        "(Holm).",
        *(f"{name}: refitted on train + validation in {title} alone." for name, title in found.refitted.items()),
    ]
    return "\n".join(lines)


def _place(row: Row, sign: int) -> tuple[bool, float, float, str]:
    return row.after is None, sign * (row.after or 0.0), sign * (row.before or 0.0), row.recommender


def _judge(row: Row, found: intervals.Difference, corrected: float | None, metric: str, settings: CompareParams) -> Row:
    numbers = {"difference": found.difference, "low": found.low, "high": found.high, "detectable": found.detectable}
    relative = found.difference / row.before if row.before else None
    gain = intervals.mirrored(found) if metric in LOWER_IS_BETTER else found
    if corrected is None:
        judged = "unchanged"
    elif corrected < 1 - settings.level and (gain.low > 0 or gain.high < 0):
        judged = "better" if gain.low > 0 else "worse"
    else:
        judged = "undecided"
    return dataclasses.replace(row, **numbers, relative=relative, p_corrected=corrected, judged=judged)


def _cells(row: Row) -> tuple[str, ...]:
    means = ("-" if mean is None else f"{mean:.4f}" for mean in (row.before, row.after))
    if row.difference is None or row.judged == "unchanged":
        return (row.recommender, *means, *[""] * (len(HEADS) - 1), row.judged)
    numbers = said(row.difference, row.low or 0, row.high or 0, row.relative, row.detectable or 0, row.p_corrected or 0)
    return (row.recommender, *means, *numbers, row.judged)


def said(
    difference: float, low: float, high: float, relative: float | None, detectable: float, p: float
) -> tuple[str, ...]:
    """Return a difference as cells, in the order of `HEADS`."""
    return (
        f"{difference:+.4f}",
        f"[{low:+.4f}, {high:+.4f}]",
        "" if relative is None else f"{relative:+.1%}",
        f"{detectable:.4f}",
        f"{p:.3f}",
    )


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows of cells as lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def title(revision: Revision) -> str:
    """Return a revision as it was typed, with its commit."""
    hashed = revision.commit[:8]
    return revision.name if not hashed or revision.name.startswith(hashed) else f"{revision.name} ({hashed})"


def values_of(table: pl.DataFrame, metric: str) -> np.ndarray:
    """Return one number a query, float64 [q].

    Raises:
        InputError: there is no such metric.
    """
    known = columns(table)
    if metric not in known:
        raise InputError("--metric", expected=f"one of {', '.join(known)}", found=repr(metric), remedy="name one")
    return known[metric]


def same_queries(before: Revision, after: Revision) -> pl.DataFrame:
    """Return the test queries that every table answers.

    Raises:
        InputError: there are none, or a table answers others.
    """
    named = [(side, name, table) for side in (after, before) for name, table in side.tests.items()]
    first = named[0][2].select(_SAME) if named else pl.DataFrame()
    if first.is_empty():
        raise InputError(after.name, expected="test queries", found="none", remedy="see `split` in params.yaml")
    for side, name, table in named:
        if not table.select(_SAME).equals(first):
            raise InputError(
                f"{name} of {side.name}",
                expected=f"the {first.height} test queries of {named[0][1]} of {after.name} (preset {after.preset})",
                found=f"{table.height} of preset {side.preset} that are not the same",
                remedy="compare revisions of one preset, `ingest` and `split`; `dvc repro` where one is half done",
            )
    return first
