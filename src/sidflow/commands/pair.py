"""Any two recommenders of one state of the project against one another, query by query."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from sidflow.commands import compare
from sidflow.commands.revisions import Revision
from sidflow.contracts.errors import InputError
from sidflow.evaluation.comparison import judge
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.refits import refuse_mixture
from sidflow.measures import intervals


@dataclasses.dataclass(frozen=True)
class Row:
    """The two in one metric."""

    metric: str
    one: float
    other: float
    difference: float  # one less other
    low: float
    high: float
    relative: float | None  # to `other`
    detectable: float  # the smallest true difference that this many users would show, uncorrected
    p_corrected: float  # Holm, over the metrics
    verdict: intervals.Verdict
    claim: intervals.Claim | None  # None where no gain is claimed in that metric


@dataclasses.dataclass(frozen=True)
class Pair:
    """Whether `one` is better than `other`."""

    one: str
    other: str
    revision: str
    users: int
    queries: int
    level: float
    claimed_gain: float
    rows: tuple[Row, ...]


def compare_pair(revision: Revision, names: tuple[str, str], metrics: Sequence[str], settings: CompareParams) -> Pair:
    """Compare two recommenders over the same resamples of users.

    Args:
        revision: what measured them.
        names: who is asked to be better, and than whom.
        metrics: names of `comparison.columns`; the primary one if there are none.
        settings: level, power, claimed gain, draws and seed of the resampling.

    Raises:
        InputError: a recommender or a metric is unknown, only one of the two was refitted, or they answered different
            queries.
    """
    for name in names:
        if name not in revision.tests:
            known = ", ".join(revision.tests)
            raise InputError("--pair", expected=f"two of {known}", found=repr(name), remedy="name evaluated ones")
    refuse_mixture({name: revision.refits.get(name) for name in names}, "--pair", "set `refit` alike for both")
    one, other = (revision._replace(tests={name: revision.tests[name]}) for name in names)
    first = compare.same_queries(other, one)
    asked = list(dict.fromkeys(metrics or [settings.primary]))
    values = [
        compare.values_of(side.tests[name], metric)
        for metric in asked
        for side, name in zip((one, other), names, strict=True)
    ]
    drawn = intervals.resample(np.stack(values, axis=1), first["user_id"].to_numpy(), settings.draws, settings.seed)
    found = {
        metric: intervals.difference(
            float(drawn.mean[2 * place] - drawn.mean[2 * place + 1]),
            drawn.drawn[:, 2 * place] - drawn.drawn[:, 2 * place + 1],
            settings.level,
            settings.power,
        )
        for place, metric in enumerate(asked)
    }
    corrected = intervals.holm({metric: each.p for metric, each in found.items()})
    rows = []
    for place, (metric, each) in enumerate(found.items()):
        mine, theirs = (float(drawn.mean[2 * place + side]) for side in (0, 1))
        judged = judge(each, corrected[metric], metric, theirs, settings)
        relative = each.difference / theirs if theirs else None
        numbers = (each.difference, each.low, each.high, relative, each.detectable, float(corrected[metric]))
        rows.append(Row(metric, mine, theirs, *numbers, *judged))
    users = first["user_id"].n_unique()
    title = compare.title(revision)
    return Pair(*names, title, users, first.height, settings.level, settings.claimed_gain, tuple(rows))


def as_json(found: Pair) -> str:
    """Return everything as JSON."""
    return json.dumps(dataclasses.asdict(found), indent=1)


def as_text(found: Pair) -> str:
    """Return a table, a metric a line, and what its columns mean."""
    heads = ("", found.one, found.other, *compare.HEADS[:-1], "verdict", f"claim of {found.claimed_gain:+.0%}")
    lines = [
        f"{found.one} against {found.other}, {found.revision}: {found.queries} test queries of {found.users} users",
        *compare.aligned([heads, *map(_cells, found.rows)]),
        f"interval: {found.level:.0%}, paired bootstrap over users. detectable: the smallest true difference that so "
        "many users would show, before p's correction. p: corrected for the number of metrics (Holm). "
        f"shown: {found.one} is better.",
    ]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.metric,
        f"{row.one:.4f}",
        f"{row.other:.4f}",
        *compare.said(row.difference, row.low, row.high, row.relative, row.detectable, row.p_corrected),
        row.verdict,
        row.claim or "",
    )
