"""Two revisions, or two recommenders of one revision, compared query by query.

Both are paired comparisons over the test queries, with users resampled and p values corrected (Holm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from sidflow.artifacts.evaluation import LISTED
from sidflow.cli.revisions import Revision
from sidflow.core.errors import InputError, closest_names
from sidflow.evaluation.compare import (
    LOWER_IS_BETTER,
    paired_bootstrap,
    per_query_values,
    require_same_queries,
    require_same_refit,
)
from sidflow.evaluation.metrics import OF_ALL_RANKS, UNRANKED
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.statistics import (
    Claim,
    Pair,
    PairedComparison,
    Verdict,
    compare_together,
)

Outcome = Literal["better", "worse", "undecided", "unchanged", ""]
_OUTCOMES: dict[Verdict, Outcome] = {"shown": "better", "behind": "worse"}


@dataclass(frozen=True)
class RecommenderChange:
    """One recommender before and after; None where one of the two revisions lacks it."""

    recommender: str
    before: float | None
    after: float | None
    difference: float | None = None  # after less before
    low: float | None = None
    high: float | None = None
    relative: float | None = None  # to `before`
    detectable: float | None = None  # minimum detectable effect, uncorrected
    p_corrected: float | None = None  # Holm, over the recommenders whose values changed
    outcome: Outcome = ""


@dataclass(frozen=True)
class RevisionComparison:
    """Two revisions in one metric, the best recommender of the later one first."""

    metric: str
    before: str
    after: str
    users: int
    queries: int
    level: float
    rows: tuple[RecommenderChange, ...]
    refitted: dict[str, str]  # by recommender refitted on train + validation in one revision alone: that revision


@dataclass(frozen=True)
class MetricComparison:
    """Two recommenders in one metric."""

    metric: str
    slice: str  # of the queries; `all`
    queries: int
    one: float
    other: float
    difference: float  # one less other
    low: float
    high: float
    relative: float | None  # to `other`
    detectable: float  # minimum detectable effect, uncorrected
    p_corrected: float  # Holm, over the metrics and slices
    verdict: Verdict
    claim: Claim | None  # None where no gain is claimed in that metric, or the other has nothing


@dataclass(frozen=True)
class RecommenderComparison:
    """Whether recommender `one` is better than `other`, metric by metric, slice by slice."""

    one: str
    other: str
    revision: str
    users: int
    queries: int
    level: float
    claimed_gain: float
    rows: tuple[MetricComparison, ...]
    empty_slices: tuple[str, ...] = ()  # that were asked for, and have no test query


def check_arguments(
    rev: str | None, other: str | None, metrics: Sequence[str], slices: Sequence[str] = (), *, pair: bool
) -> None:
    """Make sure that the arguments of `sidflow compare` go together.

    Raises:
        InputError: there is nothing to compare, a second revision beside a pair, several metrics without a pair, or
            slices of anything but a pair in the workspace.
    """
    if slices and (rev is not None or not pair):
        found = "a revision" if pair else "no --pair"
        raise InputError("--slice", expected="--pair of the files in artifacts/", found=found, remedy="leave it out")
    if pair and other:
        raise InputError("--pair", expected="one revision or none", found=repr(other), remedy="leave out OTHER")
    if not pair and rev is None:
        raise InputError(
            "sidflow compare", expected="REV or --pair A B", found="neither", remedy="`sidflow compare --help`"
        )
    if not pair and len(metrics) > 1:
        raise InputError("--metric", expected="one, or --pair", found=f"{len(metrics)}", remedy="name one")


def compare_revisions(
    before: Revision, after: Revision, settings: CompareParams, metric: str | None = None
) -> RevisionComparison:
    """Return every recommender's change between two revisions.

    Args:
        before: the earlier state.
        after: the later one.
        settings: level, power, draws and seed of the bootstrap, and the metric where none is given.
        metric: for example `recall_at_10`.

    Raises:
        InputError: the two answered different queries, or do not have that metric.
    """
    queries = _shared_queries(before, after)
    metric = metric or settings.primary
    lower_is_better = metric in LOWER_IS_BETTER
    sides = (("before", before), ("after", after))
    tests = {(side, name): table for side, revision in sides for name, table in revision.tests.items()}
    values = {key: of_table[metric] for key, table in tests.items() if metric in (of_table := per_query_values(table))}
    if not values:
        raise _unknown_metric(next(iter(tests.values())), metric)
    bootstrap = paired_bootstrap(values, queries["user_id"].to_numpy(), settings)
    shared = [name for name in after.tests if ("after", name) in values and ("before", name) in values]
    pairs: dict[str, Pair[tuple[str, str]]] = {
        name: Pair(("after", name), ("before", name), lower_is_better) for name in shared
    }
    changed = {name: pair for name, pair in pairs.items() if not bootstrap.identical(pair.column, pair.baseline)}
    comparisons = bootstrap.compare(changed, settings.claimed_gain)
    rows = []
    for name in dict.fromkeys([*after.tests, *before.tests]):
        old, new = (bootstrap.mean((side, name)) if (side, name) in values else None for side in ("before", "after"))
        if name in comparisons:
            comparison = comparisons[name]
            outcome = _OUTCOMES.get(comparison.verdict, "undecided")
            rows.append(RecommenderChange(name, old, new, *_numbers(comparison), outcome))
        elif name in pairs:
            relative = 0.0 if old else None
            rows.append(RecommenderChange(name, old, new, 0.0, 0.0, 0.0, relative, 0.0, None, "unchanged"))
        else:
            rows.append(RecommenderChange(name, old, new))
    rows.sort(key=lambda row: _best_first(row, lower_is_better))
    refitted = {
        name: (after if after.refits.get(name) else before).title
        for name in shared
        if bool(before.refits.get(name)) != bool(after.refits.get(name))
    }
    users = queries["user_id"].n_unique()
    return RevisionComparison(
        metric, before.title, after.title, users, queries.height, settings.level, tuple(rows), refitted
    )


def compare_recommenders(
    revision: Revision,
    names: tuple[str, str],
    metrics: Sequence[str],
    settings: CompareParams,
    slices: Mapping[str, np.ndarray] | None = None,
) -> RecommenderComparison:
    """Return two recommenders of one revision against one another.

    Args:
        revision: the state that evaluated them.
        names: the one that may be better, and the other.
        metrics: names of `per_query_values`; the primary metric if there are none.
        settings: level, power, claimed gain, draws and seed of the bootstrap.
        slices: which test queries belong to each slice, bool [q]; all queries are compared first.

    Raises:
        InputError: a recommender or a metric is unknown, both names are the same, only one of the two was refitted, or
            they answered different queries.
    """
    for name in names:
        if name not in revision.tests:
            expected = closest_names(name, revision.tests)
            raise InputError("--pair", expected=expected, found=repr(name), remedy="name evaluated recommenders")
    require_same_refit({name: revision.refits.get(name) for name in names}, "--pair", "set `refit` alike for both")
    one, other = names
    if one == other:
        raise InputError("--pair", expected="two recommenders", found=f"{one!r} twice", remedy="name another one")
    queries = _shared_queries(revision._replace(tests={name: revision.tests[name] for name in names}))
    metrics = list(dict.fromkeys(metrics or [settings.primary]))
    values = {
        (metric, name): _metric_values(revision.tests[name], metric)
        for metric in metrics
        for name in dict.fromkeys(names)
    }
    asked = {"all": np.ones(queries.height, dtype=bool), **(slices or {})}
    parts = {name: mask for name, mask in asked.items() if mask.any()}
    rows = _metric_comparisons(values, queries["user_id"].to_numpy(), parts, names, settings)
    level, claimed = settings.level, settings.claimed_gain
    user_count = queries["user_id"].n_unique()
    empty = tuple(name for name in asked if name not in parts)
    return RecommenderComparison(one, other, revision.title, user_count, queries.height, level, claimed, rows, empty)


def _metric_comparisons(
    values: Mapping[tuple[str, str], np.ndarray],
    users: np.ndarray,
    parts: Mapping[str, np.ndarray],
    names: tuple[str, str],
    settings: CompareParams,
) -> tuple[MetricComparison, ...]:
    """Return the comparison in each metric on each part of the queries, all of them corrected together.

    Args:
        values: per-query values by metric and recommender.
        users: the user of each query.
        parts: which queries belong to each part, bool [q].
        names: the recommender that may be better, and the other.
        settings: the knobs of the bootstrap.
    """
    one, other = names
    bootstraps = {
        part: paired_bootstrap({column: of_column[mask] for column, of_column in values.items()}, users[mask], settings)
        for part, mask in parts.items()
    }
    pairs = {
        (part, metric): (bootstrap, Pair((metric, one), (metric, other), metric in LOWER_IS_BETTER))
        for part, bootstrap in bootstraps.items()
        for metric in dict.fromkeys(metric for metric, _ in values)
    }
    return tuple(
        MetricComparison(
            metric,
            part,
            int(parts[part].sum()),
            comparison.mean,
            comparison.baseline_mean,
            *_numbers(comparison),
            comparison.verdict,
            comparison.claim,
        )
        for (part, metric), comparison in compare_together(pairs, settings.claimed_gain).items()
    )


def _numbers(comparison: PairedComparison) -> tuple[float, float, float, float | None, float, float]:
    """Return difference, low, high, relative, detectable and p_corrected, in the order of both kinds of rows."""
    interval = comparison.difference, comparison.low, comparison.high
    return *interval, comparison.relative, comparison.detectable, comparison.p_corrected


def _best_first(row: RecommenderChange, lower_is_better: bool) -> tuple[bool, float, float, str]:
    sign = 1 if lower_is_better else -1
    return row.after is None, sign * (row.after or 0.0), sign * (row.before or 0.0), row.recommender


def _metric_values(tests: pl.DataFrame, metric: str) -> np.ndarray:
    """Return the metric of every query, float64 [q].

    Raises:
        InputError: there is no such metric.
    """
    values = per_query_values(tests)
    if metric not in values:
        raise _unknown_metric(tests, metric)
    return values[metric]


def _unknown_metric(tests: pl.DataFrame, metric: str) -> InputError:
    reason = f", which needs every rank; {UNRANKED}" if LISTED in tests.columns and metric in OF_ALL_RANKS else ""
    expected = closest_names(metric, per_query_values(tests))
    return InputError("--metric", expected=expected, found=f"{metric!r}{reason}", remedy="name one")


def _shared_queries(*revisions: Revision) -> pl.DataFrame:
    """Return the test queries that all recommenders of all revisions answer.

    Raises:
        InputError: there are none, or a recommender answers others.
    """
    tables = [
        (f"{name} of {revision.name} (preset {revision.preset})", table)
        for revision in reversed(revisions)
        for name, table in revision.tests.items()
    ]
    if not tables or tables[0][1].is_empty():
        raise InputError(revisions[-1].name, expected="test queries", found="none", remedy="see `split` in params.yaml")
    remedy = "compare revisions of one preset, `ingest` and `split`; `dvc repro` where one is half done"
    require_same_queries(tables, remedy)
    return tables[0][1]
