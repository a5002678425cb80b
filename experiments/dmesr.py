"""DMESR against its base models and simple alternatives, on all test queries and on slices, from the recorded ranks.

Of the presets whose names end in `-dmesr`, where recommenders carry their base model in their names, and of those that
end in `-fused`, for MME-SID with what DMESR fused. Also pooled over the real data sets among the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from experiments.paired import PooledAnswer, data_set_effects, is_real, pool_questions
from experiments.results import SETTINGS, bootstrap_runs, preset_names, read_runs
from experiments.runs import RECORDED_SLICES, Run
from sidflow.evaluation.statistics import Pair, PairedBootstrap, PairedComparison, compare_together

SUFFIXES = ("-dmesr", "-fused")  # of the presets that are made for these comparisons
BASES = ("sasrec", "gru4rec", "bert4rec")
ALL, TAIL = "all", "tail"
TAIL_GAIN = 0.10  # the gain on tail items that is the goal
METRIC = "ndcg_at_10"
Question = tuple[str, str]  # whether the first is better than the second


def recorded_presets() -> list[str]:
    """Return the presets made for these comparisons that have a record."""
    return [preset for preset in preset_names() if preset.endswith(SUFFIXES)]


def main_questions() -> list[Question]:
    """Return for each base model: DMESR against it, its hybrid and raw vectors, without and with the score prior."""
    return [question for base in BASES for question in _questions_of(base, ("features",))]


def _questions_of(base: str, alternatives: Sequence[str]) -> list[Question]:
    """Return DMESR over a base model, over simple alternatives on it, and over hybrids of both."""
    return [
        (f"dmesr_{base}", base),
        *((f"dmesr_{base}", f"{base}_{name}") for name in alternatives),
        (f"dmesr_{base}", f"{base}_hybrid"),
        (f"dmesr_{base}_hybrid", f"{base}_hybrid"),
        (f"dmesr_{base}_hybrid", f"{base}_features_hybrid"),
    ]


def alternative_questions() -> list[Question]:
    """Return DMESR against the further alternatives.

    One modality alone, the three views unfused; and raw vectors of text and picture
    against DMESR that reads the same vector of the picture.
    """
    names = ("text", "image", "joint", "views")
    further = [(f"dmesr_{base}", f"{base}_{name}") for base in BASES for name in names]
    return further + [(f"dmesr_{base}_picture", f"{base}_features") for base in BASES]


def ablation_questions() -> list[Question]:
    """Return DMESR against itself with one part off."""
    parts = ("unaligned", "unfused", "views", "units", "replace", "concat", "no_picture")
    views = ("no_text_view", "no_image_view", "no_joint_view", "no_fine")
    return [(f"dmesr_{base}", f"dmesr_{base}_{part}") for base in BASES for part in (*parts, *views)]


def combination_questions() -> list[Question]:
    """Return MME-SID with what DMESR fused as one more modality, against either of the two."""
    return [("mme_sid_fused", "mme_sid"), ("mme_sid_fused", "dmesr_sasrec"), ("mme_sid", "dmesr_sasrec")]


def all_questions() -> list[Question]:
    """Return the questions that are asked of all test queries, each once."""
    asked = (main_questions(), alternative_questions(), ablation_questions(), combination_questions())
    return list(dict.fromkeys(question for some in asked for question in some))


def tail_questions() -> list[Question]:
    """Return what the goal on tail items is about: DMESR against its base model, without and with the score prior."""
    return [
        question for base in BASES for question in ((f"dmesr_{base}", base), (f"dmesr_{base}_hybrid", f"{base}_hybrid"))
    ]


def pooled_questions() -> list[Question]:
    """Return what is pooled: for each base model DMESR over it, each simple alternative and its hybrid."""
    alternatives = ("features", "text", "image", "joint", "views")
    return [question for base in BASES for question in _questions_of(base, alternatives)]


class SliceAnswer(NamedTuple):
    """One paired comparison of two recommenders of a preset on one slice."""

    preset: str
    one: str
    other: str
    slice: str
    queries: int
    comparison: PairedComparison


def answers(
    preset: str,
    questions: Sequence[Question],
    metric: str,
    slices: Sequence[str] = (ALL,),
    claimed_gain: float = SETTINGS.claimed_gain,
) -> list[SliceAnswer]:
    """Return the comparisons that the runs of a preset allow, corrected for their number (Holm).

    Seeds are averaged per query first. Slices without a query, and those that older records lack, are left out.

    Args:
        preset: whose runs are read.
        questions: whether the first is better than the second.
        metric: of full ranking, or an expected one.
        slices: names of recorded slices, or ALL.
        claimed_gain: relative gain that verdicts are held against.
    """
    runs = read_runs(preset)
    names = dict.fromkeys(name for question in questions for name in question)
    pairs: dict[tuple[Question, str], tuple[PairedBootstrap[tuple[str, str]], Pair[tuple[str, str]]]] = {}
    queries: dict[str, int] = {}
    for part in slices:
        inside = _runs_on_slice(runs, part)
        if not inside:
            continue
        bootstraps = bootstrap_runs(inside, [(name, metric) for name in names])
        for question in questions:
            one, other = ((name, metric) for name in question)
            if one in bootstraps and bootstraps[one] is bootstraps.get(other):
                pairs[question, part] = (bootstraps[one], Pair(one, other))
                queries[part] = inside[0].ranks.height
    return [
        SliceAnswer(preset, question[0], question[1], part, queries[part], comparison)
        for (question, part), comparison in compare_together(pairs, claimed_gain).items()
    ]


def slice_answers(preset: str, metric: str) -> list[SliceAnswer]:
    """Return the main questions on each recorded slice that does not hold every query."""
    runs = read_runs(preset)
    whole = sum(run.ranks.height for run in runs)
    parts = [part for part in RECORDED_SLICES if sum(run.ranks.height for run in _runs_on_slice(runs, part)) < whole]
    return answers(preset, main_questions(), metric, parts)


def tail_answers(preset: str, metric: str) -> list[SliceAnswer]:
    """Return the gains on tail targets, verdicts and claims held against the goal."""
    return answers(preset, tail_questions(), metric, (TAIL,), TAIL_GAIN)


def pooled_answers() -> list[PooledAnswer]:
    """Return the random-effects estimates over the real data sets of `pooled_questions`, a family of their own."""
    return _pooled(pooled_questions(), ALL, SETTINGS.claimed_gain)


def pooled_tail_answers() -> list[PooledAnswer]:
    """Return the random-effects estimates on tail targets over the real data sets, a family of their own."""
    return _pooled(tail_questions(), TAIL, TAIL_GAIN)


def _pooled(questions: Sequence[Question], part: str, claimed_gain: float) -> list[PooledAnswer]:
    effects = {}
    for preset in recorded_presets():
        runs = read_runs(preset)
        inside = _runs_on_slice(runs, part)
        if preset.endswith(SUFFIXES[0]) and inside and is_real(runs):
            effects[preset] = data_set_effects(preset, inside, questions)
    return pool_questions(effects, questions, claimed_gain)


def _runs_on_slice(runs: Sequence[Run], part: str) -> list[Run]:
    """Return the runs with the queries of a slice alone; none where it has no query, or the records lack it."""
    if part == ALL:
        return list(runs)
    column = f"in_{part}"
    inside = [run._replace(ranks=run.ranks.filter(pl.col(column))) for run in runs if column in run.ranks.columns]
    return inside if inside and not inside[0].ranks.is_empty() else []
