import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidflow.report.charts import (
    Scale,
    Series,
    column_chart,
    decades,
    difference_bar,
    interval_bar,
    line_chart,
    sparkline,
    spread_positions,
    tick_label,
    ticks,
)
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


def _parts(made):
    """Return the elements of a chart with their attributes and texts."""
    return [(node.tag, dict(node.attrib), (node.text or "")) for node in ET.fromstring(made)]


def test_a_line_chart_by_hand():
    """720 x 320, lines from 46 to 590 and from 286 up to 28, with 6% above and below the values 0 to 1."""
    series = [Series("one", [0, 10], [0.0, 1.0], "method"), Series("two", [0, 5], [1.0, 0.5])]
    made = line_chart("both", series, "epoch", "loss")

    def y(value):
        return 286 - 258 * (value + 0.06) / 1.12

    parts = _parts(made)
    assert parts[0] == ("title", {}, "both")
    assert ET.fromstring(made).get("viewBox") == "0 0 720 320"
    rest = iter(parts[1:])
    for mark, label in ((0, "0"), (0.5, "0.5"), (1, "1")):
        tag_name, line, _ = next(rest)
        assert (tag_name, line["x1"], line["x2"], line["class"]) == ("line", "46", "590", "grid")
        assert float(line["y1"]) == float(line["y2"]) == pytest.approx(y(mark), abs=0.01)
        tag_name, text, shown = next(rest)
        assert (tag_name, text["x"], text["class"], shown) == ("text", "40", "tick end", label)
        assert float(text["y"]) == pytest.approx(y(mark) + 4, abs=0.01)
    for mark in (0, 2, 4, 6, 8, 10):
        tag_name, text, shown = next(rest)
        assert (tag_name, text["y"], text["class"], shown) == ("text", "304", "tick middle", str(mark))
        assert float(text["x"]) == pytest.approx(46 + 54.4 * mark, abs=0.01)
    assert next(rest) == ("text", {"x": "590", "y": "318", "class": "axis end"}, "epoch")
    assert next(rest) == ("text", {"x": "0", "y": "9", "class": "axis"}, "loss")
    path = f"M46.0,{y(1):.1f}L318.0,{y(0.5):.1f}"
    assert next(rest) == ("path", {"d": path, "class": "line other"}, "")
    tag_name, dot, _ = next(rest)
    assert (tag_name, dot["cx"], dot["r"], dot["class"]) == ("circle", "318", "2.2", "dot other")
    assert float(dot["cy"]) == pytest.approx(y(0.5), abs=0.01)
    assert next(rest) == ("path", {"d": f"M321.0,{y(0.5):.1f}L594.0,{y(0.5):.1f}", "class": "leader"}, "")
    tag_name, name, shown = next(rest)
    assert (tag_name, name["x"], name["class"], shown) == ("text", "598", "name other", "two")
    assert float(name["y"]) == pytest.approx(y(0.5) + 4, abs=0.01)
    path = f"M46.0,{y(0):.1f}L590.0,{y(1):.1f}"  # the method's line is drawn last, and ends at the edge without a dot
    assert next(rest) == ("path", {"d": path, "class": "line method"}, "")
    assert next(rest)[1] == {"d": f"M593.0,{y(1):.1f}L594.0,{y(1):.1f}", "class": "leader"}
    assert next(rest)[2] == "one"
    assert [*rest] == []
    assert "<title>two</title>" in made


def test_a_logarithmic_chart_has_decades_from_its_least_positive_value():
    made = line_chart("a", [Series("one", [0, 1, 2], [0.0, 0.001, 10.0])], "x", "y", log_y=True)
    marks = {text: node["y"] for tag_name, node, text in _parts(made) if node.get("class") == "tick end"}
    assert {label: float(at) - 4 for label, at in marks.items()} == pytest.approx(
        {"0.001": 286, "0.01": 221.5, "0.1": 157, "1": 92.5, "10": 28}
    )
    (line,) = [node["d"] for _, node, _ in _parts(made) if node.get("class") == "line other"]
    assert line == "M46.0,286.0L318.0,286.0L590.0,28.0"
    far = line_chart("a", [Series("one", [0, 1], [1e-9, 1.0])], "x", "y", log_y=True)
    assert "M46.0,286.0L590.0,28.0" in far and f">{tick_label(1e-6)}<" in far and tick_label(1e-7) not in far


def test_small_charts_are_written_as_they_are_drawn():
    assert sparkline("loss", [1, 2, 3], [4.0, 1.0, 2.0], best=1, style="method") == (
        '<svg class="spark" role="img" aria-label="loss: from 4 to 2 in 3 epochs" viewBox="0 0 220 92">'
        "<title>loss: from 4 to 2 in 3 epochs</title>"
        '<text x="0" y="11" class="caption">loss</text>'
        '<line x1="0" x2="220" y1="76" y2="76" class="grid"></line>'
        '<path d="M4.0,24.0L110.0,70.0L216.0,54.7" class="line method"></path>'
        '<text x="0" y="89" class="tick">4</text><text x="220" y="89" class="tick end">2</text>'
        '<circle cx="110" cy="70" r="3.2" class="dot kept"></circle>'
        '<text x="220" y="11" class="tick end">kept 1</text></svg>'
    )
    assert "<path" not in sparkline("one", [1], [4.0]) and "kept" not in sparkline("one", [1], [4.0])
    assert column_chart("use", [3, 1, 0], "method", 2.0) == (
        '<svg class="columns" role="img" aria-label="use" viewBox="0 0 220 64"><title>use</title>'
        '<path d="M0.00,64V2.00h72.33V64ZM73.33,64V43.33h72.33V64Z" class="bar method"></path>'
        '<line x1="0" x2="220" y1="22.67" y2="22.67" class="ceiling"></line>'
        '<line x1="0" x2="220" y1="64" y2="64" class="grid"></line></svg>'
    )
    assert "ceiling" not in column_chart("use", [3], "method")
    assert "M0.00,64V33.00h" in column_chart("use", [1], "method", 2.0)  # the dashed line decides the height
    assert interval_bar("a", 0.5, 0.25, 0.75, 1.0, "best", ceiling=0.8) == (
        '<svg class="interval" role="img" aria-label="a" viewBox="0 0 260 22"><title>a</title>'
        '<rect x="0" y="5" width="128" height="12" rx="2" class="bar best"></rect>'
        '<line x1="64" x2="192" y1="11" y2="11" class="whisker"></line>'
        '<line x1="64" x2="64" y1="8" y2="14" class="whisker"></line>'
        '<line x1="192" x2="192" y1="8" y2="14" class="whisker"></line>'
        '<line x1="204.8" x2="204.8" y1="0" y2="22" class="ceiling"></line></svg>'
    )
    assert 'width="1"' in interval_bar("a", 0.0, 0.0, 0.0, 0.0, "best") and "ceiling" not in interval_bar(
        "a", 0.5, 0.25, 0.75, 1.0, "best"
    )
    assert difference_bar("a", 0.25, 0.0, 0.5, 1.0, "method") == (
        '<svg class="interval" role="img" aria-label="a" viewBox="0 0 150 22"><title>a</title>'
        '<line x1="75" x2="75" y1="0" y2="22" class="zero"></line>'
        '<line x1="75" x2="110.5" y1="11" y2="11" class="range method"></line>'
        '<circle cx="92.75" cy="11" r="4" class="dot method"></circle></svg>'
    )


def test_ticks_and_labels_by_hand():
    assert (
        ticks(0, 1) == [0.0, 0.25, 0.5, 0.75, 1.0]
        and ticks(-3, 5) == [-2.0, 0.0, 2.0, 4.0]
        and ticks(0, 10, 6)[1] == 2.0
    )
    assert decades(0.02, 30) == [0.1, 1.0, 10.0] and decades(0.001, 1) == [0.001, 0.01, 0.1, 1.0]
    labels = [tick_label(value) for value in (0, 0.25, -2.5, 99999, 1e5, 1e-3, 2e-4, -1e-6)]
    assert labels == ["0", "0.25", "\u22122.5", "1e+05", "1e5", "0.001", "2e\u22124", "\u22121e\u22126"]
