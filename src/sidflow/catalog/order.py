"""Order that is no time: sequences sorted by item key, by a position in a file, or by popularity.

The last item of a sorted sequence is its largest, which inflates every metric. The share of pairs that ascend is
compared with the same share after the items of every user are shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.evaluation import EVENT_PAIRS, ITEM_ORDERS
from sidflow.catalog.params import SortedSequences
from sidflow.core.errors import InputError

MIN_PAIRS = 20  # with fewer pairs even a random order may ascend throughout
WARN_ABOVE, REFUSE_ABOVE = 0.7, 0.98  # of the way from the shuffled share to 1 (ascending) or to 0 (descending)
MAX_EVENTS = 2_000_000  # events that are compared, of users evenly spread
SEED = 0  # of the shuffle


class OrderedEvents(NamedTuple):
    """Events by user, then in their final order."""

    user: np.ndarray  # int [events]
    item: np.ndarray  # int [events], ids in key order
    row: np.ndarray  # int [events], in the source
    tied: np.ndarray  # bool [events], shares its timestamp with the event before


class Ascent(NamedTuple):
    """How often the pairs of one kind ascend in one order."""

    pairs: str  # a key of EVENT_PAIRS
    order: str  # a key of ITEM_ORDERS
    count: int  # pairs of two different values
    share: float  # of them, the second value is the larger
    shuffled: float  # the same over shuffled sequences

    @property
    def excess(self) -> float:
        """How far the share is from the shuffled one: 0 not at all, 1 all pairs ascend or all descend."""
        if self.share >= self.shuffled:
            return (self.share - self.shuffled) / (1 - self.shuffled) if self.shuffled < 1 else 0.0
        return (self.shuffled - self.share) / self.shuffled

    def line(self) -> str:
        """Return the figures as a phrase."""
        ascends = self.share >= self.shuffled
        share, chance = (value if ascends else 1 - value for value in (self.share, self.shuffled))
        return (
            f"{share:.1%} of {self.count} pairs ({EVENT_PAIRS[self.pairs]}) {'ascend' if ascends else 'descend'} by "
            f"{ITEM_ORDERS[self.order]}, {chance:.1%} after shuffling"
        )


def item_ranks(keys: Sequence[str], listed_keys: pl.Series, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return a number per item for each order but `first_seen`; orders that equal that of `key` are left out.

    Args:
        keys: of the items, in key order.
        listed_keys: of the source's items, in the order of its rows.
        counts: int [items], events of each item.
    """
    names = pl.Series(keys, dtype=pl.String)
    by_key = np.arange(len(keys))
    ranks = {"key": by_key, "key_text": names.rank("ordinal").to_numpy().astype(np.int64) - 1}
    number = names.str.extract(r"([0-9]{1,18})$").cast(pl.Int64)
    if not number.null_count():
        ranks["key_number"] = number.to_numpy()
    if len(listed_keys):
        rows = pl.DataFrame({"key": listed_keys, "row": np.arange(len(listed_keys))}).unique("key", keep="first")
        joined = pl.DataFrame({"key": names}).join(rows, on="key", how="left", maintain_order="left")
        ranks["listed"] = joined["row"].fill_null(-1).to_numpy()
    same = [name for name in ranks if name != "key" and (np.diff(ranks[name]) > 0).all()]
    return {name: rank for name, rank in ranks.items() if name not in same} | {"popularity": counts}


def measure_order(events: OrderedEvents, ranks: Mapping[str, np.ndarray]) -> list[Ascent]:
    """Return how often pairs ascend, for each kind of pair and each order that has pairs of two different values.

    Args:
        events: with more than `MAX_EVENTS`, only users evenly spread are measured.
        ranks: of `item_ranks`.
    """
    step = -(-len(events.user) // MAX_EVENTS)
    if step > 1:
        kept = events.user % step == 0
        events = OrderedEvents(*(column[kept] for column in events))
    if not len(events.user):
        return []
    masks = _pair_masks(events)
    shuffled = _shuffle_within_users(events)
    ascents = []
    for order in ITEM_ORDERS:
        if order == "first_seen":
            values, chance = (_first_rows(items, events.row)[items] for items in (events.item, shuffled))
        elif order in ranks:
            values, chance = (ranks[order][items] for items in (events.item, shuffled))
        else:
            continue
        for pairs, mask in masks.items():
            share, count = _ascending_share(values, mask)
            shuffled_share, shuffled_count = _ascending_share(chance, mask)
            if count and shuffled_count:
                ascents.append(Ascent(pairs, order, count, share, shuffled_share))
    return ascents


def order_figures(ascents: Sequence[Ascent]) -> dict[str, int | float]:
    """Return the figures of reports/ingest.json: `PAIRS_ascending_ORDER`, with `_shuffled`, and `PAIRS_count`."""
    figures: dict[str, int | float] = {}
    for ascent in ascents:
        name = f"{ascent.pairs}_ascending_{ascent.order}"
        figures |= {name: ascent.share, f"{name}_shuffled": ascent.shuffled}
        if ascent.order == "key":
            figures[f"{ascent.pairs}_count"] = ascent.count
    return figures


def check_order(ascents: Sequence[Ascent], path: str, *, clock: bool, sorted_sequences: SortedSequences) -> list[str]:
    """Return a warning where sequences may be in another order than that of time.

    Args:
        ascents: of `measure_order`.
        path: of the source, for the error message.
        clock: whether the source has times; where it has, nothing is refused.
        sorted_sequences: `ingest.sorted_sequences`.

    Raises:
        InputError: all pairs of a source without a clock follow another order, and params do not accept it.
    """
    suspicious = [ascent for ascent in ascents if ascent.count >= MIN_PAIRS and ascent.excess > WARN_ABOVE]
    if not suspicious:
        return []
    strongest = max(suspicious, key=lambda ascent: (ascent.excess, ascent.count))
    if strongest.excess > REFUSE_ABOVE and not clock and sorted_sequences == "refuse":
        raise InputError(
            path,
            expected="sequences in the order of time",
            found=f"sorted sequences: {strongest.line()}",
            remedy="get a copy in the order of time, or give the time of each event; where this is the order of time, "
            "set ingest.sorted_sequences: accept",
        )
    return [f"{strongest.line()}: where this is not the order of time, all metrics are inflated"]


def _pair_masks(events: OrderedEvents) -> dict[str, np.ndarray]:
    """Return which events end a pair of each kind, bool [events]; the pair begins with the event before."""
    same_user = np.zeros(len(events.user), dtype=bool)
    same_user[1:] = events.user[1:] == events.user[:-1]
    last = np.ones(len(events.user), dtype=bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    return {"pairs": same_user, "last_pairs": same_user & last, "tied_pairs": same_user & events.tied}


def _ascending_share(values: np.ndarray, mask: np.ndarray) -> tuple[float, int]:
    """Return the share of the pairs with two different values that ascend, and their number; 0 where there are none."""
    ends = np.flatnonzero(mask)
    before, after = values[ends - 1], values[ends]
    count = int((before != after).sum())
    return (int((before < after).sum()) / count if count else 0.0), count


def _shuffle_within_users(events: OrderedEvents) -> np.ndarray:
    """Return the items with those of every user in random order."""
    random = np.random.default_rng(SEED).random(len(events.user))
    return events.item[np.lexsort((random, events.user))]


def _first_rows(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the first row of each item, by id."""
    first = np.full(int(items.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, items, rows)
    return first
