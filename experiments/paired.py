"""Recommenders of one preset against one another, query by query, from the ranks in experiments/results/presets.

Also pooled over data sets: the random-effects mean of log ratios of nDCG@10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.results import SETTINGS, bootstrap_runs, independent_presets, read_runs
from experiments.runs import Run
from sidflow.evaluation.compare import LOWER_IS_BETTER
from sidflow.evaluation.pooling import PooledEffect, pool_effects
from sidflow.evaluation.statistics import (
    Pair,
    PairedComparison,
    Verdict,
    holm,
    verdict_on_gain,
)

METRIC = "ndcg_at_10"
METRICS = (METRIC, f"expected_{METRIC}")
QUESTIONS = (  # whether the first is better than the second
    ("mme_sid", "sasrec"),
    ("dmesr_sasrec", "sasrec"),
    ("mme_sid", "sasrec_features"),
    ("sasrec_features", "sasrec"),
    ("esasrec", "sasrec"),
    ("mme_sid", "cooccurrence_content"),
    ("mme_sid", "cooccurrence"),
    ("mme_sid_anchored", "mme_sid"),
    ("mme_sid_anchored", "sasrec_hybrid"),
    ("mme_sid_anchored", "sasrec_features"),
    ("mme_sid_anchored", "cooccurrence_content"),
    ("mme_sid_anchored", "cooccurrence"),
    ("sasrec_hybrid", "sasrec"),
    ("candidate_ranker", "cooccurrence_content"),
    ("sasrec_features_blend", "sasrec_features"),
    ("sasrec_features_blend", "sasrec_hybrid"),
    ("mme_sid_blend", "mme_sid"),
    ("mme_sid_blend", "mme_sid_anchored"),
    ("mme_sid_blend", "sasrec_features_blend"),
    ("mme_sid_features_blend", "sasrec_features_blend"),
    ("sasrec", "cooccurrence"),
    ("esasrec", "cooccurrence"),
    ("sasrec", "markov"),
)
METHODS = ("mme_sid", "mme_sid_anchored", "mme_sid_blend", "mme_sid_features_blend")
BEST_BASELINE = "the best baseline"  # of each data set, as its validation chose it
OPPONENTS = (
    BEST_BASELINE,
    "sasrec",
    "cooccurrence",
    "cooccurrence_content",
    "sasrec_features",
    "sasrec_hybrid",
    "sasrec_features_blend",
)
POOLED_QUESTIONS = tuple((method, opponent) for method in METHODS for opponent in OPPONENTS)
# Published forms of each data set, by the names of their presets; presets of a form may have a suffix. Where several
# answer a question, the first form counts, and of its presets the first by name.
FORMS = (
    ("amazon-beauty-text", "amazon-beauty", "amazon-beauty-mmesid"),
    ("amazon-sports",),
    ("amazon-toys",),
    ("movielens-posters",),
    ("office-products",),
)


class Answer(NamedTuple):
    """One paired comparison of two recommenders of a preset."""

    preset: str
    metric: str
    one: str
    other: str
    comparison: PairedComparison
    other_is_best_baseline: bool


class DataSetEffect(NamedTuple):
    """The effect of one data set in a pooled comparison: log(nDCG@10 of one / that of the opponent)."""

    preset: str
    opponent: str
    effect: float
    standard_error: float  # by bootstrap over users; 0 where both have the same ranks

    @property
    def is_pooled(self) -> bool:
        """Whether the effect has an error to be weighed by."""
        return self.standard_error > 0


class PooledAnswer(NamedTuple):
    """Two recommenders over all real data sets; figures are log ratios."""

    one: str
    other: str
    effects: list[DataSetEffect]
    pooled: PooledEffect
    verdict: Verdict


def answer_questions(metrics: Sequence[str] = METRICS) -> list[Answer]:
    """Return the paired comparison of every question that a preset's runs can answer.

    Args:
        metrics: of full ranking, expected ones, or `mean_log2_rank`, of which lower is better.
    """
    return [answer for preset in independent_presets() for answer in _answers_of_preset(preset, metrics)]


def answer_pooled_questions() -> list[PooledAnswer]:
    """Return the random-effects estimate of every question that two real data sets or more can answer.

    The synthetic catalogue is left out. A data set that several presets hold counts once (`FORMS`). Verdicts are
    corrected for the number of questions (Holm).
    """
    runs = {preset: recorded for preset in independent_presets() if (recorded := read_runs(preset))}
    effects = {}
    for preset, recorded in runs.items():
        if is_real(recorded):
            opponents = {BEST_BASELINE: _best_baseline(recorded)}
            effects[preset] = data_set_effects(preset, recorded, POOLED_QUESTIONS, opponents)
    return pool_questions(effects, POOLED_QUESTIONS, SETTINGS.claimed_gain)


def is_real(runs: Sequence[Run]) -> bool:
    """Return whether the runs of a preset are of real data, not of the synthetic catalogue."""
    return runs[0].record["params"]["ingest"]["source"] != "synthetic"


def pool_questions(
    effects_of_preset: Mapping[str, Mapping[tuple[str, str], DataSetEffect]],
    questions: Sequence[tuple[str, str]],
    claimed_gain: float,
) -> list[PooledAnswer]:
    """Return the random-effects estimate of every question that two data sets or more answer, corrected (Holm).

    A data set on which both recommenders have the same ranks is named among the effects and not pooled.

    Args:
        effects_of_preset: by preset and question.
        questions: those that are pooled, a family of their own.
        claimed_gain: relative gain that verdicts are held against.
    """
    pooled: dict[tuple[str, str], tuple[list[DataSetEffect], PooledEffect]] = {}
    for question in questions:
        answered = _once_per_data_set(preset for preset, effects in effects_of_preset.items() if question in effects)
        effects = [effects_of_preset[preset][question] for preset in answered]
        weighed = [effect for effect in effects if effect.is_pooled]
        if len(weighed) > 1:
            values = np.array([effect.effect for effect in weighed])
            errors = np.array([effect.standard_error for effect in weighed])
            pooled[question] = (effects, pool_effects(values, errors, SETTINGS.level))
    corrected = holm({question: effect.p for question, (_, effect) in pooled.items()})
    claimed = float(np.log1p(claimed_gain))
    return [
        PooledAnswer(
            *question, effects, effect, verdict_on_gain(effect, corrected[question], claimed, 1 - SETTINGS.level)
        )
        for question, (effects, effect) in pooled.items()
    ]


def _once_per_data_set(presets: Iterable[str]) -> list[str]:
    """Return of the presets with one data set the one that counts, in the order of names."""
    chosen: dict[str, tuple[int, str]] = {}
    for preset in presets:
        forms = [
            (len(form), names[0], place)
            for names in FORMS
            for place, form in enumerate(names)
            if preset == form or preset.startswith(f"{form}-")
        ]
        _, data_set, place = max(forms, default=(0, preset, 0))
        chosen[data_set] = min(chosen.get(data_set, (place, preset)), (place, preset))
    return sorted(preset for _, preset in chosen.values())


def data_set_effects(
    preset: str, runs: Sequence[Run], questions: Sequence[tuple[str, str]], named: Mapping[str, str] | None = None
) -> dict[tuple[str, str], DataSetEffect]:
    """Return the effects of one data set by question.

    A question is left out where the runs lack a recommender, or a resample of one has no hit.

    Args:
        preset: that the runs are of.
        runs: a run a seed.
        questions: whether the first is better than the second.
        named: recommenders by what questions call them, where that is not their name.
    """
    named = named or {}
    names = dict.fromkeys(named.get(name, name) for question in questions for name in question)
    bootstraps = bootstrap_runs(runs, [(name, METRIC) for name in names])
    effects = {}
    for question in questions:
        column, baseline = ((named.get(name, name), METRIC) for name in question)
        ratio = bootstraps[column].log_ratio(column, baseline) if {column, baseline} <= set(bootstraps) else None
        if ratio and (ratio[1] > 0 or ratio[0] == 0):
            effects[question] = DataSetEffect(preset, baseline[0], *ratio)
    return effects


def _best_baseline(runs: Sequence[Run]) -> str:
    """Return the baseline that validation chose in most of the runs; "" where no run names one."""
    named = [run.record["best_baseline"] for run in runs if run.record.get("best_baseline")]
    return max(sorted(set(named)), key=named.count, default="")


def _answers_of_preset(preset: str, metrics: Sequence[str]) -> list[Answer]:
    """Return the comparisons that a preset's runs allow, corrected for their number within each metric (Holm)."""
    runs = read_runs(preset)
    if not runs:
        return []
    best = _best_baseline(runs)
    questions = list(dict.fromkeys([*QUESTIONS, *((method, best) for method in METHODS)]))
    names = dict.fromkeys(name for question in questions for name in question)
    comparisons: dict[str, dict[tuple[str, str], PairedComparison]] = {}
    for metric in metrics:
        bootstraps = bootstrap_runs(runs, [(name, metric) for name in names])
        shared = next(iter(bootstraps.values()), None)  # a truth is known for a query or not, whoever answers it
        pairs = {
            (one, other): Pair((one, metric), (other, metric), metric in LOWER_IS_BETTER)
            for one, other in questions
            if shared and bootstraps.get((one, metric)) is bootstraps.get((other, metric)) is shared
        }
        comparisons[metric] = shared.compare(pairs, SETTINGS.claimed_gain) if shared else {}
    return [
        Answer(preset, metric, *question, comparisons[metric][question], question[1] == best)
        for question in questions
        for metric in metrics
        if question in comparisons[metric]
    ]
