"""Cleaning of raw texts: HTML tags, entities, control characters, and lists that were saved as strings."""

from __future__ import annotations

import ast
import html
import re
import unicodedata
from collections.abc import Iterable, Mapping

from sidflow.contracts.words import truncate_at_word

MAX_LITERAL_CHARACTERS = 100_000  # of a list saved as a string; a longer one is plain text

_HIDDEN_ELEMENTS = re.compile(r"<(script|style|head|noscript)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_COMMENTS = re.compile(r"<!--.*?(-->|$)", re.DOTALL)
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")
_UNCLOSED_TAG = re.compile(r"<[a-zA-Z/!][^<>]*$")  # a tag that a length limit has cut
_STYLE_RULES = re.compile(r"(?:^|(?<=\s))[.#@]?[\w.#:>, -]{1,80}\{[^{}]{0,800}\}")  # style sheets without their tag
_ITEM_SEPARATOR = re.compile(r"""["'], *["']""")
_SPACE = re.compile(r"\s+")


def clean_text(value: object, max_characters: int) -> str:
    """Return `value` as one clean line of at most `max_characters`, cut at a word.

    Lists, and strings that spell a list ("['..', '..']"), are joined; None and NaN are empty.
    """
    parts = [line for part in flatten_strings(value) if (line := clean_line(part))]
    return truncate_at_word(" ".join(dict.fromkeys(parts)), max_characters)


def clean_line(value: str) -> str:
    """Return a string without markup, entities, control characters and repeated white space."""
    if "<" in value or "&" in value or "{" in value:
        value = html.unescape(html.unescape(value))
        for pattern in (_COMMENTS, _HIDDEN_ELEMENTS, _TAGS, _UNCLOSED_TAG):
            value = pattern.sub(" ", value)
        value = _STYLE_RULES.sub(" ", value) if "{" in value else value
    value = unicodedata.normalize("NFC", value)
    value = "".join(letter if letter.isprintable() else " " for letter in value) if not value.isprintable() else value
    return _SPACE.sub(" ", value).strip()


def flatten_strings(value: object) -> list[str]:
    """Return all strings of nested lists and mappings' values; a string that spells a list counts as a list."""
    if value is None or value != value:  # NaN
        return []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        parsed = _parse_list(value)
        if parsed is None:
            return [value] if value.strip() else []
        value = parsed
    if isinstance(value, Iterable):
        return [string for part in value for string in flatten_strings(part)]
    return [str(value)]


def _parse_list(value: str) -> list | None:
    """Return the list that a string spells, or None. Only literals are parsed; no code is evaluated."""
    stripped = value.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")) or len(stripped) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        parsed = ast.literal_eval(_SPACE.sub(" ", stripped))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        quoted = stripped[1:2] in "'\"" and stripped[-2:-1] in "'\"" and len(stripped) > 3
        return _ITEM_SEPARATOR.split(stripped[2:-2]) if quoted else None  # quotes inside were not escaped
    return parsed if isinstance(parsed, list) else None


def clean_categories(value: object, max_characters: int, separator: str = "") -> list[str]:
    """Return distinct clean category names, each at most `max_characters`; one string is split at `separator`."""
    parts = flatten_strings(value)
    if separator and isinstance(value, str) and len(parts) == 1:
        parts = parts[0].split(separator)
    names = dict.fromkeys(truncate_at_word(clean_line(part), max_characters) for part in parts)
    return [name for name in names if name]


def clean_attributes(values: Mapping[str, object], max_characters: int) -> list[dict[str, str]]:
    """Return the attributes whose name and value are not empty, sorted by name."""
    cleaned = {clean_line(str(name)): clean_text(value, max_characters) for name, value in values.items()}
    return [{"name": name, "value": cleaned[name]} for name in sorted(cleaned) if name and cleaned[name]]
