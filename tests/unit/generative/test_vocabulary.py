"""IDs as tokens: suffixes, several modalities, items without an ID."""

import numpy as np
import polars as pl
import pytest

from sidflow.core.errors import InputError
from sidflow.generative.vocabulary import SPECIAL_TOKENS, UNKNOWN, IdParams, make_item_ids


def table(**modalities):
    """SEMANTIC_IDS of {modality: {item: (codes, suffix)}}."""
    rows = [
        (item, name, list(codes), suffix) for name, ids in modalities.items() for item, (codes, suffix) in ids.items()
    ]
    schema = {"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("item_id", "modality")


TEXT = {0: ((1, 2), 0), 1: ((1, 2), 1), 2: ((0, 2), 0), 4: ((1, 2), 2)}
COUNTS = {"text": [2, 3], "image": [2, 2]}


def test_the_suffix_is_one_more_level():
    ids = make_item_ids(table(text=TEXT), 5, COUNTS, IdParams())
    assert ids.codes.tolist() == [[1, 2, 0], [1, 2, 1], [0, 2, 0], [-1, -1, -1], [1, 2, 2]]
    assert ids.vocabulary.sizes == (2, 3, 4)  # one suffix in reserve for new items
    assert ids.sharing().tolist() == [1, 1, 1, 0, 1]


def test_without_suffix_items_share_ids():
    ids = make_item_ids(table(text=TEXT), 5, COUNTS, IdParams(suffix="none"))
    assert ids.codes.tolist() == [[1, 2], [1, 2], [0, 2], [-1, -1], [1, 2]]
    assert ids.sharing().tolist() == [3, 3, 1, 0, 3]
    assert ids.present.tolist() == [True, True, True, False, True]


def test_levels_have_tokens_of_their_own():
    ids = make_item_ids(table(text=TEXT), 5, COUNTS, IdParams(suffix="none"))
    first = SPECIAL_TOKENS
    assert ids.tokens.tolist() == [
        [first + 1, first + 2 + 2],
        [first + 1, first + 2 + 2],
        [first, first + 2 + 2],
        [UNKNOWN, UNKNOWN],
        [first + 1, first + 2 + 2],
    ]
    assert ids.vocabulary.size == first + 5


def test_joined_modalities_have_a_code_for_what_is_absent():
    image = {0: ((0, 1), 0), 1: ((0, 1), 1), 3: ((1, 1), 0)}
    ids = make_item_ids(table(text=TEXT, image=image), 6, COUNTS, IdParams(modalities=("text", "image")))
    assert ids.codes.tolist() == [
        [1, 2, 0, 1, 0],
        [1, 2, 0, 1, 1],
        [0, 2, 2, 2, 0],
        [2, 3, 1, 1, 0],
        [1, 2, 2, 2, 2],  # the suffix of its text
        [-1] * 5,
    ]
    assert ids.vocabulary.sizes == (3, 4, 3, 3, 4)


def test_a_joint_suffix_is_that_of_the_first_modality():
    text = {0: ((1, 2), 1), 1: ((1, 2), 0), 2: ((1, 2), 2)}
    image = {0: ((0, 1), 0), 1: ((0, 1), 1), 2: ((1, 1), 0)}
    ids = make_item_ids(table(text=text, image=image), 3, COUNTS, IdParams(modalities=("text", "image")))
    assert ids.codes[:, -1].tolist() == [1, 0, 2]
    assert ids.sharing().tolist() == [1, 1, 1]


def test_a_joint_suffix_of_items_without_the_first_modality_is_that_of_the_second():
    image = {0: ((0, 1), 1), 1: ((0, 1), 0)}
    ids = make_item_ids(table(text={}, image=image), 2, COUNTS, IdParams(modalities=("text", "image")))
    assert ids.codes.tolist() == [[2, 3, 0, 1, 1], [2, 3, 0, 1, 0]]


def test_a_joint_suffix_stays_where_an_item_with_these_codes_has_left_the_catalogue():
    text = {0: ((1, 2), 0), 1: ((1, 2), 1), 2: ((1, 2), 2)}
    image = {0: ((0, 1), 2), 1: ((0, 1), 1), 2: ((0, 1), 0)}
    whole, left = (
        make_item_ids(table(text=words, image=pictures), 3, COUNTS, IdParams(modalities=("text", "image")))
        for words, pictures in ((text, image), ({1: text[1], 2: text[2]}, {1: image[1], 2: image[2]}))
    )
    assert whole.sharing().tolist() == [1, 1, 1]
    assert left.codes[1:].tolist() == whole.codes[1:].tolist()


def test_a_suffix_stays_where_an_item_with_these_codes_has_left_the_catalogue():
    """What was trained on `1 2 1` is not read as `1 2 0`, the item that left."""
    ids = make_item_ids(table(text={0: ((1, 2), 1), 2: ((1, 2), 2)}), 3, COUNTS, IdParams(), sizes=(2, 3, 4))
    assert ids.codes.tolist() == [[1, 2, 1], [-1, -1, -1], [1, 2, 2]]


def test_a_trained_vocabulary_bounds_what_has_an_id():
    ids = make_item_ids(table(text=TEXT), 5, COUNTS, IdParams(), sizes=(2, 3, 2))
    assert ids.present.tolist() == [True, True, True, False, False]  # item 4 has suffix 2
    with pytest.raises(InputError, match="IDs of 2 levels, as the recommender was trained on; found 3"):
        make_item_ids(table(text=TEXT), 5, COUNTS, IdParams(), sizes=(2, 3))


def test_a_modality_without_ids_and_a_table_of_another_catalogue_are_refused():
    with pytest.raises(InputError, match=r"modality `sound`.*found those of text, image"):
        make_item_ids(table(text=TEXT), 5, COUNTS, IdParams(modalities=("sound",)))
    with pytest.raises(InputError, match="items below 4"):
        make_item_ids(table(text=TEXT), 4, COUNTS, IdParams())


def test_levels_of_one_code_and_one_item():
    ids = make_item_ids(table(text={0: ((0, 0), 0)}), 1, {"text": [1, 1]}, IdParams(suffix="none"))
    assert (ids.vocabulary.sizes, ids.codes.tolist()) == ((1, 1), [[0, 0]])
    assert np.array_equal(ids.vocabulary.first, [SPECIAL_TOKENS, SPECIAL_TOKENS + 1])
