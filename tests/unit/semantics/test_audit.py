"""What views say against what is true: the first value of an attribute counts, and silence is not right."""

import polars as pl

from sidflow.artifacts.catalog import ITEM_TRUTH
from sidflow.semantics.audit import first_of, truth_figures

TRUTH = pl.DataFrame(
    {
        "item_id": [0, 1, 2],
        "category": ["mug", "lamp", "mug"],
        "style": ["retro", "nordic", "nordic"],
        "colour": ["red", "blue", "teal"],
        "pattern": ["dots", "", "plain"],
    },
    schema_overrides={"item_id": pl.Int32},
)
TEXTS = ["A Red mug, not a blue one. Dots.", "Category: mug. Style: nordic.", "A teal mug of redwood."]
SEMANTICS = pl.DataFrame(
    {"item_id": [0, 1, 2], "view": ["image"] * 3, "text": TEXTS}, schema_overrides={"item_id": pl.Int32}
)


def test_the_first_value_in_a_view_is_what_it_says():
    figures = truth_figures(SEMANTICS, TRUTH, ["image"])
    told = {
        name: [figures[f"image_{name}_{what}"] for what in ("items", "said", "right")]
        for name in ("category", "colour")
    }
    assert told == {"category": [3, 3, 2], "colour": [3, 2, 2]}
    assert figures["image_colour_accuracy"] == 2 / 3
    assert [figures[f"image_style_{what}"] for what in ("items", "said", "right")] == [3, 1, 1]


def test_an_item_without_a_picture_has_no_true_pattern():
    figures = truth_figures(SEMANTICS, TRUTH, ["image"])
    assert [figures[f"image_pattern_{what}"] for what in ("items", "said", "right")] == [2, 1, 1]


def test_a_naming_of_all_values_is_not_right():
    listed = SEMANTICS.with_columns(text=pl.lit("teal, red and blue"))
    assert truth_figures(listed, TRUTH, ["image"])["image_colour_right"] == 1


def test_whole_words_count():
    assert first_of("redwood and blueish", ["red", "blue"]) == ""
    assert first_of("anything", []) == ""


def test_without_a_truth_there_are_no_figures():
    assert truth_figures(SEMANTICS, ITEM_TRUTH.empty(), ["image"]) == {}


def test_a_view_that_was_not_written_has_no_items():
    assert truth_figures(SEMANTICS, TRUTH, ["text"])["text_colour_items"] == 0
