"""What the small writer is taught: right answers that hold nothing which their view cannot know."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sidflow.artifacts.item_content import ItemText
from sidflow.catalog.synthetic.products import read_grammar
from sidflow.semantics.params import default_prompts
from sidflow.semantics.requests import DESCRIPTION_FIELDS, read_prompt
from sidflow.small_writer.fit import grammar_phrases
from sidflow.small_writer.lessons import Lesson, answer, catalogue_lessons, examples, stated_attributes
from sidflow.small_writer.tokenizer import train_tokenizer

GRAMMAR = Path("presets/grammar.yaml")
SILENT = Lesson(
    "title: nordic mug in stoneware",
    b"jpeg",
    {"category": "mug", "style": "nordic", "colour": "teal", "pattern": "chevrons"},
    {"department": "kitchen", "category": "mug", "style": "nordic", "colour": "", "material": "stoneware",
     "use": "", "mood": ""},
)  # fmt: skip


@pytest.fixture(scope="module")
def lessons():
    return catalogue_lessons(GRAMMAR, 31, 48)


@pytest.fixture(scope="module")
def rows(lessons):
    return examples(lessons, {view: read_prompt(name, view) for view, name in default_prompts().items()})


def test_words_alone_know_neither_colour_nor_pattern_where_they_are_silent():
    said = json.dumps(answer(SILENT, "text"))
    assert "teal" not in said
    assert "chevrons" not in said
    assert answer(SILENT, "text")["material"] == "stoneware"


def test_a_picture_alone_knows_no_material_use_or_mood():
    said = answer(SILENT, "image")
    assert (said["category"], said["colours"], said["style"]) == ("mug", ["teal"], "nordic")
    assert said["summary"] == "A nordic teal mug, pattern chevrons."
    assert {name for name, value in said.items() if not value} == {"material", "audience", "use", "mood"}


def test_both_together_know_what_either_knows():
    said = answer(SILENT, "joint")
    assert (said["colours"], said["material"]) == (["teal"], "stoneware")
    assert "chevrons" in said["summary"]


def test_what_is_taken_from_words_stands_in_them(lessons):
    grammar = read_grammar(GRAMMAR)
    colours = 0
    for lesson in lessons:
        words = lesson.words.lower()
        for name in ("colour", "material", "use", "mood"):
            assert lesson.stated.get(name, "").lower() in words
        styles = grammar.styles[lesson.truth["style"]].words
        assert not lesson.stated.get("style") or any(word in words for word in styles)
        colours += bool(lesson.stated.get("colour"))
    assert 0 < colours < len(lessons)


def test_a_product_without_text_tells_nothing():
    grammar = read_grammar(GRAMMAR)
    assert stated_attributes(grammar, SILENT.truth, ItemText("", "", (), (), ())) == {}


def test_every_view_is_asked_of_what_has_its_words_and_picture(lessons, rows):
    asked = Counter(row.request.view for row in rows)
    with_words = sum(bool(lesson.words) for lesson in lessons)
    with_picture = sum(lesson.picture is not None for lesson in lessons)
    both = sum(bool(lesson.words) and lesson.picture is not None for lesson in lessons)
    assert asked == {"text": with_words, "keywords": with_words, "image": with_picture, "joint": both}
    assert all(row.request.picture is None for row in rows if row.request.view in ("text", "keywords"))


def test_the_image_view_is_asked_and_answered_without_words(lessons, rows):
    for row in rows:
        if row.request.view == "image":
            title = lessons[row.lesson].words.partition("\n")[0].removeprefix("title: ")
            assert not title or title not in row.request.prompt
            assert set(json.loads(row.answer)) == set(DESCRIPTION_FIELDS)


def test_the_tokenizer_gives_back_any_text_and_keeps_answers_short(rows):
    tokenizer = train_tokenizer(rows, grammar_phrases(read_grammar(GRAMMAR)))
    for text in [*(row.answer for row in rows), "Gr\u00fc\u00dfe \u2615 {x}\n", "zzz"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    lengths = [len(tokenizer(row.answer, add_special_tokens=False)["input_ids"]) for row in rows]
    assert max(lengths) < 40
