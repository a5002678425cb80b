"""Parts of the test queries, each with its users: by the target's popularity and content, history and last step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.contracts.words import item_texts
from sidflow.evaluation.params import EvaluateParams
from sidflow.measures import gains

if TYPE_CHECKING:
    from jaxtyping import Bool, Integer

POPULARITY = ("head", "middle", "tail", "cold")
TRANSITION = ("seen_transition", "new_transition")  # what memory suffices for, and what has to be generalised


class Content(NamedTuple):
    """What the catalogue knows of each item."""

    text: Bool[np.ndarray, " n"]
    picture: Bool[np.ndarray, " n"]


def content(items: pl.DataFrame, pictured: Integer[np.ndarray, " p"]) -> Content:
    """Return what is known of every core item.

    Args:
        items: the `items` table.
        pictured: item ids that have a picture, core or not.
    """
    core = items.filter(pl.col("in_core"))
    text = np.array([bool(words.pieces()) for words in item_texts(core)], dtype=bool)
    return Content(text, np.isin(core["item_id"].to_numpy(), pictured))


def popularity(counts: Integer[np.ndarray, " n"], head: float, tail: float) -> np.ndarray:
    """Return `head`, `middle`, `tail` or `cold` for every item, from training events only.

    The head are the most popular items that together hold the share `head` of all training events, the tail the
    least popular ones that hold the share `tail`; cold items were never trained on.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]]) / max(1, counts.sum()) + 1e-9  # 2/3 is not below 2/3
    names = np.empty(len(counts), dtype="<U6")
    names[order] = np.select([counts[order] == 0, before < head, before < 1 - tail], ["cold", "head", "middle"], "tail")
    return names


def transition_seen(histories: Histories, items: int) -> Bool[np.ndarray, " q"]:
    """Return whether each query's step (last item, target) stands in anybody's training part."""
    user, item = histories.training_events()
    follows = user[1:] == user[:-1]
    known = np.unique(item[:-1][follows] * items + item[1:][follows])
    last = histories.items[np.maximum(histories.offsets[histories.query_user] + histories.query_end - 1, 0)]
    return np.isin(last.astype(np.int64) * items + histories.targets, known) & (histories.query_end > 0)


def positions(histories: Histories) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return a slice for each event from the second last on, where the test queries are every user's last n events.

    The last event is a slice of its own. Where it alone is asked for, or where a point in time says which events are,
    there is none.
    """
    test = ~histories.query_valid
    from_end = np.diff(histories.offsets)[histories.query_user] - histories.query_end  # 1 = the last event
    asked = np.bincount(histories.query_user[test], minlength=len(histories.offsets) - 1)
    farthest = np.zeros_like(asked)
    np.maximum.at(farthest, histories.query_user[test], from_end[test])
    if (asked != farthest).any():
        return {}
    return {f"event_{place}_from_end": from_end == place for place in range(2, int(farthest.max(initial=0)) + 1)}


def masks(
    histories: Histories, counts: Integer[np.ndarray, " n"], content: Content, settings: EvaluateParams
) -> dict[str, Bool[np.ndarray, " q"]]:
    """Return which queries belong to each slice, in the order in which they are shown."""
    of_target = popularity(counts, settings.head_share, settings.tail_share)[histories.targets]
    seen, length = transition_seen(histories, len(counts)), histories.query_end
    last = length + 1 == np.diff(histories.offsets)[histories.query_user]
    short, long = length <= settings.short_history, length > settings.long_history
    return {
        **{name: of_target == name for name in POPULARITY},
        "short_history": short,
        "medium_history": ~short & ~long,
        "long_history": long,
        "last_event": last,
        "earlier_event": ~last,
        **positions(histories),
        **dict(zip(TRANSITION, (seen, ~seen), strict=True)),
        "without_text": ~content.text[histories.targets],
        "without_picture": ~content.picture[histories.targets],
    }


def rows(frame: pl.DataFrame, parts: dict[str, Bool[np.ndarray, " q"]], test: np.ndarray) -> list[dict[str, object]]:
    """Return one row a slice: users, queries, and metrics at 10 (empty where there is no query)."""
    ranks, users = frame["rank"].to_numpy(), frame["user_id"].to_numpy()
    found = []
    for name, part in {"all": np.ones_like(test), **parts}.items():
        chosen = part & test
        row: dict[str, object] = {"slice": name, "users": len(np.unique(users[chosen])), "queries": int(chosen.sum())}
        for metric in gains.METRICS:
            row[f"{metric}_at_10"] = float(gains.gain(ranks[chosen], metric, 10).mean()) if chosen.any() else None
        found.append(row)
    return found
