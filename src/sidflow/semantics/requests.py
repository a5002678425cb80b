"""What a language model is asked about an item: prompt files, requests, and their keys in the response store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from sidflow.artifacts.features import IMAGE, JOINT, KEYWORDS, TEXT
from sidflow.artifacts.item_content import ItemText, truncate_at_word
from sidflow.core.errors import InputError
from sidflow.core.files import note_read, project_path
from sidflow.semantics.params import ChosenDtypeParams, GenerationParams, GuidedParams, View

PROMPTS = Path("prompts")
READS_WORDS = {TEXT: True, IMAGE: False, JOINT: True, KEYWORDS: True}
READS_PICTURE = {TEXT: False, IMAGE: True, JOINT: True, KEYWORDS: False}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_PHRASE = {"type": "string", "maxLength": 400}
_LIST = {"type": "array", "items": {"type": "string", "maxLength": 80}, "maxItems": 12}
DESCRIPTION_FIELDS: dict[str, Mapping[str, Any]] = {  # in the order of the view's sentences
    "category": _PHRASE,
    "style": _PHRASE,
    "colours": _LIST,
    "material": _PHRASE,
    "audience": _PHRASE,
    "use": _PHRASE,
    "mood": _PHRASE,
    "summary": {"type": "string", "maxLength": 1200},
}
KEYWORD_FIELDS: dict[str, Mapping[str, Any]] = {"keywords": _LIST}


def answer_fields(view: View) -> dict[str, Mapping[str, Any]]:
    """Return the fields of a view's answer, each with its JSON schema."""
    return KEYWORD_FIELDS if view == KEYWORDS else DESCRIPTION_FIELDS


def answer_schema(view: View) -> dict[str, Any]:
    """Return the JSON schema of a view's answer: one object, every field required."""
    fields = answer_fields(view)
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


class Prompt(NamedTuple):
    """One prompt file."""

    name: str
    template: str  # with `$item` where the item's words go, in views that read them


def read_prompt(name: str, view: View) -> Prompt:
    """Return the prompt `prompts/NAME.md` for a view.

    Raises:
        InputError: the name leads out of the folder, the file is absent or no UTF-8, or has not the `$item` that the
            view asks for.
    """
    path = project_path(PROMPTS / f"{name}.md")
    if not _NAME.fullmatch(name) or not path.is_file():
        available = sorted(file.stem for file in project_path(PROMPTS).glob("*.md"))
        raise InputError(
            f"params.yaml:describe.writer.prompts.{view}",
            expected=f"the name of a file in {PROMPTS}/, without .md: {', '.join(available) or 'there is none'}",
            found=f"`{name}`",
            remedy=f"correct the name, or write {PROMPTS}/NAME.md",
        )
    note_read(PROMPTS / f"{name}.md")
    try:
        template = path.read_text(encoding="utf-8").strip()
        names = set(Template(template).get_identifiers())
        valid = Template(template).is_valid()
    except UnicodeDecodeError as error:
        raise InputError(str(path), expected="text in UTF-8", found=str(error), remedy="save it as UTF-8") from error
    expected = {"item"} if READS_WORDS[view] else set()
    if names != expected or not valid:
        raise InputError(
            str(path),
            expected="`$item` where the item's words go, and no other `$` (a dollar sign is `$$`)"
            if expected
            else f"no `$`: the {view} view reads no words (a dollar sign is `$$`)",
            found=", ".join(f"`${other}`" for other in sorted(names)) or ("no `$item`" if valid else "a single `$`"),
            remedy="correct the file; give a changed prompt a new name",
        )
    return Prompt(name, template)


class Request(NamedTuple):
    """One question about one item; `prompt` is complete."""

    item_id: int
    view: View
    prompt: str
    picture: bytes | None  # as in the catalogue; writers shrink it to `picture_side`


def first_request(item_id: int, view: View, prompt: Prompt, words: str, picture: bytes | None) -> Request:
    """Return the request about an item; `words` is what `item_words` returns."""
    filled = Template(prompt.template).substitute(item=words)
    return Request(item_id, view, f"{filled}\n\n{_answer_form(view)}", picture if READS_PICTURE[view] else None)


def repeated_request(request: Request, failure: str) -> Request:
    """Return `request` asked once more, told what was wrong with the answer; the text depends on these two alone."""
    note = f"An earlier answer could not be used: it was {failure}. Answer with the JSON object alone, and be brief."
    return request._replace(prompt=f"{request.prompt}\n\n{note}")


def _answer_form(view: View) -> str:
    """Return the instruction that asks for JSON."""
    example = {name: [] if schema["type"] == "array" else "" for name, schema in answer_fields(view).items()}
    return f"Answer in English with one JSON object of this form, and nothing else:\n{json.dumps(example)}"


def item_words(text: ItemText, max_characters: int) -> str:
    """Return the item's words as lines `name: value`, cut at a word; empty where it has none."""
    lines = [
        f"title: {text.title}" if text.title else "",
        f"brand: {text.brand}" if text.brand else "",
        f"categories: {' > '.join(text.categories)}" if text.categories else "",
        *(f"{name}: {value}" for name, value in text.attributes),
        f"description: {' '.join(text.sentences)}" if text.sentences else "",
    ]
    return truncate_at_word("\n".join(line for line in lines if line), max_characters)


def request_key(request: Request, model: str, revision: str, params: GenerationParams) -> str:
    """Return the key of a request in the response store, 64 hex digits.

    It is the SHA-256 of all that an answer depends on: the picture's bytes and size limit, the whole prompt, the
    schema, the model and its revision, and the decoding settings of params, among them a dtype that params choose, and
    `json_schema: false`.
    Which writer asks, its device, the dtype of `auto` and the batch are not part of it: an answer is kept whatever
    machine made it.
    """
    content = {
        "picture": hashlib.sha256(request.picture).hexdigest() if request.picture is not None else None,
        "picture_side": params.picture_side if request.picture is not None else None,
        "prompt": request.prompt,
        "schema": answer_schema(request.view),
        "model": model,
        "revision": revision,
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
    }
    if isinstance(params, ChosenDtypeParams) and params.dtype != "auto":
        content["dtype"] = params.dtype
    if isinstance(params, GuidedParams) and not params.json_schema:
        content["json_schema"] = False
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
