"""The three views of every item by rules: its words, its picture, and both together. No language model is asked."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.semantics import IMAGE, JOINT, TEXT
from sidflow.contracts.pictures import decode_thumbnails
from sidflow.contracts.running import say
from sidflow.contracts.words import ItemText, item_texts
from sidflow.semantics.measuring import measure
from sidflow.semantics.palette import NAMES
from sidflow.semantics.params import RulesParams
from sidflow.semantics.wording import PictureWords, word

BATCH = 512  # pictures measured at a time
_COLOUR_WORD = re.compile(rf"\b({'|'.join(sorted((*NAMES, 'gray'), key=len, reverse=True))})\b")


def describe(items: pl.DataFrame, images: pl.DataFrame, params: RulesParams) -> pl.DataFrame:
    """Return the `semantics` table: a row for each view that an item's words and picture allow.

    Args:
        items: the `items` table.
        images: the `images` table, a row per item with a picture.
        params: what may be said, and how much.
    """
    said = dict(zip(items["item_id"].to_list(), item_texts(items), strict=True))
    seen = picture_words(images, params)
    rows: list[tuple[int, str, str]] = []
    for item, words in said.items():
        picture = seen.get(item)
        if words.pieces():
            rows.append((item, TEXT, _cut(_text_view(words, params.max_sentences), params)))
        if picture is not None:
            rows.append((item, IMAGE, _cut(" ".join(picture.sentences), params)))
        if words.pieces() and picture is not None:
            rows.append((item, JOINT, _cut(_joint_view(words, picture, params.max_sentences), params)))
    schema = {"item_id": pl.Int32, "view": pl.String, "text": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    counts = {view: int((frame["view"] == view).sum()) for view in (TEXT, IMAGE, JOINT)}
    say(f"{len(said)} items described by rules: {', '.join(f'{n} {view}' for view, n in counts.items())} views")
    return frame.with_columns(writer=pl.lit(params.backend), by_mllm=pl.lit(False))


def picture_words(images: pl.DataFrame, params: RulesParams) -> dict[int, PictureWords]:
    """Return what is said of each item's picture, by item id."""
    seen: dict[int, PictureWords] = {}
    for batch in images.iter_slices(BATCH):
        aspect = (batch["width"] / batch["height"]).to_numpy().astype(np.float32)
        measured = measure(decode_thumbnails(batch["picture"], params.side), aspect)
        for row, item in enumerate(batch["item_id"].to_list()):
            seen[item] = word(measured, row, colours=params.colours, min_share=params.min_share)
        say(f"pictures measured: {len(seen)} of {images.height}")
    return seen


def _text_view(words: ItemText, max_sentences: int) -> str:
    return " ".join((*_facts(words), *words.sentences[:max_sentences]))


def _joint_view(words: ItemText, picture: PictureWords, max_sentences: int) -> str:
    """Name the item, say what its picture shows, and where words and picture agree on a colour or do not."""
    spoken = {found.replace("gray", "grey") for found in _COLOUR_WORD.findall(" ".join(words.pieces()).lower())}
    shown = {part for name in picture.colours for part in (name, name.split()[-1])}
    agreed, unseen = sorted(spoken & shown), sorted(spoken - shown)
    checks = []
    if agreed:
        checks.append(f"Words and picture agree on {' and '.join(agreed)}.")
    if unseen:
        checks.append(f"The words say {' and '.join(unseen)}, the picture does not show it.")
    lead = words.sentences[: min(1, max_sentences)]
    return " ".join((*_facts(words), f"Its picture: {picture.sentences[0]}", *checks, *picture.sentences[1:], *lead))


def _facts(words: ItemText) -> list[str]:
    facts = [
        words.title,
        f"By {words.brand}" if words.brand else "",
        f"Category: {' > '.join(words.categories)}" if words.categories else "",
        "; ".join(f"{name}: {', '.join(values)}" for name, values in _grouped(words.attributes).items()),
    ]
    return [fact if fact.endswith((".", "!", "?")) else f"{fact}." for fact in facts if fact]


def _grouped(attributes: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return the values of each attribute name, in the order of the catalogue."""
    grouped: dict[str, list[str]] = {}
    for name, value in attributes:
        grouped.setdefault(name, []).append(value)
    return grouped


def _cut(text: str, params: RulesParams) -> str:
    """Cut at the last word that ends within `max_characters`; a single longer word is cut in itself."""
    if len(text) <= params.max_characters:
        return text
    head = text[: params.max_characters + 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head[:-1]).rstrip(" ,;:")
