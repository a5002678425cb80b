"""Recommenders of one preset against one another, query by query, from the ranks that docs/results keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sidflow.commands import results
from sidflow.commands.runs import Run
from sidflow.evaluation.comparison import MEAN_LOG2_RANK, judge
from sidflow.evaluation.params import CompareParams
from sidflow.evaluation.queries import split_name
from sidflow.measures import gains, intervals, pooling
from sidflow.measures.intervals import Difference, Verdict
from sidflow.measures.pooling import Pooled

METRIC = "ndcg_at_10"
METRICS = (METRIC, f"expected_{METRIC}")
QUESTIONS = (  # who is asked to be better than whom
    ("mme_sid", "sasrec"),
    ("dmesr_sasrec", "sasrec"),
    ("mme_sid", "sasrec_features"),
    ("sasrec_features", "sasrec"),
    ("esasrec", "sasrec"),
    ("mme_sid", "cooccurrence_content"),
    ("mme_sid", "cooccurrence"),
    ("mme_sid_anchored", "mme_sid"),
    ("mme_sid_anchored", "sasrec_features"),
    ("mme_sid_anchored", "cooccurrence_content"),
    ("mme_sid_anchored", "cooccurrence"),
    ("sasrec", "cooccurrence"),
    ("esasrec", "cooccurrence"),
    ("sasrec", "markov"),
)
METHODS = ("mme_sid", "mme_sid_anchored")
BEST = "the best baseline"  # of each data set, as its validation chose it
OPPONENTS = (BEST, "sasrec", "cooccurrence", "cooccurrence_content", "sasrec_features")
POOLED_QUESTIONS = tuple((method, opponent) for method in METHODS for opponent in OPPONENTS)
_SETTINGS = CompareParams.model_validate({"level": results.LEVEL})
CLAIMED = _SETTINGS.claimed_gain  # relative
# Published forms of a source that another preset holds too: such a preset counts only where the other has no answer.
OTHER_FORMS = {"amazon-beauty-mmesid": "amazon-beauty"}


class Answer(NamedTuple):
    """One paired difference."""

    preset: str
    metric: str
    one: str
    other: str
    found: Difference
    relative: float | None  # to the other; None where that has nothing
    best: bool  # whether the other is the preset's best baseline
    verdict: Verdict


class Share(NamedTuple):
    """What one data set says of a pooled question: the logarithm of (nDCG@10 of one / that of the other)."""

    preset: str
    opponent: str
    effect: float
    error: float  # standard error, by bootstrap over users


class PooledAnswer(NamedTuple):
    """One question over all real data sets; figures are logarithms of ratios, as in `Share`."""

    one: str
    other: str
    shares: list[Share]
    pooled: Pooled
    verdict: Verdict


def answers(metrics: Sequence[str] = METRICS) -> list[Answer]:
    """Return the paired difference of every question that a preset's runs can answer.

    Args:
        metrics: of full ranking, expected ones, or `mean_log2_rank`, where the lower one is the better one.
    """
    presets = sorted(path.stem for path in results.FOLDER.glob("*.json"))
    return [answer for preset in presets for answer in _of_preset(preset, metrics)]


def pooled() -> list[PooledAnswer]:
    """Return the random-effects estimate of every question that two real data sets or more can answer.

    The synthetic catalogue is no data set that one could meet, and is left out. A source that stands in docs/results
    in two published forms counts once (`OTHER_FORMS`). Verdicts are corrected for the number of questions (Holm).
    """
    runs = {path.stem: found for path in sorted(results.FOLDER.glob("*.json")) if (found := results.kept(path.stem))}
    real = {preset: found for preset, found in runs.items() if not _synthetic(found[0])}
    rows: dict[str, tuple[str, str, list[Share], Pooled]] = {}
    for one, other in POOLED_QUESTIONS:
        shares = {preset: share for preset, each in real.items() if (share := _share(preset, each, one, other))}
        once = [share for preset, share in shares.items() if OTHER_FORMS.get(preset) not in shares]
        if len(once) > 1:
            effects, errors = (np.array([getattr(share, name) for share in once]) for name in ("effect", "error"))
            rows[f"{one} {other}"] = (one, other, once, pooling.pool(effects, errors, results.LEVEL))
    corrected = intervals.holm({name: row[-1].found.p for name, row in rows.items()})
    claimed = float(np.log1p(CLAIMED))
    return [
        PooledAnswer(*row, intervals.verdict(row[-1].found, corrected[name], claimed, 1 - results.LEVEL))
        for name, row in rows.items()
    ]


def _synthetic(run: Run) -> bool:
    return run.record["params"]["ingest"]["source"] == "synthetic"


def _share(preset: str, found: list[Run], one: str, other: str) -> Share | None:
    """Return what a preset's runs say, or None where they lack one of the two or a resample of one has no hit."""
    other = _best_baseline(found) if other == BEST else other
    if not {f"{one}.rank", f"{other}.rank"} <= set(found[0].ranks.columns):
        return None
    values = np.stack([_per_query(found, name, METRIC) for name in (one, other)], axis=1)
    users = found[0].ranks["user_id"].to_numpy()
    sampled = intervals.resample(values, users, results.DRAWS, results.BOOTSTRAP_SEED)
    if not (sampled.mean > 0).all() or not (sampled.drawn > 0).all():
        return None
    error = float(np.log(sampled.drawn[:, 0] / sampled.drawn[:, 1]).std(ddof=1))
    return Share(preset, other, float(np.log(sampled.mean[0] / sampled.mean[1])), error) if error > 0 else None


def _best_baseline(found: list[Run]) -> str:
    """Return the baseline that validation chose in most of the runs; "" where none says."""
    named = [run.record["best_baseline"] for run in found if run.record.get("best_baseline")]
    return max(sorted(set(named)), key=named.count, default="")


def _of_preset(preset: str, metrics: Sequence[str]) -> Iterator[Answer]:
    """Yield what a preset's runs can answer; verdicts are corrected for the number of its questions (Holm)."""
    found = results.kept(preset)
    if not found:
        return
    best = _best_baseline(found)
    questions = dict.fromkeys([*QUESTIONS, *((method, best) for method in METHODS)])
    answered = {metric: dict(_answered(found, metric, questions)) for metric in metrics}
    corrected = {
        metric: intervals.holm({" ".join(names): each.p for names, (each, _) in of.items()})
        for metric, of in answered.items()
    }
    for names, metric in itertools.product(questions, metrics):
        if names in answered[metric]:
            difference, base = answered[metric][names]
            judged = judge(difference, corrected[metric][" ".join(names)], metric, base, _SETTINGS)
            relative = difference.difference / base if base else None
            yield Answer(preset, metric, *names, difference, relative, names[1] == best, judged.verdict)


def _answered(
    found: list[Run], metric: str, questions: Iterable[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], tuple[Difference, float]]]:
    """Yield the paired difference of each question that the runs can answer, and what the other one has."""
    columns = set(found[0].ranks.columns)
    for one, other in questions:
        if {f"{name}.{_column(metric)}" for name in (one, other)} <= columns:
            values = np.stack([_per_query(found, name, metric) for name in (one, other)], axis=1)
            known = ~np.isnan(values).any(axis=1)
            users = found[0].ranks["user_id"].to_numpy()[known]
            sampled = intervals.resample(values[known], users, results.DRAWS, results.BOOTSTRAP_SEED)
            mean = float(sampled.mean[0] - sampled.mean[1])
            drawn = sampled.drawn[:, 0] - sampled.drawn[:, 1]
            yield (one, other), (intervals.difference(mean, drawn, results.LEVEL), float(sampled.mean[1]))


def _column(metric: str) -> str:
    """Return which column of a run's ranks has what `metric` is made of."""
    return metric if metric.startswith("expected") else "rank"


def _per_query(found: list[Run], name: str, metric: str) -> np.ndarray:
    """Return one number a query, seeds averaged, float64 [q]."""
    rows = [run.ranks[f"{name}.{_column(metric)}"].to_numpy() for run in found]
    return np.mean([_of_ranks(row, metric) if _column(metric) == "rank" else row for row in rows], axis=0)


def _of_ranks(ranks: np.ndarray, metric: str) -> np.ndarray:
    return np.log2(ranks) if metric == MEAN_LOG2_RANK else gains.gain(ranks, *split_name(metric))
