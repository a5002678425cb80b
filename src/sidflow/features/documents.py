"""The texts that encoders read: an item's own text, the views that `describe` wrote of it, and its short units."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import polars as pl

from sidflow.artifacts.features import IMAGE, JOINT, KEYWORDS, TEXT
from sidflow.artifacts.item_content import ItemText, split_sentences
from sidflow.features.params import Document

Pieces = Sequence[str]  # one document; a term does not span two pieces
VIEWS: dict[Document, str] = {
    "view_text": TEXT,
    "view_image": IMAGE,
    "view_joint": JOINT,
    "view_keywords": KEYWORDS,
}


def item_documents(texts: Sequence[ItemText], semantics: pl.DataFrame) -> dict[Document, list[Pieces]]:
    """Return the documents of every kind, each with one per item in the order of `texts`; empty where there is none."""
    documents: dict[Document, list[Pieces]] = {"item": [text.pieces() for text in texts]}
    for document, view in VIEWS.items():
        views_by_item = dict(semantics.filter(pl.col("view") == view).select("item_id", "text").iter_rows())
        documents[document] = [split_sentences(views_by_item.get(item, "")) for item in range(len(texts))]
    return documents


def joined_text(document: Pieces) -> str:
    """Return a document as a language model reads it.

    >>> joined_text(("A red lamp.", "it glows"))
    'A red lamp. it glows'
    """
    return ". ".join(piece.rstrip(".") for piece in document)


def text_units(texts: ItemText, max_units: int) -> tuple[str, ...]:
    """Return up to `max_units` texts of an item: title, brand and categories, then sentence, attribute, and so on."""
    brand_and_categories = " ".join((texts.brand, *texts.categories))
    attributes = (f"{name} {value}" for name, value in texts.attributes)
    alternating = (piece for pair in zip_longest(texts.sentences, attributes, fillvalue="") for piece in pair)
    return tuple(piece for piece in (texts.title, brand_and_categories, *alternating) if piece)[:max_units]
