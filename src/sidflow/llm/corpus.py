"""What a backbone from scratch reads: every item's words, and training histories told as titles."""

from __future__ import annotations

import polars as pl

from sidflow.contracts.histories import Histories
from sidflow.contracts.words import words_of

NEXT = " ; "


def item_texts(items: pl.DataFrame, words: int) -> list[str]:
    """Return each item's text, at most `words` words; its key where the source has no words."""
    texts = (". ".join(piece.rstrip(".") for piece in one.pieces()) for one in words_of(items))
    return [_first(text, words) or str(key) for text, key in zip(texts, items["item_key"], strict=True)]


def item_titles(items: pl.DataFrame, words: int) -> list[str]:
    """Return the name that a history calls each item by: its title, at most `words` words, or its key."""
    rows = items.select("title", "item_key").iter_rows()
    return [_first(title, words) or str(key) for title, key in rows]


def history_texts(histories: Histories, titles: list[str]) -> list[str]:
    """Return every user's training part as one line; nothing held out is told."""
    lines = (histories.training(user) for user in range(histories.users))
    return [NEXT.join(titles[item] for item in line) for line in lines if len(line)]


def _first(text: str, words: int) -> str:
    return " ".join(text.split()[:words])
