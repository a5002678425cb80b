"""What the small writer learns from: products of synthetic catalogues, questions about them, and right answers.

An answer holds what its view can know: of a picture the category, colour, pattern and style; of words what they say;
of both together all of it. Everything else is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sidflow.artifacts.features import IMAGE, JOINT, KEYWORDS, TEXT
from sidflow.artifacts.item_content import ItemText, item_texts
from sidflow.catalog.params import PictureParams, SyntheticParams
from sidflow.catalog.pictures import encode_jpeg
from sidflow.catalog.synthetic.drawing import draw_product, product_truth
from sidflow.catalog.synthetic.products import Grammar, read_grammar, sample_products, write_item_texts
from sidflow.semantics.params import View
from sidflow.semantics.requests import DESCRIPTION_FIELDS, READS_WORDS, Prompt, Request, first_request, item_words

VIEWS: tuple[View, ...] = (TEXT, IMAGE, JOINT, KEYWORDS)
MAX_CHARACTERS = 2000  # of an item's words in a question, as `describe` has it by default


class Lesson(NamedTuple):
    """One product of a synthetic catalogue: what a shop shows of it, and what is true of it."""

    words: str  # empty where it has none
    picture: bytes | None  # JPEG
    truth: Mapping[str, str]  # category, style, colour, pattern
    stated: Mapping[str, str]  # what its words say: category, department, style, colour, material, use, mood


def catalogue_lessons(grammar_path: Path, seed: int, items: int) -> list[Lesson]:
    """Return the products of the synthetic catalogue of `seed`, drawn and described as `ingest` does it."""
    grammar = read_grammar(grammar_path)
    size = SyntheticParams(items=items)
    streams = [np.random.default_rng([seed, part]) for part in range(2)]
    products = sample_products(grammar, size, streams[0])
    texts = item_texts(write_item_texts(grammar, products, streams[1]))
    lessons = []
    for row, text in enumerate(texts):
        random = [seed, 4, row]
        truth = product_truth(grammar, products, row, random)
        picture = None
        if products.has_picture[row]:
            drawn = draw_product(grammar, products, row, size.picture_side, random)
            picture = encode_jpeg(drawn, PictureParams())[0]
        lessons.append(
            Lesson(item_words(text, MAX_CHARACTERS), picture, truth, stated_attributes(grammar, truth, text))
        )
    return lessons


def stated_attributes(grammar: Grammar, truth: Mapping[str, str], text: ItemText) -> dict[str, str]:
    """Return what the words say of a product; empty where they are silent."""
    if not text.title:
        return {}
    words = f" {text.title} {' '.join(text.sentences)} ".lower()
    category, style = grammar.categories[truth["category"]], grammar.styles[truth["style"]]
    title = f" {text.title} ".lower()
    return {
        "department": category.department,
        "category": truth["category"],
        "style": truth["style"] if any(word in title for word in style.words) else "",
        "colour": truth["colour"] if f" {truth['colour']} " in words.replace(",", " ").replace(".", " ") else "",
        "material": dict(text.attributes).get("material", ""),
        "use": next((use for use in category.uses if use.lower() in words), ""),
        "mood": next((mood.rstrip(".") for mood in style.moods if mood.lower() in words), ""),
    }


def answer(lesson: Lesson, view: View) -> dict[str, str | list[str]]:
    """Return the right answer about a product: what the view can know, and nothing else."""
    visible = lesson.truth if view in (IMAGE, JOINT) else {}
    stated = lesson.stated if READS_WORDS[view] else {}
    category = visible.get("category") or stated.get("category", "")
    style = stated.get("style") or visible.get("style", "")
    colour = visible.get("colour") or stated.get("colour", "")
    material, use, pattern = stated.get("material", ""), stated.get("use", ""), visible.get("pattern", "")
    if view == KEYWORDS:
        phrases = [stated.get("department", ""), category]
        phrases += [f"{word} {category}" for word in (style, colour, material) if word]
        return {"keywords": [phrase for phrase in phrases if phrase]}
    kind = " ".join(word for word in (style, colour, material, category) if word)
    end = (f", pattern {pattern}" if pattern else "") + (f", {use}" if use else "")
    fields: dict[str, str | list[str]] = dict.fromkeys(DESCRIPTION_FIELDS, "")
    return fields | {
        "category": category,
        "style": style,
        "colours": [colour] if colour else [],
        "material": material,
        "use": use,
        "mood": stated.get("mood", ""),
        "summary": f"{'An' if kind[0] in 'aeiou' else 'A'} {kind}{end}.",
    }


class Example(NamedTuple):
    """A question and its right answer, as JSON."""

    lesson: int  # row
    request: Request
    answer: str


def examples(lessons: Iterable[Lesson], prompts: Mapping[View, Prompt]) -> list[Example]:
    """Return every question that `describe` would ask about the products, with its answer."""
    rows = []
    for row, lesson in enumerate(lessons):
        for view, prompt in prompts.items():
            reads_picture = view in (IMAGE, JOINT)
            if (lesson.words or not READS_WORDS[view]) and (lesson.picture is not None or not reads_picture):
                request = first_request(row, view, prompt, lesson.words, lesson.picture)
                rows.append(Example(row, request, json.dumps(answer(lesson, view))))
    return rows
