"""Sentences that describe a measured picture, from fixed phrases: equal pictures have equal descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidflow.semantics.measuring import LINE_DIRECTIONS, Measurements
from sidflow.semantics.palette import COLOUR_NAMES, background_name

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
_DIRECTION_SHARE = 0.45  # of the edges' strength, from which on a direction is the main one
_REGULARITY = 0.3  # from which on a pattern is called repeating


class PictureDescription(NamedTuple):
    """The sentences that describe one picture, and the colours that they name."""

    sentences: tuple[str, ...]
    colours: tuple[str, ...]  # largest share first


def describe_picture(measured: Measurements, row: int, *, colours: int, min_share: float) -> PictureDescription:
    """Return the description of one picture, with at most `colours` colours of share `min_share` or more."""
    shares = measured.colours[row]
    order = np.argsort(-shares, kind="stable")[:colours]
    named = [int(index) for index in order if shares[index] >= min_share] or [int(order[0])]
    palette = ", ".join(f"{_phrase_for(shares[index], _SHARES)} {COLOUR_NAMES[index]}" for index in named)
    background = f" on a plain {background_name(measured.background[row])} background" if measured.plain[row] else ""
    light = (
        _phrase_for(measured.lightness[row], _LIGHT),
        _phrase_for(measured.contrast[row], _CONTRAST),
        _phrase_for(measured.chroma[row], _CHROMA),
    )
    return PictureDescription(
        sentences=(
            f"{palette[0].upper()}{palette[1:]}{background}.",
            f"{', '.join(light)}.",
            _layout(measured, row),
            _texture(measured, row),
        ),
        colours=tuple(COLOUR_NAMES[index] for index in named),
    )


def _layout(measured: Measurements, row: int) -> str:
    aspect = float(measured.aspect[row])
    form = "Portrait" if aspect < 0.9 else "Landscape" if aspect > 1.1 else "Square"
    x, y = (float(value) for value in measured.centre[row])
    across = "left" if x < 0.42 else "right" if x > 0.58 else ""
    down = "top" if y < 0.42 else "bottom" if y > 0.58 else ""
    position = " ".join(part for part in (down, across) if part) or "centre"
    if not measured.plain[row]:
        return f"{form} format, filled to the edges, most detail at the {position}."
    size = _phrase_for(measured.subject[row], _SIZES)
    return f"{form} format, the subject at the {position}, filling {size} of it."


def _texture(measured: Measurements, row: int) -> str:
    detail = _phrase_for(measured.edges[row], _EDGES)
    directions = measured.orientations[row]
    main = int(directions.argmax())
    lines = f", mainly {LINE_DIRECTIONS[main]} lines" if directions[main] >= _DIRECTION_SHARE else ""
    pattern = ", a repeating pattern" if measured.regularity[row] >= _REGULARITY else ""
    return f"{detail}{lines}{pattern}."


def _phrase_for(value: float | np.floating, steps: Sequence[tuple[float, str]]) -> str:
    """Return the phrase of the first threshold that `value` exceeds."""
    return next((phrase for threshold, phrase in steps if float(value) > threshold), steps[-1][1])
