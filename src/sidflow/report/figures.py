"""Key figures, for comparing two commits; the other reports hold the rest."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import ReportData

OF_RECOMMENDERS = ("valid_ndcg_at_10", "ndcg_at_10", "recall_at_10", "coverage_at_10")
_DATA_NAMES = {"users": "users", "items_core": "items", "interactions": "interactions"}
_SPLIT_NAMES = {  # how many queries the metrics average, and counts of what would bias them
    "queries_test": "test_queries",
    "targets_in_history_test": "test_targets_in_history",
    "targets_tied_test": "test_targets_tied",
    "sequences_in_training_test": "test_sequences_in_training",
    "duplicated_sequences": "duplicated_sequences",
}
_DECIMALS = 4


def key_figures(data: ReportData) -> dict[str, object]:
    """Return flat figures named `owner.figure`: of the data, the semantic IDs and each recommender.

    A method's `gain` is relative, over the baseline that validation chose, in the primary metric.
    """
    figures = _prefixed("data", {new: data.ingest[old] for old, new in _DATA_NAMES.items()})
    figures |= _prefixed("data", {new: data.split[old] for old, new in _SPLIT_NAMES.items()})
    figures |= _prefixed("semantic_ids", {name: data.audit[name] for name in data.audit if _is_key_figure(name)})
    for name, measured in data.metrics.items():
        figures |= _prefixed(name, {metric: measured[metric] for metric in OF_RECOMMENDERS if metric in measured})
    board = data.leaderboard
    for name, differences in board["differences"].items():
        gain = differences.get(board["primary"], {}).get("relative")
        if board["recommenders"][name]["kind"] == "method" and gain is not None:
            figures |= _prefixed(name, {"gain": gain})
    return figures


def _is_key_figure(name: str) -> bool:
    """Return whether a figure of the audit is the collision rate of all modalities, or tau over histories of one."""
    return name == "collision_rate" or (name.startswith("tau_") and not name.startswith(("tau_anchors", "tau_triples")))


def _prefixed(owner: str, figures: Mapping[str, object]) -> dict[str, object]:
    return {
        f"{owner}.{name}": round(value, _DECIMALS) if isinstance(value, float) else value
        for name, value in figures.items()
    }
