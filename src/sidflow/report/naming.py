"""Names, colours and order of recommenders and metrics on the page."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import ReportData


def metric_title(metric: str) -> str:
    """Return a metric's name as papers write it.

    >>> metric_title("ndcg_at_10")
    'nDCG@10'
    """
    parts = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "expected": "expected"}
    name, _, k = metric.partition("_at_")
    return " ".join(parts.get(part, part) for part in name.split("_")) + (f"@{k.replace('_', ' ')}" if k else "")


def style_class(name: str, board: Mapping) -> str:
    """Return a recommender's CSS class: `method`, `best` (the best baseline), `reference` or `other`."""
    if name == board["best_baseline"]:
        return "best"
    kind = board["recommenders"][name]["kind"]
    return "other" if kind == "baseline" else kind


def role_label(name: str, board: Mapping) -> str:
    """Return a recommender's role in the comparison."""
    if name == board["best_baseline"]:
        return "best baseline"
    kind = board["recommenders"][name]["kind"]
    return {"method": "under test", "reference": "upper bound"}.get(kind, "baseline")


def best_first(data: ReportData) -> list[str]:
    """Return recommenders from best to worst on the test part, references last."""
    board = data.leaderboard
    primary = board["primary"]

    def sort_key(name: str) -> tuple[bool, float, str]:
        entry = board["recommenders"][name]
        return entry["kind"] == "reference", -entry["metrics"][primary]["mean"], name

    return sorted(board["recommenders"], key=sort_key)
