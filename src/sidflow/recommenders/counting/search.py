"""Search of settings on validation: one knob at a time, with a record of every trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

METRIC = "valid_ndcg_at_10"


class Choice(NamedTuple):
    """The best setting on validation, and all trials in order."""

    setting: dict[str, float]
    trials: list[dict[str, float]]  # settings with `valid_ndcg_at_10`


def coordinate_search(grid: Mapping[str, Sequence[float]], score: Callable[[dict[str, float]], float]) -> Choice:
    """Return the best setting by coordinate ascent: one knob at a time, until a full round changes nothing.

    Args:
        grid: the values of every knob; the search starts from the first of each.
        score: the metric of a setting, higher is better; among equal settings the first tried wins.
    """
    trials: list[dict[str, float]] = []
    scores: dict[tuple[float, ...], float] = {}

    def value(setting: dict[str, float]) -> float:
        key = tuple(setting.values())
        if key not in scores:
            scores[key] = score(setting)
            trials.append({**setting, METRIC: scores[key]})
        return scores[key]

    best = {name: values[0] for name, values in grid.items()}
    best_score = value(best)
    changed = True
    while changed:
        changed = False
        for name, values in grid.items():
            for candidate in values:
                setting = {**best, name: candidate}
                if value(setting) > best_score:
                    best, best_score, changed = setting, value(setting), True
    return Choice(best, trials)
