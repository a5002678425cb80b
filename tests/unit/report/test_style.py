"""The colours of the page: text is told from what is behind it, light and dark (WCAG 2, level AA)."""

import re

import pytest

from sidflow.report.costs import CSS as COSTS_CSS
from sidflow.report.style import CSS

LEAST_CONTRAST = 4.5
LIGHT, DARK = (dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", part)) for part in CSS.split("@media (prefers", 2)[:2])
STRONGEST_CELL = 0.42  # share of the colour `method` in a cell of the slices


def _channels(colour: str) -> list[float]:
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def _luminance(channels: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: list[float], other: list[float]) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_of_texts_stand_out_from_page_and_cards(palette):
    used = set(re.findall(r"(?<![\w-])color:var\(--(\w+)\)", CSS + COSTS_CSS))
    assert {"ink", "soft", "method"} <= used
    faint = {
        (text, ground): contrast(_channels(palette[text]), _channels(palette[ground]))
        for text in used
        for ground in ("paper", "card")
    }
    assert {pair: value for pair, value in faint.items() if value < LEAST_CONTRAST} == {}


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_intervals_stand_out_from_the_strongest_cell(palette):
    assert f"{STRONGEST_CELL:.0%}" in CSS
    (small,) = re.findall(r"\.heat td small\{[^}]*color:var\(--(\w+)\)", CSS) or ["soft"]
    cell = [
        STRONGEST_CELL * method + (1 - STRONGEST_CELL) * paper
        for method, paper in zip(_channels(palette["method"]), _channels(palette["paper"]), strict=True)
    ]
    assert contrast(_channels(palette[small]), cell) >= LEAST_CONTRAST
