"""Choosing settings on validation: one knob at a time, every trial kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sidflow.contracts.histories import Histories

METRIC = "valid_ndcg_at_10"


class Choice(NamedTuple):
    """The setting that did best on validation, and all that were tried, in the order of trying."""

    setting: dict[str, float]
    trials: list[dict[str, float]]  # settings with `valid_ndcg_at_10`


def one_at_a_time(grid: Mapping[str, Sequence[float]], score: Callable[[dict[str, float]], float]) -> Choice:
    """Climb from the first value of every knob, one knob after the other, until a whole round changes nothing.

    Args:
        grid: the values to try of every knob, the starting value first.
        score: what a setting reaches; higher is better, and of equals the one tried first stays.
    """
    trials: list[dict[str, float]] = []
    known: dict[tuple[float, ...], float] = {}

    def value(setting: dict[str, float]) -> float:
        key = tuple(setting.values())
        if key not in known:
            known[key] = score(setting)
            trials.append({**setting, METRIC: known[key]})
        return known[key]

    best = {name: values[0] for name, values in grid.items()}
    reached = value(best)
    changed = True
    while changed:
        changed = False
        for name, values in grid.items():
            for candidate in values:
                setting = {**best, name: candidate}
                if value(setting) > reached:
                    best, reached, changed = setting, value(setting), True
    return Choice(best, trials)


def validation_sample(histories: Histories, most: int) -> np.ndarray:
    """Return validation queries to choose on, evenly spread where there are more than `most`, int64 [v]."""
    queries = np.flatnonzero(histories.query_valid)
    if len(queries) <= most:
        return queries
    return queries[np.linspace(0, len(queries) - 1, most).round().astype(np.int64)]
