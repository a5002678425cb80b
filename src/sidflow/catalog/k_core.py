"""The iterated k-core: users and items that keep enough events after all others are removed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class KCore(NamedTuple):
    """The events of the core, and the number of rounds."""

    keep: np.ndarray  # bool [events]
    rounds: int


def k_core(user: np.ndarray, item: np.ndarray, min_user: int, min_item: int) -> KCore:
    """Return the largest set of events in which every user and every item has enough events.

    Args:
        user: int [events], dense codes.
        item: int [events], dense codes.
        min_user: least number of events of a user.
        min_item: least number of events of an item.

    Each round counts the remaining events and removes users and items below the minimum. The result does not depend
    on the order of removals.
    """
    rows = np.arange(len(user), dtype=np.int64)
    users, items, rounds = user, item, 0
    while len(rows):
        user_stays = np.bincount(users, minlength=1) >= min_user
        item_stays = np.bincount(items, minlength=1) >= min_item
        stay = user_stays[users] & item_stays[items]
        if stay.all():
            break
        rounds += 1
        rows, users, items = rows[stay], users[stay], items[stay]
    keep = np.zeros(len(user), dtype=bool)
    keep[rows] = True
    return KCore(keep, rounds)
