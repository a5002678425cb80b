"""The views of every item, written by rules without a language model: of its text, its picture, and both."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.semantics import IMAGE, JOINT, TEXT
from sidflow.contracts.pictures import decode_thumbnails
from sidflow.contracts.running import print_progress
from sidflow.contracts.words import ItemText, item_texts, truncate_at_word
from sidflow.semantics.measuring import measure_pictures
from sidflow.semantics.palette import COLOUR_NAMES
from sidflow.semantics.params import RulesParams
from sidflow.semantics.wording import PictureDescription, describe_picture

BATCH = 512  # pictures measured at a time
_COLOUR_WORD = re.compile(rf"\b({'|'.join(sorted((*COLOUR_NAMES, 'gray'), key=len, reverse=True))})\b")


def describe_items(items: pl.DataFrame, images: pl.DataFrame, params: RulesParams) -> pl.DataFrame:
    """Return the `semantics` table: text views of items with text, image views with a picture, joint views with both.

    Args:
        items: the `items` table.
        images: the `images` table, a row per item with a picture.
        params: limits of the views.
    """
    item_text_of = dict(zip(items["item_id"].to_list(), item_texts(items), strict=True))
    descriptions = describe_pictures(images, params)
    rows: list[tuple[int, str, str]] = []
    for item, text in item_text_of.items():
        picture = descriptions.get(item)
        if text.pieces():
            rows.append((item, TEXT, _cut(_text_view(text, params.max_sentences), params)))
        if picture is not None:
            rows.append((item, IMAGE, _cut(" ".join(picture.sentences), params)))
        if text.pieces() and picture is not None:
            rows.append((item, JOINT, _cut(_joint_view(text, picture, params.max_sentences), params)))
    schema = {"item_id": pl.Int32, "view": pl.String, "text": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    counts = {view: int((frame["view"] == view).sum()) for view in (TEXT, IMAGE, JOINT)}
    print_progress(
        f"{len(item_text_of)} items described by rules: {', '.join(f'{n} {view}' for view, n in counts.items())} views"
    )
    return frame.with_columns(writer=pl.lit(params.backend), by_mllm=pl.lit(False))


def describe_pictures(images: pl.DataFrame, params: RulesParams) -> dict[int, PictureDescription]:
    """Return the description of each item's picture, by item id."""
    descriptions: dict[int, PictureDescription] = {}
    for batch in images.iter_slices(BATCH):
        aspect = (batch["width"] / batch["height"]).to_numpy().astype(np.float32)
        measured = measure_pictures(decode_thumbnails(batch["picture"], params.side), aspect)
        for row, item in enumerate(batch["item_id"].to_list()):
            descriptions[item] = describe_picture(measured, row, colours=params.colours, min_share=params.min_share)
        print_progress(f"pictures measured: {len(descriptions)} of {images.height}")
    return descriptions


def _text_view(text: ItemText, max_sentences: int) -> str:
    return " ".join((*_catalogue_statements(text), *text.sentences[:max_sentences]))


def _joint_view(text: ItemText, picture: PictureDescription, max_sentences: int) -> str:
    """Return the item's statements, its picture's description, and on which colours text and picture agree."""
    in_text = {colour.replace("gray", "grey") for colour in _COLOUR_WORD.findall(" ".join(text.pieces()).lower())}
    in_picture = {part for name in picture.colours for part in (name, name.split()[-1])}
    agreed, unseen = sorted(in_text & in_picture), sorted(in_text - in_picture)
    checks = []
    if agreed:
        checks.append(f"Words and picture agree on {' and '.join(agreed)}.")
    if unseen:
        checks.append(f"The words say {' and '.join(unseen)}, the picture does not show it.")
    lead = text.sentences[: min(1, max_sentences)]
    return " ".join(
        (*_catalogue_statements(text), f"Its picture: {picture.sentences[0]}", *checks, *picture.sentences[1:], *lead)
    )


def _catalogue_statements(text: ItemText) -> list[str]:
    statements = [
        text.title,
        f"By {text.brand}" if text.brand else "",
        f"Category: {' > '.join(text.categories)}" if text.categories else "",
        "; ".join(f"{name}: {', '.join(values)}" for name, values in _grouped(text.attributes).items()),
    ]
    return [
        statement if statement.endswith((".", "!", "?")) else f"{statement}." for statement in statements if statement
    ]


def _grouped(attributes: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return the values of each attribute name, in the order of the catalogue."""
    grouped: dict[str, list[str]] = {}
    for name, value in attributes:
        grouped.setdefault(name, []).append(value)
    return grouped


def _cut(text: str, params: RulesParams) -> str:
    return truncate_at_word(text, params.max_characters, trailing=" ,;:")
