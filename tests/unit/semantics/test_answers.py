import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidflow.semantics.answers import MAX_CHARACTERS, parse_object, read_answer, view_text
from sidflow.semantics.store import Response

FULL = {
    "category": "boots", "style": "rugged", "colours": ["black", "red"], "material": "leather", "audience": "adults",
    "use": "hiking", "mood": "warm", "summary": "Sturdy boots for winter walks.",
}  # fmt: skip
INSTRUCTIONS = "You describe products for a catalogue search. Read what a shop says about one item and be brief."


def read(text, reason="stop", view="text"):
    return read_answer(Response("0" * 64, text, reason, 1, 1, "m@1"), view, INSTRUCTIONS)


def test_a_whole_answer_is_read_as_it_is():
    answer = read(json.dumps(FULL))
    assert answer == (FULL, "", False)
    assert view_text(answer.fields, "text") == (
        "Category: boots. Style: rugged. Colours: black, red. Material: leather. Audience: adults. Use: hiking. "
        "Mood: warm. Sturdy boots for winter walks."
    )


@pytest.mark.parametrize("wrapped", ["```json\n{}\n```", "Sure, here it is: {}", "{} I hope that helps!", "\n {} \n"])
def test_text_around_the_object_is_dropped(wrapped):
    assert read(wrapped.replace("{}", json.dumps(FULL))).fields == FULL


@given(st.integers(1, len(json.dumps(FULL)) - 1))
def test_of_a_cut_answer_only_whole_values_are_kept(length):
    content, repaired = parse_object(json.dumps(FULL)[:length], "text")
    if content is not None:
        assert repaired
        for name, value in content.items():
            assert value == FULL[name] or (isinstance(value, list) and value == FULL[name][: len(value)])


DRAFT = FULL | {"category": "guess"}


@pytest.mark.parametrize(
    "text",
    [
        "<think>Perhaps DRAFT, but no.</think>\nFULL",
        "Perhaps DRAFT, but no.</think>```json\nFULL\n```",
        '<think>The form {x} asks for {"a"}.</think>FULL',
        "<think>One.</think><think>Two: DRAFT</think> FULL",
        "Here {as asked}: FULL",
        'A set {"a", "b"} is none: FULL',
        "First DRAFT, better: FULL",
        'FULL And {"note": 1}.',
        'The form {"category": is cut. FULL',
        "[FULL]",
    ],
)
def test_of_several_objects_the_last_complete_one_that_was_asked_for_is_the_answer(text):
    answer = read(text.replace("DRAFT", json.dumps(DRAFT)).replace("FULL", json.dumps(FULL)))
    assert answer == (FULL, "", True)


@pytest.mark.parametrize("text", ["Here {as asked}: FULL", "<think>DRAFT</think>FULL", 'As {"category" said: FULL'])
def test_only_a_cut_object_is_repaired_where_none_is_complete(text):
    cut = text.replace("DRAFT", json.dumps(DRAFT)).replace("FULL", json.dumps(FULL)[:-5])
    answer = read(cut, "length")
    assert answer.fields == FULL | {"summary": ""} and answer.repaired


def test_what_a_model_thinks_is_no_answer():
    thoughts = f"<think>Perhaps {json.dumps(DRAFT)} or"
    assert read(thoughts, "length").failure == "cut"
    assert read(thoughts).failure == read(f"{thoughts}</think>").failure == "malformed"
    assert read("<think>It is a boot.</think>\nI'm sorry, I can't help.").failure == "refusal"
    quoted = FULL | {"summary": "A shirt that says </think>."}
    assert read(json.dumps(quoted)) == (quoted, "", False)


@pytest.mark.parametrize(
    "text",
    ["{" * 60_000, '{"' * 30_000, '{"a":' * 12_000, '{"a":[' * 10_000, '{{{{{{{{"a",' + '"b",' * 15_000],
    ids=["braces", "names", "objects", "lists", "values"],
)
def test_a_hostile_answer_is_read_in_a_moment(text):
    started = time.process_time()
    assert read(text).failure in ("malformed", "schema")
    assert time.process_time() - started < 5


def test_an_answer_cut_late_is_used_and_one_cut_early_is_not():
    text = json.dumps(FULL)
    late = read(text[:-5], "length")
    assert late.failure == "" and late.repaired and late.fields["mood"] == "warm" and late.fields["summary"] == ""
    assert read(text[:30], "length").failure == "cut"


@pytest.mark.parametrize(
    ("text", "reason", "failure"),
    [
        ("", "stop", "empty"),
        ("   \n", "stop", "empty"),
        (json.dumps({name: [] if isinstance(value, list) else "" for name, value in FULL.items()}), "stop", "empty"),
        ("no json", "stop", "malformed"),
        ("[1, 2]", "stop", "malformed"),
        ('"text"', "stop", "malformed"),
        ("{" * 5000, "stop", "malformed"),
        ("no json", "length", "cut"),
        ("I'm sorry, I can't help with that.", "stop", "refusal"),
        (json.dumps(FULL | {"category": "I cannot see a picture."}), "stop", "refusal"),
        (json.dumps({"a": 1}), "stop", "schema"),
        (json.dumps(dict.fromkeys(FULL, 3)), "stop", "schema"),
        ("x" * (MAX_CHARACTERS + 1), "stop", "huge"),
        (json.dumps(FULL | {"summary": INSTRUCTIONS}), "stop", "echo"),
        (json.dumps(FULL | {"summary": "very nice boots " * 20}), "stop", "repetitive"),
        (json.dumps(FULL), "rejected", "rejected"),
    ],
)
def test_why_an_answer_cannot_be_used(text, reason, failure):
    answer = read(text, reason)
    assert answer.failure == failure
    assert answer.fields == {}


@pytest.mark.parametrize(
    ("keywords", "failure"),
    [
        (["sorry board game", "family game"], ""),
        (["I can read", "I can talk", "early readers"], ""),
        (["I'm sorry card", "apology", "greeting card"], ""),
        (["Sorry!", "board game"], ""),
        (["I'm sorry, I can't help with that."], "refusal"),
        (["I\u2019m sorry", "I cannot see a picture"], "refusal"),
        (["Sorry, but there is no text"], "refusal"),
    ],
    ids=str,
)
def test_keywords_are_a_refusal_where_most_begin_as_one(keywords, failure):
    assert read(json.dumps({"keywords": keywords}), view="keywords").failure == failure


@pytest.mark.parametrize("category", ["Sorry! board game", "sorry game", "I can talk dolls"])
def test_a_name_that_begins_with_a_word_of_refusals_is_none(category):
    assert read(json.dumps(FULL | {"category": category})).failure == ""


@pytest.mark.parametrize(
    "text", ["Sorry, I can't.", "Sorry", "I cannot see it.", "Unfortunately, I see nothing.", "As an AI I do not see."]
)
def test_an_answer_that_begins_as_a_refusal_is_one(text):
    assert read(json.dumps(FULL | {"category": text})).failure == ("" if text == "Sorry" else "refusal")
    assert read(text).failure == "refusal"


def test_one_field_of_another_type_is_left_empty():
    answer = read(json.dumps(FULL | {"mood": 3, "colours": "red", "use": ["hiking", "snow"]}))
    assert answer.failure == ""
    assert (answer.fields["mood"], answer.fields["colours"], answer.fields["use"]) == ("", ["red"], "hiking, snow")


def test_half_a_surrogate_pair_is_no_text():
    answer = read(json.dumps(FULL | {"style": "\ud83d plain", "colours": ["\ud83d\ude00", "red\ude00"]}))
    assert (answer.fields["style"], answer.fields["colours"]) == ("? plain", ["\U0001f600", "red?"])


def test_deeply_nested_json_is_not_read():
    assert read('{"a":' * 2000 + "1" + "}" * 2000).failure == "malformed"


def test_keywords_are_joined_each_once():
    answer = read(json.dumps({"keywords": ["boots", " winter  boots", "boots", ""]}), view="keywords")
    assert view_text(answer.fields, "keywords") == "boots, winter boots"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    answer = read(text)
    assert bool(answer.failure) != bool(answer.fields)
