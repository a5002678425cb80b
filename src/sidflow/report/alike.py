"""Duplicates: recommenders that rank every query alike, and the settings by which they differ."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import ReportData
from sidflow.report.markup import format_value


def duplicates_of(name: str, board: Mapping) -> list[str]:
    """Return the recommenders that give every query the same ranks as `name` does."""
    group = next((group for group in board["equal"] if name in group), [])
    return [other for other in group if other != name]


def duplicate_sentences(data: ReportData) -> list[str]:
    """Return one sentence for each group of duplicates."""
    return [_duplicate_sentence(group, data.summaries) for group in data.leaderboard["equal"]]


def _duplicate_sentence(group: list[str], summaries: Mapping[str, Mapping]) -> str:
    chosen = {name: summaries[name].get("chosen") or {} for name in group}
    shared = set.intersection(*(set(settings) for settings in chosen.values()))
    differing = [
        f"{name} has the setting {setting}, chosen on validation as {format_value(value)}"
        for name, settings in chosen.items()
        for setting, value in sorted(settings.items())
        if setting not in shared
    ]
    sentence = f"{' and '.join(group)} give every query the same ranks: count them as one recommender"
    return f"{sentence}; {', '.join(differing)}." if differing else f"{sentence}."
