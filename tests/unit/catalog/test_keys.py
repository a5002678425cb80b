"""Keys in every source: one spelling for one key, and what is no key becomes none."""

import json

import numpy as np
import polars as pl
import pytest
from tests.unit.catalog.raw_files import FILES, FORMS, TEXT_FORMS, form_params, histories, titles, write_form

from sidflow.catalog.ingest import ingest
from sidflow.catalog.keys import NO_KEYS, clean_keys, json_key
from sidflow.core.errors import InputError

JSON_FORMS = ("letter", "jsonl", "jsonl.gz")
AMAZON = ("amazon-2014", "amazon-2018", "amazon-2023")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("10.0", "10"), ("010.0", "10"), ("0.0", "0"), ("-3.00", "-3"), ("10.", "10"),
        (" 10 ", "10"), ("10.0 ", "10"), ("\u00a0x\u200b", "x"), ("\ufeffx", "x"), ("x y", "x y"),
        ("0010", "0010"), ("1.5", "1.5"), ("1.0.0", "1.0.0"), ("v1.0", "v1.0"), ("1E5", "1E5"), ("5e3", "5e3"),
        ("Null Object", "Null Object"), ("{6F9619FF-8B86}", "{6F9619FF-8B86}"), ("a\nb", "a\nb"), ("nano", "nano"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_one_spelling(written, key, kind):
    cleaned = clean_keys(pl.Series([written, "other", written], dtype=kind))
    assert cleaned.keys.cast(pl.String).to_list() == [key, "other", key]
    assert not cleaned.bad.any()
    assert cleaned.repaired.to_list() == [written != key, False, written != key]


@pytest.mark.parametrize(
    "text", [*NO_KEYS, " ", "\t", " nan ", "1.23457E+12", "1e+05", "1.5e3", "[1, 2]", "['a']", "{'a': 1}"]
)
@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_texts_that_are_no_key(text, kind):
    assert clean_keys(pl.Series(["x", text, "y", None], dtype=kind)).bad.to_list() == [False, True, False, True]


@pytest.mark.parametrize(
    ("values", "keys", "bad"),
    [
        (pl.Series([1.0, -2.0, 1.5, None, np.nan, np.inf, 2.0**53]), ["1", "-2"], [2, 3, 4, 5, 6]),
        (pl.Series([1, None, 3], dtype=pl.UInt64), ["1"], [1]),
        (pl.Series([True, False]), [], [0, 1]),
        (pl.Series([[1], [2]]), [], [0, 1]),
        (pl.Series([{"a": 1}]), [], [0]),
        (pl.Series([b"x"]), [], [0]),
        (pl.Series([None, None]), [], [0, 1]),
    ],
)
def test_columns_of_other_types(values, keys, bad):
    cleaned = clean_keys(values)
    assert np.flatnonzero(cleaned.bad.to_numpy()).tolist() == bad
    if keys:
        assert cleaned.keys.cast(pl.String).to_list()[: len(keys)] == keys


def test_keys_of_json():
    assert [json_key(value) for value in ("x", 7, -1, 10.0, 2**70)] == ["x", "7", "-1", "10", str(2**70)]
    assert [json_key(value) for value in (None, True, 1.5, float("nan"), float("inf"), [1], {}, 1e300)] == [None] * 8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("of_events", "of_items"),
    [("10.0", "10"), ("10", "10.0"), (" 10", "10"), ("10", "10 "), ("10.0 ", "\u00a010"), ("B7 ", "B7"), ("B7", " B7")],
)
def test_events_meet_items_that_are_written_otherwise(tmp_path, form, of_events, of_items):
    write_form(tmp_path, form, [("7.0", of_events), ("7.0", "x"), ("8 ", of_events)], [(of_items, "Ten"), ("x", "X")])
    catalog = ingest(form_params(tmp_path, form))
    key = of_items.strip().removesuffix(".0")
    assert histories(catalog) == {"7": [key, "x"], "8": [key]}
    assert titles(catalog) == {key: "Ten", "x": "X"}
    assert catalog.report["core_items_with_text"] == 2
    assert catalog.report["keys_repaired"] >= 3
    assert f"keys_repaired {catalog.report['keys_repaired']}" in catalog.summary()


@pytest.mark.parametrize("form", [*JSON_FORMS, *AMAZON, "parquet"])
def test_whole_floats_are_integers(tmp_path, form):
    write_form(tmp_path, form, [(7.0, 10.0), (7.0, 11.0)], [(10.0, "Ten"), (11.0, "Eleven")])
    catalog = ingest(form_params(tmp_path, form))
    assert histories(catalog) == {"7": ["10", "11"]}
    assert titles(catalog) == {"10": "Ten", "11": "Eleven"}


NO_JSON_KEYS = [None, float("nan"), True, False, 1.5, [3, 4], {"a": 1}, "", " ", "nan", "null", "None"]


NO_JSON_KEY_CASES = [
    (form, role, value)
    for form in JSON_FORMS
    for role in ("user", "item", "text")
    for value in NO_JSON_KEYS
    if form != "letter" or role == "item" or isinstance(value, str)  # names of a JSON object are text
]


@pytest.mark.parametrize(("form", "role", "value"), NO_JSON_KEY_CASES)
def test_what_is_no_key_is_refused_in_json(tmp_path, form, role, value):
    events = [("ann", "x"), ("ann", "y")]
    events += {"user": [(value, "x")], "item": [("bob", "x"), ("bob", value)], "text": []}[role]
    write_form(tmp_path, form, events, [("x", "X"), (value if role == "text" else "y", "Y")])
    shown = json.dumps(value)[:10].replace("[", r"\[").replace("{", r"\{")
    where = {"user": "", "item": ".*sequence of user bob", "text": ""}[role]
    with pytest.raises(
        InputError, match=rf"expected text or a whole number as key.*found {shown}.*in {where}.*1 affect"
    ):
        ingest(form_params(tmp_path, form))


@pytest.mark.parametrize("form", [*FILES, "movielens", *AMAZON, "parquet"])
@pytest.mark.parametrize("value", ["", " ", "nan", "null", "None", "True", "[3, 4]", "1.23457E+12"])
@pytest.mark.parametrize("role", ["user", "item", "text"])
def test_what_is_no_key_is_refused_in_rows(tmp_path, form, value, role):
    events = [("ann", "x"), ("ann", "y")] + {"user": [(value, "x")], "item": [("bob", value)], "text": []}[role]
    write_form(tmp_path, form, events, [("x", "X"), (value if role == "text" else "y", "Y")])
    row = 2 if role == "text" else 3
    with pytest.raises(InputError, match=rf"(row|line|review) {row}\b"):
        ingest(form_params(tmp_path, form))


@pytest.mark.parametrize("form", AMAZON)
@pytest.mark.parametrize("value", [True, [3, 4], {"a": 1}], ids=repr)
def test_what_is_no_key_is_refused_in_reviews(tmp_path, form, value):
    write_form(tmp_path, form, [("ann", "x"), ("bob", value), ("bob", "x")])
    with pytest.raises(InputError, match=r"text or a whole number as key.*review 2"):
        ingest(form_params(tmp_path, form))
    with (tmp_path / "reviews.json").open("a") as handle:  # a broken line, so that each line is parsed by itself
        handle.write("{broken\n")
    with pytest.raises(InputError, match=r"text or a whole number as key.*review 2"):
        ingest(form_params(tmp_path, form))


@pytest.mark.parametrize("form", ["jsonl", *AMAZON])
@pytest.mark.parametrize("role", ["user", "item", "text"])
def test_half_characters_are_no_key(tmp_path, form, role):
    events = [("ann", "x"), ("USER", "y"), ("ann", "ITEM")]
    write_form(tmp_path, form, events, [("x", "X"), ("y", "half a TITLE"), ("ITEM" if role != "text" else "TEXT", "Z")])
    for path in tmp_path.iterdir():
        text = path.read_text().replace("half a TITLE", r"half a \ud83d")
        path.write_text(text.replace(role.upper(), r"half\udc00"))
    with pytest.raises(InputError, match=r"text or a whole number as key") as error:
        ingest(form_params(tmp_path, form))
    assert error.value.line().isascii()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user_id items\n1 2 3\n", "a header in line 1"),
        ("user_id:token item_id_list:token_seq\n1 2 3\n", "a header in line 1"),
        ("1,2,3\n2,3\n", "`,` between them"),
        ("1 2,3,4\n2 3,4\n", "`,` between them"),
        ("1;2;3\n", "`;` between them"),
        ("u0, i0, i1, i4\nu1, i0\nu2, i4, i0\n", "`,` between them"),
        ("u0 i0; i1; i4\nu1 i4; i0\n", "`;` between them"),
        ("u0 i0\nu1 i0| i1\n", "`|` between them"),
        ("u0 i0, i1, i4,\nu1 i4, i0,\n", "`,` between them"),
        ("u0 [i0, i1, i4]\nu1 i0\n", "`.` and `.` around them .1 affected., for example 'line 1: u0"),
        ("[u0 i0 i1]\n[u1 i0]\n", "`.` and `.` around them"),
        ("1 2 3\r2 3\r3 2 3\r", "a line feed; found carriage returns alone"),
        ("1 2 3\n2 3\r3 2 3\n", "a line feed; found carriage returns alone"),
        ("1 2\u00a03\n2\u00a03\n", "1 without items"),
        ("1 2\0\n", "NUL"),
        ("1 2 nan\n", "nan.*in the sequence of user 1 .line 1."),
    ],
)
def test_text_sequences_of_other_forms_are_refused(tmp_path, text, says):
    (tmp_path / "s.txt").write_bytes(text.encode())
    with pytest.raises(InputError, match=says):
        ingest(form_params(tmp_path, "letter"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 a, b c\n2 b c\n", {"1": ["a,", "b", "c"], "2": ["b", "c"]}),
        ("1 [a b\n2 b [a\n", {"1": ["[a", "b"], "2": ["b", "[a"]}),
        ("1 a b\r\n2 b\r\n", {"1": ["a", "b"], "2": ["b"]}),
    ],
)
def test_signs_of_other_forms_may_be_part_of_a_key(tmp_path, text, wanted):
    (tmp_path / "s.txt").write_bytes(text.encode())
    assert histories(ingest(form_params(tmp_path, "letter"))) == wanted


@pytest.mark.parametrize("form", AMAZON)
def test_a_review_without_a_field_is_counted(tmp_path, form):
    write_form(tmp_path, form, [("ann", "x"), (None, "x"), ("bob", None), ("bob", "x"), ("bob", "y")])
    catalog = ingest(form_params(tmp_path, form))
    assert histories(catalog) == {"ann": ["x"], "bob": ["x", "y"]}
    assert catalog.report["reviews_bad_lines"] == 2
    assert "reviews_bad_lines 2" in catalog.summary()


@pytest.mark.parametrize("second", ["0", "0.0", " 0"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("B.inter.json", '{"0": [1, 2], "1": [2], "%s": [4]}'),
        ("sequences.jsonl", '{"user": 0, "items": [1, 2]}\n{"user": 1, "items": [2]}\n{"user": "%s", "items": [4]}\n'),
        ("s.txt", "0 1 2\n1 2\n%s 4\n"),
    ],
)
def test_a_user_that_stands_twice_is_refused(tmp_path, name, text, second):
    (tmp_path / name).write_text(text % second)
    with pytest.raises(InputError, match=r"one line per user.*1 of them repeated, for example 'user 0'"):
        ingest(form_params(tmp_path, "letter"))


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_keys_stay_text(tmp_path, form):
    write_form(tmp_path, form, [("0010", "B000123"), ("10", "1,5")], [("B000123", "A"), ("1,5", "B")])
    catalog = ingest(form_params(tmp_path, form))
    assert histories(catalog) == {"0010": ["B000123"], "10": ["1,5"]}
    assert catalog.summary().endswith("interactions")
