"""The few figures that two commits are compared by: everything else is in the reports beside them."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.gather import Gathered

OF_RECOMMENDERS = ("valid_ndcg_at_10", "ndcg_at_10", "recall_at_10", "coverage_at_10")
_DATA = {"users": "users", "items_core": "items", "interactions": "interactions"}
_LINT = {  # of the split: what all metrics are means over, and what could make them lie
    "queries_test": "test_queries",
    "targets_in_history_test": "test_targets_in_history",
    "targets_tied_test": "test_targets_tied",
    "sequences_in_training_test": "test_sequences_in_training",
    "duplicated_sequences": "duplicated_sequences",
}
_DECIMALS = 4


def figures(given: Gathered) -> dict[str, object]:
    """Return flat figures named `whose.what`: of the data, the semantic IDs, and each recommender.

    A method's `gain` is relative, over the baseline that validation chose, in the primary metric.
    """
    found = _some("data", {new: given.ingest[old] for old, new in _DATA.items()})
    found |= _some("data", {new: given.split[old] for old, new in _LINT.items()})
    audited = ("collision_rate", "tau_")
    found |= _some("semantic_ids", {name: given.audit[name] for name in given.audit if _whole(name, audited)})
    for name, measured in given.metrics.items():
        found |= _some(name, {metric: measured[metric] for metric in OF_RECOMMENDERS if metric in measured})
    board = given.leaderboard
    for name, differences in board["differences"].items():
        gain = differences.get(board["primary"], {}).get("relative")
        if board["recommenders"][name]["kind"] == "method" and gain is not None:
            found |= _some(name, {"gain": gain})
    return found


def _whole(name: str, wanted: tuple[str, ...]) -> bool:
    """Return whether a figure of the audit is one for all modalities, or tau over histories of one."""
    return name == wanted[0] or (name.startswith(wanted[1]) and not name.startswith(("tau_anchors", "tau_triples")))


def _some(whose: str, figures: Mapping[str, object]) -> dict[str, object]:
    return {
        f"{whose}.{what}": round(value, _DECIMALS) if isinstance(value, float) else value
        for what, value in figures.items()
    }
