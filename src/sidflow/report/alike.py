"""Recommenders that turned out to be one and the same, and which chosen setting made them so."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import Gathered
from sidflow.report.markup import text


def twins(name: str, board: Mapping) -> list[str]:
    """Return the recommenders that give every query the same ranks as `name`."""
    group = next((group for group in board["equal"] if name in group), [])
    return [other for other in group if other != name]


def sentences(given: Gathered) -> list[str]:
    """Return one sentence for every group of equal recommenders."""
    return [_sentence(group, given.summaries) for group in given.leaderboard["equal"]]


def _sentence(group: list[str], summaries: Mapping[str, Mapping]) -> str:
    chosen = {name: summaries[name].get("chosen") or {} for name in group}
    shared = set.intersection(*(set(settings) for settings in chosen.values()))
    own = [
        f"{name} has the setting {setting}, chosen on validation as {text(value)}"
        for name, settings in chosen.items()
        for setting, value in sorted(settings.items())
        if setting not in shared
    ]
    said = f"{' and '.join(group)} give every query the same ranks: count them as one recommender"
    return f"{said}; {', '.join(own)}." if own else f"{said}."
