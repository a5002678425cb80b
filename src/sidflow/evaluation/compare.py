"""The leaderboard: all recommenders side by side, against the best baseline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np
import polars as pl

from sidflow.artifacts.evaluation import LISTED
from sidflow.artifacts.split import TEST, VALID
from sidflow.core.errors import InputError
from sidflow.evaluation.metrics import (
    MEAN_LOG2_RANK,
    METRIC_NAMES,
    OF_ALL_RANKS,
    SAMPLED_NAMES,
    UNRANKED,
    rank_metric,
)
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.statistics import Interval, Pair, PairedBootstrap

Column = TypeVar("Column", bound=Hashable)
Kind = Literal["method", "baseline", "reference"]
LOWER_IS_BETTER = frozenset({MEAN_LOG2_RANK})
_COMPARED = ("recall_at_10", "ndcg_at_10", "mrr_at_10", "expected_ndcg_at_10", MEAN_LOG2_RANK)
_QUERY_COLUMNS = ["query_id", "user_id", "part", "tied", "history_length", "target_count"]


def recommender_kind(name: str, settings: CompareParams) -> Kind:
    """Return whether a recommender is a method under test, a baseline, or a reference that uses the truth."""
    if name in settings.references:
        return "reference"
    return "method" if name.startswith(settings.methods) else "baseline"


def per_query_values(per_query: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the values [q] of every metric that is a mean over queries: full ranking, sampled negatives, expected.

    A ranking by beam has none that need the rank of a target which is not listed.

    Args:
        per_query: the table PER_QUERY.
    """
    values = {name: rank_metric(per_query, name) for name in METRIC_NAMES}
    if LISTED not in per_query.columns:
        values |= {name: rank_metric(per_query, name) for name in SAMPLED_NAMES}
        values[MEAN_LOG2_RANK] = rank_metric(per_query, MEAN_LOG2_RANK)
    for name in ("expected_recall_at_10", "expected_ndcg_at_10"):
        if not per_query[name].null_count():
            values[name] = per_query[name].to_numpy().astype(np.float64)
    return values


def paired_bootstrap(
    values: Mapping[Column, np.ndarray], users: np.ndarray, settings: CompareParams
) -> PairedBootstrap[Column]:
    """Return the bootstrap of per-query values [q] over users [q], as the knobs of `compare` have it."""
    return PairedBootstrap(
        values, users, draws=settings.draws, seed=settings.seed, level=settings.level, power=settings.power
    )


def build_leaderboard(tables: Mapping[str, pl.DataFrame], settings: CompareParams) -> dict[str, object]:
    """Return the document LEADERBOARD.

    The best baseline is the one that is best on the validation part in the primary metric. Differences are taken on
    the test part. All of them count in the correction of p, but only methods under test get a verdict: nobody claims
    a gain for a baseline.

    Args:
        tables: PER_QUERY of every recommender that params name.
        settings: the knobs.

    Raises:
        InputError: two recommenders answered different queries, or there is no test query.
    """
    require_same_queries(
        [(f"artifacts/evaluations/{name}", table) for name, table in tables.items()],
        remedy="run `dvc repro`: one of them is of an older split",
    )
    kinds: dict[str, Kind] = {name: recommender_kind(name, settings) for name in tables}
    valid = {name: _validation_mean(table, settings.primary) for name, table in tables.items()}
    baselines = [name for name in tables if kinds[name] == "baseline"]
    best = max(baselines, key=lambda name: (valid[name], name)) if baselines else None

    tests = {name: table.filter(pl.col("part") == TEST) for name, table in tables.items()}
    queries = next(iter(tests.values()))
    if queries.is_empty():
        raise InputError(
            "artifacts/evaluations", expected="test queries", found="none", remedy="see `split` in params.yaml"
        )
    values = {
        (name, metric): column for name, table in tests.items() for metric, column in per_query_values(table).items()
    }
    bootstrap = paired_bootstrap(values, queries["user_id"].to_numpy(), settings)

    absent = {"mean": None, "low": None, "high": None, "reason": UNRANKED}
    metrics: dict[str, dict[str, object]] = {
        name: dict.fromkeys(OF_ALL_RANKS, absent) if LISTED in table.columns else {} for name, table in tables.items()
    }
    for name, metric in values:
        metrics[name][metric] = _mean_with_bounds(bootstrap.interval((name, metric)))
    return {
        "primary": settings.primary,
        "best_baseline": best,
        "claimed_gain": settings.claimed_gain,
        "level": settings.level,
        "power": settings.power,
        "users": queries["user_id"].n_unique(),
        "queries": queries.height,
        "equal": _groups_of_equals(tables),
        "recommenders": {
            name: {"kind": kinds[name], f"valid_{settings.primary}": valid[name], "metrics": metrics[name]}
            for name in tables
        },
        "differences": {} if best is None else _differences_to(best, kinds, values, bootstrap, settings),
    }


def slice_intervals(
    tables: Mapping[str, pl.DataFrame], slices: Mapping[str, np.ndarray], settings: CompareParams
) -> dict[str, dict[str, dict[str, float]]]:
    """Return nDCG@10 with its interval, by recommender and slice. Each slice has a bootstrap over its own users.

    Args:
        tables: PER_QUERY of recommenders that answered the same queries, one or more.
        slices: which queries belong to each slice, bool [q]. Those of all test queries, or of none, are left out.
        settings: the knobs of the bootstrap, as for the leaderboard.
    """
    queries = next(iter(tables.values()))
    users, test = queries["user_id"].to_numpy(), (queries["part"] == TEST).to_numpy()
    intervals: dict[str, dict[str, dict[str, float]]] = {name: {} for name in tables}
    for part, mask in slices.items():
        in_slice = mask & test
        if not in_slice.any() or (in_slice == test).all():
            continue
        values = {name: rank_metric(table, "ndcg_at_10")[in_slice] for name, table in tables.items()}
        bootstrap = paired_bootstrap(values, users[in_slice], settings)
        for name in tables:
            intervals[name][part] = _mean_with_bounds(bootstrap.interval(name))
    return intervals


def _mean_with_bounds(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def require_same_refit(refits: Mapping[str, bool | None], artifact: str, remedy: str) -> None:
    """Make sure that all models were refitted on training + validation before the test, or none of them.

    Args:
        refits: by name, whether it was refitted; None where there was nothing to fit, which goes with both.
        artifact: the table in which they would meet.
        remedy: what the user can do about it.

    Raises:
        InputError: some were refitted and some were not.
    """
    refitted, not_refitted = (
        ", ".join(name for name, refit in refits.items() if refit is value) for value in (True, False)
    )
    if refitted and not_refitted:
        raise InputError(
            artifact,
            expected="all refitted on train + validation before the test, or none",
            found=f"refitted: {refitted}; not: {not_refitted}",
            remedy=remedy,
        )


def require_same_queries(tables: Sequence[tuple[str, pl.DataFrame]], remedy: str) -> None:
    """Make sure that all tables answer the queries of the first one.

    Args:
        tables: names of artifacts with PER_QUERY, or some of its rows.
        remedy: what the user can do about it.

    Raises:
        InputError: a table answers other queries.
    """
    first_name, first = tables[0]
    for name, table in tables[1:]:
        if not table.select(_QUERY_COLUMNS).equals(first.select(_QUERY_COLUMNS)):
            raise InputError(
                name,
                expected=f"the {first.height} queries of {first_name}",
                found=f"{table.height} queries that are not the same",
                remedy=remedy,
            )


def _differences_to(
    best: str,
    kinds: Mapping[str, Kind],
    values: Mapping[tuple[str, str], np.ndarray],
    bootstrap: PairedBootstrap[tuple[str, str]],
    settings: CompareParams,
) -> dict[str, dict[str, object]]:
    """Return the comparison of every other recommender with the best baseline, corrected within each metric."""
    others = [name for name, kind in kinds.items() if name != best and kind != "reference"]
    differences: dict[str, dict[str, object]] = {name: {} for name in others}
    for metric in dict.fromkeys((settings.primary, *_COMPARED)):
        if (best, metric) not in values:
            continue
        lower = metric in LOWER_IS_BETTER
        pairs: dict[str, Pair[tuple[str, str]]] = {
            name: Pair((name, metric), (best, metric), lower) for name in others if (name, metric) in values
        }
        for name, comparison in bootstrap.compare(pairs, settings.claimed_gain).items():
            row: dict[str, object] = {
                "difference": comparison.difference,
                "low": comparison.low,
                "high": comparison.high,
                "relative": comparison.relative,
                "detectable": comparison.detectable,
                "p": comparison.p,
                "p_corrected": comparison.p_corrected,
            }
            if kinds[name] == "method":
                row["verdict"] = comparison.verdict
                if comparison.claim is not None:
                    row["claim"] = comparison.claim
            differences[name][metric] = row
    return differences


def _groups_of_equals(tables: Mapping[str, pl.DataFrame]) -> list[list[str]]:
    """Return groups of recommenders that give every query the same ranks, in order of their names."""
    groups: list[list[str]] = []
    for name in sorted(tables):
        group = next((group for group in groups if tables[group[0]].equals(tables[name])), None)
        groups.append([name]) if group is None else group.append(name)
    return [group for group in groups if len(group) > 1]


def _validation_mean(table: pl.DataFrame, metric: str) -> float:
    valid = table.filter(pl.col("part") == VALID)
    return float(rank_metric(valid, metric).mean()) if valid.height else 0.0
