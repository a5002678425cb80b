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
_REFUSAL = re.compile(  # `sorry` alone also begins the name of a game
    r"^\W*(i['\u2019]?m sorry|i am sorry|sorry\W+(i|we|but|no|as|there|this)\b|sorry\W*$|i ?can ?not\b"
    r"|i can['\u2019]?t\b|i am unable|i['\u2019]?m unable|as an ai\b|unfortunately, i\b)",
    re.IGNORECASE,
)
_OBJECT = re.compile(r'\{(?=\s*["}])')
_DECODER = json.JSONDecoder()
_TRIED = 8  # beginnings of objects at which a broken one is looked for, the last ones
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
    content, repaired = parse_object(text, view)
    if content is None:
        refused = _REFUSAL.match(_without_thoughts(text).strip())
        return _failed("refusal" if refused else "cut" if response.finish_reason == "length" else "malformed")
    fields = _checked(content, view)
    if fields is None:
        return _failed("cut" if response.finish_reason == "length" else "schema", repaired)
    words = " ".join(_flat(value) for value in fields.values())
    if not words.strip():
        return _failed("empty", repaired)
    if _is_refusal(fields, view):
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


def parse_object(text: str, view: View) -> tuple[dict[str, Any] | None, bool]:
    """Return the JSON object in `text`, and whether it had to be repaired; None where there is none.

    Text around the object is dropped, and so is what a model thought between `<think>` and `</think>`. Of several
    objects it is the last complete one with the view's fields. Where none is complete, the complete fields of a cut
    one are kept.

    >>> parse_object('Sure {as asked}: {"keywords": ["red", "bl', "keywords")
    ({'keywords': ['red']}, True)
    """
    whole = _loads(text)
    if whole is not None:
        return whole, False
    text = _without_thoughts(text)
    complete, broken = _objects(text)
    usable = [content for content in complete if _checked(content, view) is not None]
    if usable:
        return usable[-1], True
    repaired = [content for start in broken[-_TRIED:] if (content := _repaired(text[start:])) is not None]
    usable = [content for content in repaired if _checked(content, view) is not None]
    others = usable[-1:] or complete[-1:] or repaired[:1]
    return (others[0], True) if others else (None, False)


def _without_thoughts(text: str) -> str:
    """Return what comes after the thoughts; a text that ends in them has nothing after."""
    return text.rpartition("</think>")[2].partition("<think>")[0]


def _objects(text: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the complete objects in `text`, none inside another, and the offsets where one begins that is broken."""
    complete: list[dict[str, Any]] = []
    broken: list[int] = []
    found = _OBJECT.search(text)
    while found:
        end = found.end()
        try:
            content, end = _DECODER.raw_decode(text, found.start())
            if _is_shallow(content):
                complete.append(content)
        except ValueError:
            broken.append(found.start())
        except RecursionError:
            break
        found = _OBJECT.search(text, end)
    return complete, broken


def _repaired(body: str) -> dict[str, Any] | None:
    """Return the object that begins with `body`, up to its last value that can be read; None where it has none."""
    for end, closing in reversed(_ends_of_values(body)):
        content = _loads(body[:end] + closing)
        if content is not None:
            return content
    return None


def _loads(text: str) -> dict[str, Any] | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and _is_shallow(content) else None


def _is_shallow(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Return whether no more than `depth` brackets are open at a time."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(entry, depth - 1) for entry in inner)


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


def _is_refusal(fields: Mapping[str, str | list[str]], view: View) -> bool:
    """Return whether an answer is a refusal: a description that begins as one, or keywords most of which do."""
    parts = fields["keywords"] if view == KEYWORDS else [" ".join(map(_flat, fields.values()))]
    return 2 * sum(bool(_REFUSAL.match(part)) for part in parts) > len(parts)


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
