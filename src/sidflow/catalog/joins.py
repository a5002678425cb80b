"""The join of items' texts and pictures to the items of events: which row of an item is used, how many meet."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import polars as pl

from sidflow.catalog.raw import ITEM_COLUMNS, Picture
from sidflow.core.errors import InputError

MET_SHARE = 0.8  # of the core's items; where fewer have a row of text, the stage warns


class FullestRows(NamedTuple):
    """One row per item key."""

    items: pl.DataFrame
    duplicates: int  # rows that were left out


def fullest_rows(items: pl.DataFrame) -> FullestRows:
    """Return one row per key: the one with most fields that are not empty, then with most characters, then the first.

    Args:
        items: columns of `ITEM_COLUMNS`.
    """
    if not items["item_key"].is_duplicated().any():
        return FullestRows(items, 0)
    texts = [pl.col(name).str.len_chars() for name in ("title", "description", "brand")]
    texts.append(pl.col("categories").list.join("").str.len_chars())
    texts.append(pl.col("attributes").list.eval(pl.element().struct.field("value")).list.join("").str.len_chars())
    lengths = [text.fill_null(0) for text in texts]
    ranked = items.with_columns(
        pl.sum_horizontal((length > 0).cast(pl.Int32) for length in lengths).alias("fields"),
        pl.sum_horizontal(lengths).alias("characters"),
    ).with_row_index("row")
    ranked = ranked.sort("fields", "characters", "row", descending=[True, True, False])
    fullest = ranked.unique("item_key", keep="first", maintain_order=True).sort("row").select(list(ITEM_COLUMNS))
    return FullestRows(fullest, items.height - fullest.height)


def check_texts_meet(core_keys: list[str], text_keys: Collection[str]) -> list[str]:
    """Check that the items of the core have rows of text.

    Returns:
        Warnings: one where fewer than `MET_SHARE` of them have one.

    Raises:
        InputError: none has.
    """
    met = sum(key in text_keys for key in core_keys)
    if met >= MET_SHARE * len(core_keys):
        return []
    example = next(key for key in core_keys if key not in text_keys)
    hint = _spelling_hint(core_keys, text_keys)
    if not met:
        raise InputError(
            "ingest",
            expected="rows of text for the items of the events",
            found=f"none: the keys differ, such as {example!r} in the events and {min(text_keys)!r} in the texts",
            count=len(core_keys),
            remedy=f"{hint or 'give the texts of the same items, under the same keys'}; or set the items file to empty",
        )
    warning = f"only {met} of {len(core_keys)} items of the core have a row of text; {example!r} has none"
    return [f"{warning}. {hint[0].upper()}{hint[1:]}" if hint else warning]


def check_texts_say_something(items: pl.DataFrame) -> list[str]:
    """Return a warning where fewer than `MET_SHARE` of the core's items in the table `items` have text."""
    core = items.filter("in_core")
    with_text = core.filter(has_text()).height
    if with_text >= MET_SHARE * core.height:
        return []
    return [f"only {with_text} of {core.height} items of the core have a title or description"]


def has_text() -> pl.Expr:
    """Return which rows of the table `items` have a title or description."""
    return (pl.col("title") != "") | (pl.col("description") != "")


def check_pictures_meet(item_keys: list[str], pictures: Mapping[str, Picture]) -> int:
    """Return the number of pictures that belong to no item of the catalogue.

    Raises:
        InputError: there are pictures, and none belongs to an item.
    """
    unused = len(pictures) - sum(key in pictures for key in item_keys)
    if pictures and unused == len(pictures):
        hint = _spelling_hint(item_keys, pictures.keys())
        raise InputError(
            "ingest",
            expected="pictures that have the keys of items as their names",
            found=f"none: {min(pictures)!r} is no item, as {item_keys[0]!r} is",
            count=unused,
            remedy=f"{hint or 'rename the pictures'}; or set the folder of pictures to empty",
        )
    return unused


_SPELLINGS: dict[str, Callable[[str], str]] = {
    "leading zeros": lambda key: key.lstrip("0") or "0",
    "upper and lower case": str.casefold,
    "the form of accents (NFC, NFD)": lambda key: unicodedata.normalize("NFC", key),
}


def _spelling_hint(keys: list[str], others: Collection[str]) -> str:
    """Return how the keys would meet that don't, or an empty string."""
    missing = [key for key in keys if key not in others]
    for name, spell in _SPELLINGS.items():
        spelled = {spell(key) for key in others}
        if 2 * sum(spell(key) in spelled for key in missing) > len(missing):
            return f"write the keys of both alike: they differ in {name}"
    return ""
