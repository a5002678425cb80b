"""All recommenders side by side: intervals, paired differences to the best baseline, corrected tests, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.queries import TEST, VALID
from sidflow.contracts.errors import InputError
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.queries import NAMES, split_name
from sidflow.measures import gains, intervals

Kind = Literal["method", "baseline", "reference"]
MEAN_LOG2_RANK = "mean_log2_rank"
LOWER_IS_BETTER = frozenset({MEAN_LOG2_RANK})
_COMPARED = ("recall_at_10", "ndcg_at_10", "mrr_at_10", "expected_ndcg_at_10", MEAN_LOG2_RANK)
_SAME = ["query_id", "user_id", "part", "tied", "history_length", "target_count"]


class Judged(NamedTuple):
    """What is said of one recommender against another in one metric."""

    verdict: intervals.Verdict
    claim: intervals.Claim | None  # None where no gain is claimed in that metric


def kind(name: str, settings: CompareParams) -> Kind:
    """Return whether a recommender is a method under test, a baseline, or a reference that knows the answer."""
    if name in settings.references:
        return "reference"
    return "method" if name.startswith(settings.methods) else "baseline"


def columns(frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return what is averaged, query by query: full ranking, the sampled protocol, log2 of the rank, expected."""
    ranks, sampled = frame["rank"].to_numpy(), frame["sampled_rank"].to_numpy()
    found = {name: gains.gain(ranks, *split_name(name)) for name in NAMES}
    found |= {f"sampled_{name}": gains.gain(sampled, *split_name(name)) for name in NAMES}
    found[MEAN_LOG2_RANK] = np.log2(ranks)
    for name in ("expected_recall_at_10", "expected_ndcg_at_10"):
        if not frame[name].null_count():
            found[name] = frame[name].to_numpy().astype(np.float64)
    return found


def compare(tables: Mapping[str, pl.DataFrame], settings: CompareParams) -> dict[str, object]:
    """Return the leaderboard document.

    The best baseline is the one that is best on the validation part in the primary metric; differences are taken
    on the test part, over the same resamples of users for all. Every difference counts in the correction of p, but
    only methods under test get a verdict: nobody claims a gain for a baseline.

    Args:
        tables: PER_QUERY of every recommender that params name.
        settings: the knobs.

    Raises:
        InputError: two recommenders answered different queries.
    """
    _same_queries(tables)
    kinds: dict[str, Kind] = {name: kind(name, settings) for name in tables}
    valid = {name: _mean(frame.filter(pl.col("part") == VALID), settings.primary) for name, frame in tables.items()}
    baselines = [name for name in tables if kinds[name] == "baseline"]
    best = max(baselines, key=lambda name: (valid[name], name)) if baselines else None

    tests = {name: frame.filter(pl.col("part") == TEST) for name, frame in tables.items()}
    first = next(iter(tests.values()))
    if first.is_empty():
        raise InputError(
            "artifacts/evaluations", expected="test queries", found="none", remedy="see `split` in params.yaml"
        )
    values = {(name, metric): column for name, frame in tests.items() for metric, column in columns(frame).items()}
    place = {key: index for index, key in enumerate(values)}
    drawn = intervals.resample(
        np.stack(list(values.values()), axis=1), first["user_id"].to_numpy(), settings.draws, settings.seed
    )

    recommenders: dict[str, object] = {}
    for name in tables:
        measured = {}
        for (of, metric), column in place.items():
            if of == name:
                found = intervals.interval(float(drawn.mean[column]), drawn.drawn[:, column], settings.level)
                measured[metric] = {"mean": found.mean, "low": found.low, "high": found.high}
        recommenders[name] = {"kind": kinds[name], f"valid_{settings.primary}": valid[name], "metrics": measured}
    return {
        "primary": settings.primary,
        "best_baseline": best,
        "claimed_gain": settings.claimed_gain,
        "level": settings.level,
        "power": settings.power,
        "users": first["user_id"].n_unique(),
        "queries": first.height,
        "equal": _equal(tables),
        "recommenders": recommenders,
        "differences": {} if best is None else _differences(best, kinds, place, drawn, settings),
    }


def _differences(
    best: str,
    kinds: Mapping[str, Kind],
    place: Mapping[tuple[str, str], int],
    drawn: intervals.Resamples,
    settings: CompareParams,
) -> dict[str, dict[str, object]]:
    others = [name for name, what in kinds.items() if name != best and what != "reference"]
    result: dict[str, dict[str, object]] = {name: {} for name in others}
    for metric in dict.fromkeys((settings.primary, *_COMPARED)):
        if (best, metric) not in place or not others:
            continue
        base = place[best, metric]
        found = {
            name: intervals.difference(
                float(drawn.mean[place[name, metric]] - drawn.mean[base]),
                drawn.drawn[:, place[name, metric]] - drawn.drawn[:, base],
                settings.level,
                settings.power,
            )
            for name in others
        }
        corrected = intervals.holm({name: one.p for name, one in found.items()})
        level_of_best = float(drawn.mean[base])
        for name, one in found.items():
            row: dict[str, object] = {
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "relative": one.difference / level_of_best if level_of_best > 0 else None,
                "detectable": one.detectable,
                "p": one.p,
                "p_corrected": corrected[name],
            }
            if kinds[name] == "method":
                judged = judge(one, corrected[name], metric, level_of_best, settings)
                row |= {said: value for said, value in judged._asdict().items() if value is not None}
            result[name][metric] = row
    return result


def judge(
    found: intervals.Difference, corrected: float, metric: str, level_of_other: float, settings: CompareParams
) -> Judged:
    """Return the verdict on one recommender against another and, where a gain is claimed, that on the claim.

    The claimed gain is one of accuracy. None is claimed of a metric that is better where lower: there `contradicted`
    says that the interval excludes every gain.

    Args:
        found: of one less the other, in the metric's own direction.
        corrected: its p, corrected.
        metric: what was compared.
        level_of_other: the other's mean, which the claimed gain is relative to.
        settings: level and claimed gain.
    """
    alpha = 1 - settings.level
    if metric in LOWER_IS_BETTER:
        return Judged(intervals.verdict(intervals.mirrored(found), corrected, 0.0, alpha), None)
    claimed = settings.claimed_gain * level_of_other
    return Judged(intervals.verdict(found, corrected, claimed, alpha), intervals.claim(found, claimed))


def _equal(tables: Mapping[str, pl.DataFrame]) -> list[list[str]]:
    """Return groups of recommenders that give every query the same ranks, in order of their names."""
    groups: list[list[str]] = []
    for name in sorted(tables):
        group = next((group for group in groups if tables[group[0]].equals(tables[name])), None)
        groups.append([name]) if group is None else group.append(name)
    return [group for group in groups if len(group) > 1]


def _mean(frame: pl.DataFrame, metric: str) -> float:
    return float(gains.gain(frame["rank"].to_numpy(), *split_name(metric)).mean()) if frame.height else 0.0


def _same_queries(tables: Mapping[str, pl.DataFrame]) -> None:
    names = list(tables)
    for name in names[1:]:
        if not tables[name].select(_SAME).equals(tables[names[0]].select(_SAME)):
            raise InputError(
                f"artifacts/evaluations/{name}",
                expected=f"the same queries as {names[0]}",
                found="others",
                remedy="run `dvc repro`: one of them is of an older split",
            )
