"""The training text of a backbone from scratch: every item's text, and training histories as lists of titles."""

from __future__ import annotations

import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.contracts.words import item_texts

SEPARATOR = " ; "  # between the titles of a history


def item_documents(items: pl.DataFrame, max_words: int) -> list[str]:
    """Return each item's text, at most `max_words` words; its key where the source has no text."""
    documents = (". ".join(piece.rstrip(".") for piece in text.pieces()) for text in item_texts(items))
    keys = items["item_key"]
    return [_first_words(document, max_words) or str(key) for document, key in zip(documents, keys, strict=True)]


def item_titles(items: pl.DataFrame, max_words: int) -> list[str]:
    """Return each item's name in a history: its title, at most `max_words` words, or its key where it has none."""
    rows = items.select("title", "item_key").iter_rows()
    return [_first_words(title, max_words) or str(key) for title, key in rows]


def history_documents(histories: Histories, titles: list[str]) -> list[str]:
    """Return every user's training part as one line of titles; held-out items are not in it."""
    parts = (histories.training_items(user) for user in range(histories.user_count))
    return [SEPARATOR.join(titles[item] for item in part) for part in parts if len(part)]


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])
