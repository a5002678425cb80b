"""How recommenders and metrics are called, coloured and ordered on the page."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import Gathered


def pretty(metric: str) -> str:
    """Return a metric's name as people write it.

    >>> pretty("ndcg_at_10")
    'nDCG@10'
    """
    words = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "expected": "expected"}
    name, _, k = metric.partition("_at_")
    return " ".join(words.get(part, part) for part in name.split("_")) + (f"@{k.replace('_', ' ')}" if k else "")


def look(name: str, board: Mapping) -> str:
    """Return the class that colours a recommender: `method`, `best` (baseline), `reference` or `other`."""
    if name == board["best_baseline"]:
        return "best"
    kind = board["recommenders"][name]["kind"]
    return "other" if kind == "baseline" else kind


def role(name: str, board: Mapping) -> str:
    """Return what a recommender is there for, in words."""
    if name == board["best_baseline"]:
        return "best baseline"
    kind = board["recommenders"][name]["kind"]
    return {"method": "under test", "reference": "knows the answer"}.get(kind, "baseline")


def ordered(given: Gathered) -> list[str]:
    """Return recommenders from best to worst on the test part, references last."""
    board = given.leaderboard
    primary = board["primary"]

    def place(name: str) -> tuple[bool, float, str]:
        one = board["recommenders"][name]
        return one["kind"] == "reference", -one["metrics"][primary]["mean"], name

    return sorted(board["recommenders"], key=place)
