"""Measurements put into a few plain sentences, always in the same words, so that equal pictures read equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sidflow.semantics.measuring import ORIENTATIONS, Measurements
from sidflow.semantics.palette import NAMES, ground_name

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
_DIRECTED = 0.45  # share of the edges' strength from which on one direction is the main one
_REGULAR = 0.3  # regularity from which on a pattern is called repeating


class PictureWords(NamedTuple):
    """One picture in words: its sentences, and the colours that they name."""

    sentences: tuple[str, ...]
    colours: tuple[str, ...]  # largest share first


def word(measured: Measurements, row: int, *, colours: int, min_share: float) -> PictureWords:
    """Say what was measured of one picture, naming at most `colours` colours with `min_share` of it or more."""
    shares = measured.colours[row]
    order = np.argsort(-shares, kind="stable")[:colours]
    named = [int(index) for index in order if shares[index] >= min_share] or [int(order[0])]
    palette = ", ".join(f"{_step(float(shares[index]), _SHARES)} {NAMES[index]}" for index in named)
    ground = f" on a plain {ground_name(measured.background[row])} background" if measured.plain[row] else ""
    return PictureWords(
        sentences=(
            f"{palette[0].upper()}{palette[1:]}{ground}.",
            f"{_step(float(measured.lightness[row]), _LIGHT)}, {_step(float(measured.contrast[row]), _CONTRAST)}, "
            f"{_step(float(measured.chroma[row]), _CHROMA)}.",
            _layout(measured, row),
            _texture(measured, row),
        ),
        colours=tuple(NAMES[index] for index in named),
    )


def _layout(measured: Measurements, row: int) -> str:
    aspect = float(measured.aspect[row])
    form = "Portrait" if aspect < 0.9 else "Landscape" if aspect > 1.1 else "Square"
    x, y = (float(value) for value in measured.centre[row])
    across = "left" if x < 0.42 else "right" if x > 0.58 else ""
    down = "top" if y < 0.42 else "bottom" if y > 0.58 else ""
    place = " ".join(part for part in (down, across) if part) or "centre"
    if not measured.plain[row]:
        return f"{form} format, filled to the edges, most detail at the {place}."
    return f"{form} format, the subject at the {place}, filling {_step(float(measured.subject[row]), _SIZES)} of it."


def _texture(measured: Measurements, row: int) -> str:
    detail = _step(float(measured.edges[row]), _EDGES)
    directions = measured.orientations[row]
    main = int(directions.argmax())
    lines = f", mainly {ORIENTATIONS[main]} lines" if directions[main] >= _DIRECTED else ""
    pattern = ", a repeating pattern" if measured.regularity[row] >= _REGULAR else ""
    return f"{detail}{lines}{pattern}."


def _step(value: float, steps: Sequence[tuple[float, str]]) -> str:
    """Return the word of the first step that `value` exceeds."""
    return next((name for least, name in steps if value > least), steps[-1][1])
