"""DMESR against its base models and simple alternatives, on all test queries and on slices, from the recorded ranks.

Of the preset `embedded-dmesr`, whose recommenders carry their base model in their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from experiments.results import SETTINGS, bootstrap_runs, read_runs
from experiments.runs import RECORDED_SLICES, Run
from sidflow.evaluation.statistics import Pair, PairedBootstrap, PairedComparison, compare_together

PRESET = "embedded-dmesr"
BASES = ("sasrec", "gru4rec", "bert4rec")
ALL = "all"
Question = tuple[str, str]  # whether the first is better than the second


def main_questions() -> list[Question]:
    """Return for each base model: DMESR against it and against raw vectors, without and with the score prior."""
    return [
        question
        for base in BASES
        for question in (
            (f"dmesr_{base}", base),
            (f"dmesr_{base}", f"{base}_features"),
            (f"dmesr_{base}_hybrid", f"{base}_hybrid"),
            (f"dmesr_{base}_hybrid", f"{base}_features_hybrid"),
        )
    ]


def alternative_questions() -> list[Question]:
    """Return DMESR against the further alternatives: one modality alone, and the base model on its schedule."""
    return [(f"dmesr_{base}", f"{base}_{name}") for base in BASES for name in ("text", "image", "joint", "scheduled")]


def ablation_questions() -> list[Question]:
    """Return DMESR against itself with one part off."""
    parts = ("unaligned", "unfused", "views", "units", "replace", "concat", "no_picture")
    return [(f"dmesr_{base}", f"dmesr_{base}_{part}") for base in BASES for part in parts]


class SliceAnswer(NamedTuple):
    """One paired comparison of two recommenders on one slice."""

    one: str
    other: str
    slice: str
    queries: int
    comparison: PairedComparison


def answers(
    questions: Sequence[Question], metric: str, slices: Sequence[str] = (ALL,), preset: str = PRESET
) -> list[SliceAnswer]:
    """Return the comparisons that the runs of a preset allow, corrected for their number (Holm).

    Seeds are averaged per query first. Slices without a query, and those that older records lack, are left out.
    """
    runs = read_runs(preset)
    names = dict.fromkeys(name for question in questions for name in question)
    pairs: dict[tuple[Question, str], tuple[PairedBootstrap[tuple[str, str]], Pair[tuple[str, str]]]] = {}
    queries: dict[str, int] = {}
    for part in slices:
        inside = _runs_on_slice(runs, part)
        if not inside or inside[0].ranks.is_empty():
            continue
        bootstraps = bootstrap_runs(inside, [(name, metric) for name in names])
        for question in questions:
            one, other = ((name, metric) for name in question)
            if one in bootstraps and bootstraps[one] is bootstraps.get(other):
                pairs[question, part] = (bootstraps[one], Pair(one, other))
                queries[part] = inside[0].ranks.height
    return [
        SliceAnswer(question[0], question[1], part, queries[part], comparison)
        for (question, part), comparison in compare_together(pairs, SETTINGS.claimed_gain).items()
    ]


def slice_answers(metric: str, preset: str = PRESET) -> list[SliceAnswer]:
    """Return the main questions on each recorded slice."""
    return answers(main_questions(), metric, RECORDED_SLICES, preset)


def _runs_on_slice(runs: Sequence[Run], part: str) -> list[Run]:
    if part == ALL:
        return list(runs)
    column = f"in_{part}"
    return [run._replace(ranks=run.ranks.filter(pl.col(column))) for run in runs if column in run.ranks.columns]
