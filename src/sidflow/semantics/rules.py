"""The rule-based writer: text, image and joint views of every item. It uses no language model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.features import IMAGE, JOINT, KEYWORDS, TEXT
from sidflow.artifacts.item_content import ItemText, decode_thumbnails, item_texts, truncate_at_word
from sidflow.core.stage import print_progress
from sidflow.semantics.params import RulesParams, View
from sidflow.semantics.pictures import COLOUR_NAMES, LINE_DIRECTIONS, Measurements, background_name, measure_pictures

BATCH = 512  # pictures measured at a time
_SHARES = ((0.85, "almost entirely"), (0.6, "mostly"), (0.35, "much"), (0.15, "some"), (0.0, "a little"))
_LIGHT = ((80, "Very bright"), (60, "Bright"), (40, "Medium light"), (22, "Dark"), (-1, "Very dark"))
_CONTRAST = ((28, "high contrast"), (15, "medium contrast"), (-1, "low contrast"))
_CHROMA = ((40, "vivid colours"), (18, "moderate colours"), (6, "muted colours"), (-1, "hardly any colour"))
_EDGES = ((0.45, "Dense detail"), (0.2, "Moderate detail"), (0.06, "Little detail"), (-1, "Smooth surfaces"))
_SIZES = (
    (0.7, "nearly all"),
    (0.45, "about half"),
    (0.25, "about a third"),
    (0.1, "a small part"),
    (-1, "a tiny part"),
)
_DIRECTION_SHARE = 0.45  # of the edges' strength, above which a direction is the main one
_REGULARITY = 0.3  # above which a pattern is called repeating


class PictureDescription(NamedTuple):
    """The sentences that describe one picture, and the colours that they name."""

    sentences: tuple[str, ...]
    colours: tuple[str, ...]  # largest share first


def describe_picture(measurements: Measurements, row: int, *, colours: int, min_share: float) -> PictureDescription:
    """Return the description of one picture, with at most `colours` colours of share `min_share` or more."""
    shares = measurements.colours[row]
    order = np.argsort(-shares, kind="stable")[:colours]
    named = [int(index) for index in order if shares[index] >= min_share] or [int(order[0])]
    palette = ", ".join(f"{_phrase_for(shares[index], _SHARES)} {COLOUR_NAMES[index]}" for index in named)
    background = (
        f" on a plain {background_name(measurements.background[row])} background" if measurements.plain[row] else ""
    )
    light = (
        _phrase_for(measurements.lightness[row], _LIGHT),
        _phrase_for(measurements.contrast[row], _CONTRAST),
        _phrase_for(measurements.chroma[row], _CHROMA),
    )
    return PictureDescription(
        sentences=(
            f"{palette[0].upper()}{palette[1:]}{background}.",
            f"{', '.join(light)}.",
            _layout(measurements, row),
            _texture(measurements, row),
        ),
        colours=tuple(COLOUR_NAMES[index] for index in named),
    )


def _layout(measurements: Measurements, row: int) -> str:
    aspect = float(measurements.aspect[row])
    form = "Portrait" if aspect < 0.9 else "Landscape" if aspect > 1.1 else "Square"
    x, y = (float(value) for value in measurements.centre[row])
    across = "left" if x < 0.42 else "right" if x > 0.58 else ""
    down = "top" if y < 0.42 else "bottom" if y > 0.58 else ""
    position = " ".join(part for part in (down, across) if part) or "centre"
    if not measurements.plain[row]:
        return f"{form} format, filled to the edges, most detail at the {position}."
    size = _phrase_for(measurements.subject[row], _SIZES)
    return f"{form} format, the subject at the {position}, filling {size} of it."


def _texture(measurements: Measurements, row: int) -> str:
    detail = _phrase_for(measurements.edges[row], _EDGES)
    directions = measurements.orientations[row]
    main = int(directions.argmax())
    lines = f", mainly {LINE_DIRECTIONS[main]} lines" if directions[main] >= _DIRECTION_SHARE else ""
    pattern = ", a repeating pattern" if measurements.regularity[row] >= _REGULARITY else ""
    return f"{detail}{lines}{pattern}."


def _phrase_for(value: float | np.floating, steps: Sequence[tuple[float, str]]) -> str:
    """Return the phrase of the first threshold that `value` exceeds."""
    return next((phrase for threshold, phrase in steps if float(value) > threshold), steps[-1][1])


_COLOUR_WORD = re.compile(rf"\b({'|'.join(sorted((*COLOUR_NAMES, 'gray'), key=len, reverse=True))})\b")


def write_by_rules(
    items: pl.DataFrame, images: pl.DataFrame, views: Sequence[View], params: RulesParams
) -> list[tuple[int, str, str]]:
    """Return item id, view and text of every view that an item's words and picture allow.

    Text and keyword views need words, image views a picture, joint views both.

    Args:
        items: the `items` table.
        images: the `images` table, a row per item with a picture.
        views: which to write.
        params: limits of the views.
    """
    item_text_of = dict(zip(items["item_id"].to_list(), item_texts(items), strict=True))
    descriptions = describe_pictures(images, params) if {IMAGE, JOINT, KEYWORDS} & set(views) else {}
    rows: list[tuple[int, str, str]] = []
    for item, text in item_text_of.items():
        picture = descriptions.get(item)
        written: dict[str, str] = {}
        if text.pieces():
            written[TEXT] = _text_view(text, params.max_sentences)
            written[KEYWORDS] = _keywords(text, picture)
        if picture is not None:
            written[IMAGE] = " ".join(picture.sentences)
        if text.pieces() and picture is not None:
            written[JOINT] = _joint_view(text, picture, params.max_sentences)
        selected = [view for view in written if view in views]
        rows += [(item, view, _truncate(written[view], params)) for view in selected]
    counts = Counter(view for _, view, _ in rows)
    print_progress(
        f"{len(item_text_of)} items described by rules: {', '.join(f'{counts[view]} {view}' for view in views)} views"
    )
    return rows


def describe_pictures(images: pl.DataFrame, params: RulesParams) -> dict[int, PictureDescription]:
    """Return the description of each item's picture, by item id."""
    descriptions: dict[int, PictureDescription] = {}
    for batch in images.iter_slices(BATCH):
        aspect = (batch["width"] / batch["height"]).to_numpy().astype(np.float32)
        measurements = measure_pictures(decode_thumbnails(batch["picture"], params.side), aspect)
        for row, item in enumerate(batch["item_id"].to_list()):
            descriptions[item] = describe_picture(measurements, row, colours=params.colours, min_share=params.min_share)
        print_progress(f"pictures measured: {len(descriptions)} of {images.height}")
    return descriptions


def _text_view(text: ItemText, max_sentences: int) -> str:
    return " ".join((*_catalogue_statements(text), *text.sentences[:max_sentences]))


def _keywords(text: ItemText, picture: PictureDescription | None) -> str:
    """Return brand, categories, attribute values and the picture's colours, in lower case, each once."""
    values = (value for _, value in text.attributes)
    words = (text.brand, *reversed(text.categories), *values, *(picture.colours if picture else ()), text.title)
    return ", ".join(dict.fromkeys(word.lower() for word in words if word))


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
    first_sentence = text.sentences[: min(1, max_sentences)]
    return " ".join(
        (
            *_catalogue_statements(text),
            f"Its picture: {picture.sentences[0]}",
            *checks,
            *picture.sentences[1:],
            *first_sentence,
        )
    )


def _catalogue_statements(text: ItemText) -> list[str]:
    statements = [
        text.title,
        f"By {text.brand}" if text.brand else "",
        f"Category: {' > '.join(text.categories)}" if text.categories else "",
        "; ".join(f"{name}: {', '.join(values)}" for name, values in _values_by_name(text.attributes).items()),
    ]
    return [
        statement if statement.endswith((".", "!", "?")) else f"{statement}." for statement in statements if statement
    ]


def _values_by_name(attributes: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return the values of each attribute name, in the order of the catalogue."""
    grouped: dict[str, list[str]] = {}
    for name, value in attributes:
        grouped.setdefault(name, []).append(value)
    return grouped


def _truncate(text: str, params: RulesParams) -> str:
    return truncate_at_word(text, params.max_characters, trailing=" ,;:")
