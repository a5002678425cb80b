"""Recommenders of one preset against one another, query by query, from the ranks that docs/results keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sidflow.commands import results
from sidflow.commands.runs import Run
from sidflow.measures import gains, intervals
from sidflow.measures.intervals import Difference

METRIC, CUTOFF = "ndcg", 10
QUESTIONS = (  # who is asked to be better than whom
    ("mme_sid", "sasrec"),
    ("dmesr_sasrec", "sasrec"),
    ("mme_sid", "cooccurrence_content"),
    ("mme_sid", "cooccurrence"),
    ("sasrec", "cooccurrence"),
    ("sasrec", "markov"),
)


class Answer(NamedTuple):
    """One paired difference."""

    preset: str
    metric: str
    one: str
    other: str
    found: Difference
    relative: float | None  # to the other; None where that has nothing


def answers() -> list[Answer]:
    """Return the paired difference of every question that a preset's runs can answer."""
    presets = sorted(path.stem for path in results.FOLDER.glob("*.json"))
    return [answer for preset in presets for answer in _of_preset(preset)]


def _of_preset(preset: str) -> Iterator[Answer]:
    found = results.kept(preset)
    columns = set(found[0].ranks.columns) if found else set()
    for one, other in QUESTIONS:
        for metric in (f"{METRIC}_at_{CUTOFF}", f"expected_{METRIC}_at_{CUTOFF}"):
            kind = metric if metric.startswith("expected") else "rank"
            if {f"{one}.{kind}", f"{other}.{kind}"} <= columns:
                values = np.stack([_per_query(found, name, kind) for name in (one, other)], axis=1)
                known = ~np.isnan(values).any(axis=1)
                users = found[0].ranks["user_id"].to_numpy()[known]
                sampled = intervals.resample(values[known], users, results.DRAWS, results.BOOTSTRAP_SEED)
                mean = float(sampled.mean[0] - sampled.mean[1])
                difference = intervals.difference(mean, sampled.drawn[:, 0] - sampled.drawn[:, 1], results.LEVEL)
                base = float(sampled.mean[1])
                yield Answer(preset, metric, one, other, difference, mean / base if base else None)


def _per_query(found: list[Run], name: str, kind: str) -> np.ndarray:
    """Return one number a query, seeds averaged, float64 [q]."""
    rows = [run.ranks[f"{name}.{kind}"].to_numpy() for run in found]
    return np.mean([gains.gain(row, METRIC, CUTOFF) if kind == "rank" else row for row in rows], axis=0)
