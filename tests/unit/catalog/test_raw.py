"""Words of sources, cleaned."""

import time

import pytest

from sidflow.catalog.raw import clean_attributes, clean_categories, clean_line, clean_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("<b>Bold</b> &amp;amp; <br/>brave", "Bold & brave"),
        ("['One.', 'Two.']", "One. Two."),
        ("[\"It's\", '6\" wide']", "It's 6\" wide"),
        ("['Line\none', '', '']", "Line one"),
        ('["Our "Best" set"]', 'Our "Best" set'),
        ("['', '']", ""),
        ("before <!-- .x {color:red} --> after", "before after"),
        ("a <style>.x {color:red}</style> b <script>alert(1)</script>c", "a b c"),
        ("cut off <a href='x", "cut off"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("tab\tand\x00null", "tab and null"),
        ("[Description]: a pad", "[Description]: a pad"),
        (None, ""),
        (float("nan"), ""),
        (["twice", "twice", "once"], "twice once"),
        ([["Beauty", "Hair"]], "Beauty Hair"),
        (".x {color:red}", ""),
        ("p {margin:0; padding: 1px}", ""),
        (".a b, .c { }", ""),
        ("ul {/* no dots */ margin:0; /*nor indents*/} li {color:red}", ""),
        ("A lamp! .aplus-v2 .apm {float:left;; -moz-width : 10px;\n} @media print {} It shines.", "A lamp! It shines."),
        ("Ratio {3:1}", "Ratio {3:1}"),
        ("Toy Story {DVD, 2 discs}: the best film", "Toy Story {DVD, 2 discs}: the best film"),
        ("Nike Shoe {Blue}", "Nike Shoe {Blue}"),
        ("Nike Shoe {}", "Nike Shoe {}"),
        ("Set {a; b}", "Set {a; b}"),
    ],
)
def test_text(raw, clean):
    assert clean_text(raw, 1000) == clean


@pytest.mark.parametrize(
    "part",
    [
        *("a ", "a:", "a:b", "a:b;", "a {", "a {b:c;", "a {b:c", ".x {", "a {}", ".a b{ ", "a-b: c ", ". ."),
        *("{b:c;} ", "a {/*", "a {b:c;/*d*/", "/**/", "/*;"),
    ],
)
def test_braces_take_time_in_proportion_to_their_text(part):
    text = ".x {" + part * (200_000 // len(part))
    start = time.process_time()
    clean_line(text)
    assert time.process_time() - start < 5


def test_nothing_is_evaluated():
    code = "[__import__('os').getcwd()]"
    assert clean_text(code, 1000) == code


def test_a_deep_list_is_text_not_a_crash():
    assert clean_text("[" * 5000 + "]" * 5000, 100)


def test_values_that_lie_too_deep_are_left_out():
    value = "deep"
    for _ in range(5000):
        value = [value]
    assert clean_text(["near", value], 100) == "near"
    assert clean_text("['near', " + "[" * 90 + "'deep'" + "]" * 90 + "]", 100) == "near"
    assert clean_text("[" * 60 + "'deep'" + "]" * 60, 100) == "deep"


@pytest.mark.parametrize("text", ["[0x%s]" % ("f" * 5000), "[0x%s + 1j]" % ("f" * 5000), "[{[1]: 2}]", "[{[1]}]"])
def test_a_list_that_cannot_be_a_value_is_text(text):
    assert clean_text(text, 10_000) == text


def test_long_text_is_cut_at_a_word():
    assert clean_text("one two, three", 10) == "one two"
    assert clean_text("x" * 20, 10) == "x" * 10


def test_labels_are_flat_distinct_and_in_order():
    assert clean_categories([["Beauty", "Hair"], ["Beauty", "Nails &amp; Co"]], 100) == ["Beauty", "Hair", "Nails & Co"]
    assert clean_categories("a|b||a", 100, separator="|") == ["a", "b"]
    assert clean_categories("['Office', 'Pens']", 100, separator=",") == ["Office", "Pens"]


def test_attributes_are_sorted_and_say_something():
    assert clean_attributes({"size": "L", "colour": None, "a": ["x", "y"]}, 100) == [
        {"name": "a", "value": "x y"},
        {"name": "size", "value": "L"},
    ]
