"""The iterated k-core: users and items that still have enough events once the others are gone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Core(NamedTuple):
    """Which events stay, and how many rounds it took."""

    keep: np.ndarray  # bool [events]
    rounds: int


def k_core(user: np.ndarray, item: np.ndarray, min_user: int, min_item: int) -> Core:
    """Drop users and items with too few events until none is left that has too few.

    Args:
        user: int [events], dense codes.
        item: int [events], dense codes.
        min_user: events that a user needs.
        min_item: events that an item needs.

    The result is the one largest core, whatever the order of removals. Each round counts only what is left.
    """
    rows = np.arange(len(user), dtype=np.int64)
    users, items, rounds = user, item, 0
    while len(rows):
        enough_user = np.bincount(users, minlength=1) >= min_user
        enough_item = np.bincount(items, minlength=1) >= min_item
        stay = enough_user[users] & enough_item[items]
        if stay.all():
            break
        rounds += 1
        rows, users, items = rows[stay], users[stay], items[stay]
    keep = np.zeros(len(user), dtype=bool)
    keep[rows] = True
    return Core(keep, rounds)
