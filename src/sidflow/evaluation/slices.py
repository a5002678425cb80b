"""Slices of the test queries, each with its users: by the target's popularity and content, history and last step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.artifacts.item_content import item_texts
from sidflow.evaluation.params import EvaluateParams
from sidflow.metrics.ranking import METRICS, metric_at_k
from sidflow.sequences.histories import Histories, load_histories

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer


POPULARITY = ("head", "middle", "tail", "cold")
TRANSITION = ("seen_transition", "new_transition")  # memory suffices for the first, the second needs generalisation


class ContentPresence(NamedTuple):
    """Which core items have which content."""

    text: Bool[np.ndarray, " n"]
    picture: Bool[np.ndarray, " n"]


def content_presence(items: pl.DataFrame, pictured: Integer[np.ndarray, " p"]) -> ContentPresence:
    """Return which core items have a text and which have a picture.

    Args:
        items: the `items` table.
        pictured: ids of the items that have a picture, core or not.
    """
    core = items.filter(pl.col("in_core"))
    text = np.array([bool(texts.pieces()) for texts in item_texts(core)], dtype=bool)
    return ContentPresence(text, np.isin(core["item_id"].to_numpy(), pictured))


def popularity_groups(counts: Integer[np.ndarray, " n"], head: float, tail: float) -> np.ndarray:
    """Return `head`, `middle`, `tail` or `cold` for every item, from training events only.

    The head are the most popular items that together hold the share `head` of all training events, the tail the
    least popular ones that hold the share `tail`. Cold items have no training event.
    """
    order = np.argsort(-counts, kind="stable")
    # 1e-9: a share of 2/3 must not lie below 2/3 by rounding.
    share_before = np.concatenate([[0], np.cumsum(counts[order])[:-1]]) / max(1, counts.sum()) + 1e-9
    groups = np.empty(len(counts), dtype="<U6")
    groups[order] = np.select(
        [counts[order] == 0, share_before < head, share_before < 1 - tail], ["cold", "head", "middle"], "tail"
    )
    return groups


def transition_seen(histories: Histories, items: int) -> Bool[np.ndarray, " q"]:
    """Return whether each query's step (last item, target) occurs in any user's training part."""
    user, item = histories.training_events()
    follows = user[1:] == user[:-1]
    trained = np.unique(item[:-1][follows] * items + item[1:][follows])
    last = histories.items[np.maximum(histories.offsets[histories.query_user] + histories.query_end - 1, 0)]
    return np.isin(last.astype(np.int64) * items + histories.targets, trained) & (histories.query_end > 0)


def earlier_event_slices(histories: Histories) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return one mask per event from the second last on, where the test queries are every user's last n events.

    The last event is a slice of its own. There is none of these where only the last event is a test query, or where
    the split is by time.
    """
    test = ~histories.query_valid
    from_end = np.diff(histories.offsets)[histories.query_user] - histories.query_end  # 1 = the last event
    queries_of_user = np.bincount(histories.query_user[test], minlength=len(histories.offsets) - 1)
    farthest = np.zeros_like(queries_of_user)
    np.maximum.at(farthest, histories.query_user[test], from_end[test])
    if (queries_of_user != farthest).any():
        return {}
    return {
        f"event_{distance}_from_end": from_end == distance for distance in range(2, int(farthest.max(initial=0)) + 1)
    }


def slice_masks(
    histories: Histories, counts: Integer[np.ndarray, " n"], content: ContentPresence, settings: EvaluateParams
) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return which queries belong to each slice, in the order in which slices are listed."""
    group = popularity_groups(counts, settings.head_share, settings.tail_share)[histories.targets]
    seen, length = transition_seen(histories, len(counts)), histories.query_end
    last = length + 1 == np.diff(histories.offsets)[histories.query_user]
    short, long = length <= settings.short_history, length > settings.long_history
    return {
        **{name: group == name for name in POPULARITY},
        "short_history": short,
        "medium_history": ~short & ~long,
        "long_history": long,
        "last_event": last,
        "earlier_event": ~last,
        **earlier_event_slices(histories),
        **dict(zip(TRANSITION, (seen, ~seen), strict=True)),
        "without_text": ~content.text[histories.targets],
        "without_picture": ~content.picture[histories.targets],
    }


def load_slice_masks(settings: EvaluateParams) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return which queries of the split belong to each slice, from the artifacts of the catalogue and the split."""
    content = content_presence(ITEMS.read(), IMAGES.read(columns=["item_id"])["item_id"].to_numpy())
    histories = load_histories()
    return slice_masks(histories, histories.training_counts(len(content.text)), content, settings)


def slice_rows(
    per_query: pl.DataFrame, masks: dict[str, Bool[np.ndarray, " q"]], test: Bool[np.ndarray, " q"]
) -> list[dict[str, object]]:
    """Return one row per slice of the test queries: users, queries, and metrics at 10 (None without a query)."""
    ranks, users = per_query["rank"].to_numpy(), per_query["user_id"].to_numpy()
    sharing = per_query["sharing"].to_numpy() if "sharing" in per_query.columns else np.zeros_like(ranks)
    rows = []
    for name, mask in {"all": np.ones_like(test), **masks}.items():
        in_slice = mask & test
        row: dict[str, object] = {
            "slice": name,
            "users": len(np.unique(users[in_slice])),
            "queries": int(in_slice.sum()),
        }
        for metric in METRICS:
            values = metric_at_k(ranks[in_slice], metric, 10, sharing[in_slice])
            row[f"{metric}_at_10"] = float(values.mean()) if in_slice.any() else None
        rows.append(row)
    return rows
