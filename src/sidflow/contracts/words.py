"""An item's text as short pieces: its title, brand, categories, attributes and sentences."""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

_SENTENCE_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\s*[\r\n•·]+\s*")
_ABBREVIATION_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|No|Nos|Vol|Fig|Inc|Ltd|Co|Corp|vs|approx|incl|e\.g|i\.e|etc|oz|in|ft|lb|lbs"
    r"|U\.S)\.$"
)


class ItemText(NamedTuple):
    """One item's text; empty strings and tuples where the source has none."""

    title: str
    brand: str
    categories: tuple[str, ...]  # most general first
    attributes: tuple[tuple[str, str], ...]  # (name, value)
    sentences: tuple[str, ...]  # of the description, in order, distinct, without the title

    def pieces(self) -> tuple[str, ...]:
        """Return the text as separate pieces, title first; of attributes the values alone."""
        values = (value for _, value in self.attributes)
        return tuple(piece for piece in (self.title, self.brand, *self.categories, *values, *self.sentences) if piece)


def split_sentences(text: str) -> tuple[str, ...]:
    """Return the distinct sentences of a text, split at sentence ends and line breaks.

    >>> split_sentences("Made by Dr. Kay. Weighs 5 lbs. and more! It glows.")
    ('Made by Dr. Kay.', 'Weighs 5 lbs. and more!', 'It glows.')
    """
    sentences: list[str] = []
    unfinished = ""  # a part that ends in an abbreviation: the sentence goes on
    for part in _SENTENCE_BREAK.split(text):
        sentence = " ".join(f"{unfinished} {part}".split())
        if _ABBREVIATION_END.search(sentence):
            unfinished = sentence
            continue
        unfinished = ""
        sentences.append(sentence)
    sentences.append(unfinished)
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


def truncate_at_word(text: str, max_characters: int, trailing: str = " ,;:-") -> str:
    """Return at most `max_characters`, cut at a word where there is one, without `trailing` characters at the cut."""
    if len(text) <= max_characters:
        return text
    head = text[: max_characters + 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head[:-1]).rstrip(trailing)


def item_texts(items: pl.DataFrame) -> list[ItemText]:
    """Return the text of every row of the `items` table, in its order."""
    columns = ["title", "brand", "categories", "attributes", "description"]
    return [
        ItemText(
            title=_tidy(title),
            brand=_tidy(brand),
            categories=tuple(dict.fromkeys(name for name in map(_tidy, categories) if name)),
            attributes=tuple(
                (_tidy(entry["name"]), _tidy(entry["value"])) for entry in attributes if _tidy(entry["value"])
            ),
            sentences=tuple(part for part in split_sentences(description) if part.rstrip(".!") != _tidy(title)),
        )
        for title, brand, categories, attributes, description in items.select(columns).iter_rows()
    ]


def _tidy(text: str) -> str:
    return " ".join(text.split())
