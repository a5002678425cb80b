"""What a catalogue says of an item in words, as short pieces: a title, a brand, categories, attributes, sentences."""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\s*[\r\n•·]+\s*")
_NO_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|No|Nos|Vol|Fig|Inc|Ltd|Co|Corp|vs|approx|incl|e\.g|i\.e|etc|oz|in|ft|lb|lbs"
    r"|U\.S)\.$"
)


class Words(NamedTuple):
    """One item's words; empty strings and tuples where the source has none."""

    title: str
    brand: str
    categories: tuple[str, ...]  # most general first
    attributes: tuple[tuple[str, str], ...]  # (name, value)
    sentences: tuple[str, ...]  # of the description, in order, none twice, none that is the title

    def pieces(self) -> tuple[str, ...]:
        """Return all of it as separate pieces, title first, attributes by value alone."""
        values = (value for _, value in self.attributes)
        return tuple(piece for piece in (self.title, self.brand, *self.categories, *values, *self.sentences) if piece)


def sentences(text: str) -> tuple[str, ...]:
    """Split running text at sentence ends and line breaks; a sentence that came before is dropped.

    >>> sentences("Made by Dr. Kay. Weighs 5 lbs. and more! It glows.")
    ('Made by Dr. Kay.', 'Weighs 5 lbs. and more!', 'It glows.')
    """
    found: list[str] = []
    held = ""
    for part in _BREAK.split(text):
        piece = " ".join(f"{held} {part}".split())
        if _NO_END.search(piece):
            held = piece
            continue
        held = ""
        found.append(piece)
    found.append(held)
    return tuple(dict.fromkeys(piece for piece in found if piece))


def words_of(items: pl.DataFrame) -> list[Words]:
    """Return the words of every row of the `items` table, in its order."""
    columns = ["title", "brand", "categories", "attributes", "description"]
    return [
        Words(
            title=_tidy(title),
            brand=_tidy(brand),
            categories=tuple(dict.fromkeys(name for name in map(_tidy, categories) if name)),
            attributes=tuple((_tidy(one["name"]), _tidy(one["value"])) for one in attributes if _tidy(one["value"])),
            sentences=tuple(one for one in sentences(description) if one.rstrip(".!") != _tidy(title)),
        )
        for title, brand, categories, attributes, description in items.select(columns).iter_rows()
    ]


def _tidy(text: str) -> str:
    return " ".join(text.split())
