import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidflow.report.charts import Scale, Series, interval_bar, line_chart, sparkline, spread_positions, ticks
from sidflow.report.markup import Markup, number, percent, tag

NASTY = "<script>alert('&\"')</script>"
finite = st.floats(allow_nan=False, allow_infinity=False)


def test_what_is_not_markup_is_escaped_wherever_it_stands():
    made = tag("p", NASTY, tag("b", NASTY), title=NASTY, class_="note")
    assert "<script" not in made
    root = ET.fromstring(made)
    assert root.attrib["title"] == NASTY
    assert root.text == NASTY
    assert root[0].text == NASTY


def test_numbers_as_readers_write_them():
    assert number(None) == "\u2013"
    assert number(1234567) == "1\u2009234\u2009567"
    assert number(-0.12345) == "\u22120.1235"
    assert number(-0.00001, 2) == "0.00"
    assert percent(0.123, signed=True) == "+12\u2009%"
    assert percent(-0.5) == "\u221250\u2009%"


@given(finite, finite)
def test_ticks_are_few_and_inside(a, b):
    low, high = min(a, b), max(a, b)
    marks = ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert 1 <= len(marks) <= 7
    assert len(marks) > 1 or high - low < slack
    assert all(low - slack <= mark <= high + slack for mark in marks)


@pytest.mark.parametrize(("low", "high"), [(0, 5e-324), (0, 1e-300), (1e15, 1e15 + 1), (2.0, 2.0), (3.0, 1.0)])
def test_ends_too_near_to_divide_give_one_tick(low, high):
    assert ticks(low, high) == [low]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12), st.floats(1, 30))
def test_labels_keep_their_distance_and_their_order(places, least):
    moved = spread_positions(places, least)
    ordered = sorted(moved)
    assert all(b - a >= least - 1e-6 for a, b in itertools.pairwise(ordered))
    by_place = sorted(range(len(places)), key=lambda index: places[index])
    assert [moved[index] for index in by_place] == ordered


def test_labels_that_are_apart_stay():
    assert spread_positions([10, 50, 90], 14) == [10, 50, 90]


def test_a_log_scale_is_one():
    scale = Scale(1e-3, 1, 300, 0, log=True)
    assert scale(1) == pytest.approx(0)
    assert scale(1e-3) == pytest.approx(300)
    assert scale(math.sqrt(1e-3)) == pytest.approx(150)
    assert scale(0) == pytest.approx(300)


def _texts(made: Markup) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(made).iter() if node.tag == "text"]


def test_lines_are_well_formed_and_named():
    series = [Series(NASTY, [1, 2, 3], [3.0, 2.0, 1.0], "method"), Series("flat", [1, 3], [1.0, 1.0])]
    made = line_chart(NASTY, series, "epoch", "loss")
    root = ET.fromstring(made)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == NASTY
    assert {NASTY, "flat", "epoch", "loss"} <= set(_texts(made))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("y", [[0.0, 0.0], [1.0, 1.0], [1e-12, 1.0], [-1.0, 5.0], [2.0]])
def test_no_series_breaks_a_chart(y, log):
    made = line_chart("a", [Series("one", list(range(1, len(y) + 1)), y)], "x", "y", log_y=log)
    ET.fromstring(made)
    assert "nan" not in made
    assert "inf" not in made


def test_nothing_is_said_to_be_nothing():
    assert "Nothing" in line_chart("a", [], "x", "y")


def test_bars_are_to_scale():
    half, whole = (ET.fromstring(interval_bar("a", mean, mean, mean, 1.0, "method")) for mean in (0.5, 1.0))
    widths = [float(root.find("rect").attrib["width"]) for root in (half, whole)]
    assert widths[0] * 2 == pytest.approx(widths[1])


def test_the_best_epoch_is_marked_where_it_is():
    made = sparkline("loss", [1, 2, 3], [1.0, 3.0, 2.0], best=1)
    circle = ET.fromstring(made).find("circle")
    assert float(circle.attrib["cx"]) == pytest.approx(110)
    assert float(circle.attrib["cy"]) == pytest.approx(24)


def test_marks_that_are_no_text_are_shown_as_such():
    marks = "\x00\x1b\x7f\x9b\u061c\u200e\u202e\u2066\u2069"
    made = tag("p", f"a{marks}b", title=f"a{marks}b")
    shown = "a" + "\ufffd" * len(marks) + "b"
    root = ET.fromstring(made)
    assert (root.text, root.attrib["title"]) == (shown, shown)
    assert ET.fromstring(tag("p", "\u05e9\u05dc\u05d5\u05dd")).text == "\u05e9\u05dc\u05d5\u05dd"
