"""From the outside world's keys to rows, with help for who mistypes one."""

from __future__ import annotations

import difflib

import polars as pl

from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.errors import InputError

_SHOWN = 3


def item_row(items: pl.DataFrame, key: str) -> int:
    """Return the item_id of an item key; `items` holds item_key and title.

    Raises:
        InputError: no item has this key; close keys and titles are named.
    """
    found = items.select(pl.col("item_key").index_of(key)).item()
    if found is not None:
        return int(found)
    titled = items.filter(pl.col("title").str.to_lowercase().str.contains(key.lower(), literal=True))
    close = (titled["item_key"].head(_SHOWN).to_list() if key else []) or _close(key, items["item_key"])
    raise InputError(
        str(ITEMS.at()),
        expected="an item key of the catalogue",
        found=repr(key),
        remedy=_meant(
            [f"{one} ({title})" if title else one for one, title in _titles(items, close)],
            f"keys look like {items['item_key'][0]!r}" if items.height else "the catalogue is empty",
        ),
    )


def user_row(key: str) -> int:
    """Return the user_id of a user key.

    Raises:
        InputError: no user of the core has this key; close keys are named.
    """
    users = USERS.read()
    found = users.select(pl.col("user_key").index_of(key)).item()
    if found is not None:
        return int(found)
    raise InputError(
        str(USERS.at()),
        expected="a user key of the core",
        found=repr(key),
        remedy=_meant(
            _close(key, users["user_key"]), f"keys look like {users['user_key'][0]!r}" if users.height else "no users"
        ),
    )


def label(items: pl.DataFrame, row: int) -> str:
    """Return an item's title, or its key where it has none."""
    return items["title"][row] or items["item_key"][row]


def _titles(items: pl.DataFrame, keys: list[str]) -> list[tuple[str, str]]:
    chosen = items.filter(pl.col("item_key").is_in(keys))
    return list(zip(chosen["item_key"], chosen["title"], strict=True))


def _close(key: str, keys: pl.Series) -> list[str]:
    starts = keys.filter(keys.str.starts_with(key)).head(_SHOWN).to_list() if key else []
    return starts or difflib.get_close_matches(key, keys.to_list(), n=_SHOWN, cutoff=0.6)


def _meant(close: list[str], otherwise: str) -> str:
    return f"did you mean {', '.join(close)}?" if close else otherwise
