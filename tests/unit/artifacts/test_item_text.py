import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sidflow.artifacts.item_content import item_texts, split_sentences


def test_sentences_end_where_sentences_end():
    text = "Made by Dr. Kay in the U.S. Army. It weighs 3.5 lbs. net! Why?\n• Bullet one\n• Bullet two"
    assert split_sentences(text) == (
        "Made by Dr. Kay in the U.S. Army.", "It weighs 3.5 lbs. net!", "Why?", "Bullet one", "Bullet two",
    )  # fmt: skip


def test_a_repeated_sentence_counts_once():
    assert split_sentences("Soft wool. Soft wool. Warm.") == ("Soft wool.", "Warm.")


@given(st.text(max_size=200))
def test_no_word_is_lost_or_invented(text):
    kept = " ".join(split_sentences(text)).split()
    told = text.replace("•", " ").replace("·", " ").split()
    assert set(kept) == set(told)
    assert sum(map(len, split_sentences(text))) <= len(text)


def test_words_of_a_row_are_tidy_and_an_empty_row_has_none():
    items = pl.DataFrame(
        {
            "title": ["  Oak\n table ", ""],
            "brand": ["Kay", ""],
            "categories": [["home", "home", " "], []],
            "attributes": [[{"name": "colour", "value": "red"}, {"name": "size", "value": ""}], []],
            "description": ["Oak table. Sturdy.", "  "],
        },
        schema_overrides={
            "categories": pl.List(pl.String),
            "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
        },
    )
    full, empty = item_texts(items)
    assert full.pieces() == ("Oak table", "Kay", "home", "red", "Sturdy.")  # the title is not said twice
    assert empty.pieces() == ()
