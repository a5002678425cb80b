"""The rows of the leaderboard: what each recommender has of one metric, and its gain over the best baseline."""

from __future__ import annotations

from typing import Any

from sidflow.artifacts.evaluation import LEADERBOARD
from sidflow.core.errors import InputError, closest_names
from sidflow.evaluation.compare import LOWER_IS_BETTER


def leaderboard_rows(metric: str | None = None) -> list[dict[str, Any]]:
    """Return one row for each recommender, best first, references last.

    Args:
        metric: for example `recall_at_10`; None takes the primary metric of the comparison.

    Returns:
        Rows of recommender, kind (`method`, `baseline`, `reference`), is_best_baseline, metric, mean, low, high (its
        interval), reason (why there is no such metric), difference, difference_low, difference_high,
        relative_difference (a share of the best baseline's mean), p_corrected, verdict. What there is not is None.

    Raises:
        InputError: there is no leaderboard, or it has no such metric.
    """
    board = LEADERBOARD.read()
    metric = metric or str(board["primary"])
    rows = []
    for name, entry in board["recommenders"].items():
        if metric not in entry["metrics"]:
            raise InputError(
                "metric",
                expected=closest_names(metric, entry["metrics"]),
                found=repr(metric),
                remedy="name one of these metrics",
            )
        value, difference = entry["metrics"][metric], board["differences"].get(name, {}).get(metric, {})
        rows.append(
            {
                "recommender": name,
                "kind": entry["kind"],
                "is_best_baseline": name == board["best_baseline"],
                "metric": metric,
                **{part: value[part] for part in ("mean", "low", "high")},
                "reason": value.get("reason"),
                "difference": difference.get("difference"),
                "difference_low": difference.get("low"),
                "difference_high": difference.get("high"),
                "relative_difference": difference.get("relative"),
                "p_corrected": difference.get("p_corrected"),
                "verdict": difference.get("verdict"),
            }
        )
    sign = 1 if metric in LOWER_IS_BETTER else -1
    return sorted(
        rows,
        key=lambda row: (
            row["kind"] == "reference",
            row["mean"] is None,
            sign * (row["mean"] or 0),
            row["recommender"],
        ),
    )
