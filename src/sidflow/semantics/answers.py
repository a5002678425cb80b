"""Reads a model's answer: JSON, repaired where that is safe, or the reason why it cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sidflow.artifacts.features import KEYWORDS
from sidflow.semantics.params import View
from sidflow.semantics.requests import answer_fields
from sidflow.semantics.store import REJECTED, Response

MAX_CHARACTERS = 65_536  # of an answer; a longer one is not read
KEPT_CHARACTERS = 1000  # of such a one, to see what it was
HUGE = "huge"  # the reason why it ended, and why it failed
MAX_DEPTH = 8  # of nested brackets
FAILURES = {  # reason -> meaning
    REJECTED: "refused by the server, or too long for the model",
    "empty": "without content",
    HUGE: f"longer than {MAX_CHARACTERS} characters",
    "refusal": "a refusal",
    "cut": "cut at the token limit",
    "malformed": "no JSON object",
    "schema": "without the fields that were asked for",
    "echo": "a copy of the prompt",
    "repetitive": "the same words over and over",
}
_REFUSAL = re.compile(
    r"^\W*(i.?m sorry|i am sorry|sorry|i can ?not|i can.t|i am unable|i.m unable|as an ai\b|unfortunately, i)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^```[a-zA-Z]*\s*|\s*```\s*$")
_ECHO_WORDS = 10  # a run of so many words of the instructions is an echo
_RUN = 3  # words
_MIN_WORDS = 24  # fewer are never called repetitive
_MIN_DISTINCT = 0.4  # share of runs of words that are distinct


class Answer(NamedTuple):
    """The content of a response; of a failed one, the reason."""

    fields: dict[str, str | list[str]]  # empty where it failed
    failure: str  # a name of FAILURES, or empty
    repaired: bool  # the JSON was cut or wrapped in other text


def read_answer(response: Response, view: View, instructions: str) -> Answer:
    """Return the content of a response.

    Args:
        response: what the model answered.
        view: decides which fields are asked for.
        instructions: the prompt without the item's words; a longer run of it in the answer is an echo.
    """
    text = response.text.strip()
    if response.finish_reason == REJECTED:
        return _failed(REJECTED)
    if cut_response(response).finish_reason == HUGE:
        return _failed(HUGE)
    if not text:
        return _failed("empty")
    content, repaired = parse_object(text)
    if content is None:
        return _failed(
            "refusal" if _REFUSAL.match(text) else "cut" if response.finish_reason == "length" else "malformed"
        )
    fields = _checked(content, view)
    if fields is None:
        return _failed("cut" if response.finish_reason == "length" else "schema", repaired)
    words = " ".join(_flat(value) for value in fields.values())
    if not words.strip():
        return _failed("empty", repaired)
    if _REFUSAL.match(words):
        return _failed("refusal", repaired)
    if _is_echo(words, instructions):
        return _failed("echo", repaired)
    if _is_repetitive(words):
        return _failed("repetitive", repaired)
    return Answer(fields, "", repaired)


def cut_response(response: Response) -> Response:
    """Return what the store keeps of a response: of a text beyond MAX_CHARACTERS the beginning, and why it ended."""
    if len(response.text) <= MAX_CHARACTERS:
        return response
    return response._replace(text=response.text[:KEPT_CHARACTERS], finish_reason=HUGE)


def parse_object(text: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the JSON object in `text`, and whether it had to be repaired; None where there is none.

    Text around the object is dropped. Of a cut object the complete fields are kept.

    >>> parse_object('Sure: {"style": "plain", "colours": ["red", "bl')
    ({'style': 'plain', 'colours': ['red']}, True)
    """
    whole = _loads(text)
    if whole is not None:
        return whole, False
    start = text.find("{")
    if start < 0:
        return None, False
    body = _FENCE.sub("", text[start:])
    ends = _ends_of_values(body)
    for end, closing in reversed(ends):
        candidate = _loads(body[:end] + closing)
        if candidate is not None:
            return candidate, True
    return None, False


def _loads(text: str) -> dict[str, Any] | None:
    depth = deepest = 0
    for character in text:
        depth += (character in "{[") - (character in "}]")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _ends_of_values(body: str) -> list[tuple[int, str]]:
    """Return the offsets at which `body` may be cut, each with the brackets that close it there; the last few alone."""
    ends: list[tuple[int, str]] = []
    open_brackets: list[str] = []
    in_string = False
    for offset, character in enumerate(body):
        if in_string:
            if character == '"' and _even(body, offset):
                in_string = False
                ends.append((offset + 1, "".join(reversed(open_brackets))))
        elif character == '"':
            in_string = True
        elif character in "{[":
            open_brackets.append("}" if character == "{" else "]")
        elif character in "}]":
            if not open_brackets or open_brackets.pop() != character:
                break
            ends.append((offset + 1, "".join(reversed(open_brackets))))
            if not open_brackets:
                break
    return ends[-16:]


def _even(body: str, offset: int) -> bool:
    """Return whether an even number of backslashes stands before `offset`."""
    count = 0
    while offset - count > 0 and body[offset - count - 1] == "\\":
        count += 1
    return count % 2 == 0


def _checked(content: Mapping[str, Any], view: View) -> dict[str, str | list[str]] | None:
    """Return the fields of the schema, blanks collapsed; None where more than half are absent or of another type."""
    fields: dict[str, str | list[str]] = {}
    wrong = 0
    schemas = answer_fields(view)
    for name, schema in schemas.items():
        value = content.get(name)
        if schema["type"] == "array":
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not all(isinstance(entry, str) for entry in values):
                wrong, values = wrong + 1, []
            limit = schema["items"]["maxLength"]
            entries = (_one_line(entry)[:limit] for entry in values)
            fields[name] = list(dict.fromkeys(entry for entry in entries if entry))[: schema["maxItems"]]
        else:
            if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
                value = ", ".join(value)
            if not isinstance(value, str):
                wrong, value = wrong + 1, ""
            fields[name] = _one_line(value)[: schema["maxLength"]]
    return fields if 2 * wrong < len(schemas) else None


def _one_line(value: str) -> str:
    """Return a string with its blanks collapsed; half a surrogate pair, as JSON may spell it, is no text: `?`."""
    return " ".join(value.encode("utf-8", "replace").decode().split())


def _flat(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _is_echo(words: str, instructions: str) -> bool:
    asked, answered = _words(instructions), _words(words)
    runs = {tuple(asked[start : start + _ECHO_WORDS]) for start in range(len(asked) - _ECHO_WORDS + 1)}
    return any(tuple(answered[start : start + _ECHO_WORDS]) in runs for start in range(len(answered) - _ECHO_WORDS + 1))


def _is_repetitive(words: str) -> bool:
    answered = _words(words)
    if len(answered) < _MIN_WORDS:
        return False
    runs = [tuple(answered[start : start + _RUN]) for start in range(len(answered) - _RUN + 1)]
    return len(set(runs)) < _MIN_DISTINCT * len(runs)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _failed(reason: str, repaired: bool = False) -> Answer:
    return Answer({}, reason, repaired)


def view_text(fields: Mapping[str, str | list[str]], view: View) -> str:
    """Return an answer as the text of a view: one short sentence a field, empty fields left out.

    >>> view_text({"category": "boots", "colours": ["black", "red"], "summary": "Warm winter boots."}, "text")
    'Category: boots. Colours: black, red. Warm winter boots.'
    """
    if view == KEYWORDS:
        return ", ".join(fields["keywords"])
    sentences = []
    for name, value in fields.items():
        text = (value if isinstance(value, str) else ", ".join(value)).strip()
        if text:
            sentence = text if name == "summary" else f"{name.capitalize()}: {text}"
            sentences.append(sentence if sentence.endswith((".", "!", "?")) else f"{sentence}.")
    return " ".join(sentences)
