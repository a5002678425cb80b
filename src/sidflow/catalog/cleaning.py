"""Words as shops deliver them, made readable: HTML remains, entities, and lists that became strings."""

from __future__ import annotations

import ast
import html
import re
import unicodedata
from collections.abc import Iterable, Mapping

LONGEST_LITERAL = 100_000  # characters of a list-as-string; longer ones are taken as plain text

_BLOCKS = re.compile(r"<(script|style|head|noscript)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_COMMENTS = re.compile(r"<!--.*?(-->|$)", re.DOTALL)
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<![a-zA-Z][^<>]*>")
_CUT_TAG = re.compile(r"<[a-zA-Z/!][^<>]*$")  # a tag that the shop's own length limit cut in two
_RULES = re.compile(r"(?:^|(?<=\s))[.#@]?[\w.#:>, -]{1,80}\{[^{}]{0,800}\}")  # style sheets left without their tag
_BETWEEN = re.compile(r"""["'], *["']""")
_SPACE = re.compile(r"\s+")


def text(value: object, most: int) -> str:
    """Return `value` as one clean line of at most `most` characters, cut at a word.

    Strings that are lists ("['..', '..']") and real lists are joined; None, NaN and the like are empty.
    """
    parts = [one for part in flatten(value) if (one := line(part))]
    return shorten(" ".join(dict.fromkeys(parts)), most)


def line(value: str) -> str:
    """Return one string without markup, entities, control characters and needless space."""
    if "<" in value or "&" in value or "{" in value:
        value = html.unescape(html.unescape(value))
        for pattern in (_COMMENTS, _BLOCKS, _TAGS, _CUT_TAG):
            value = pattern.sub(" ", value)
        value = _RULES.sub(" ", value) if "{" in value else value
    value = unicodedata.normalize("NFC", value)
    value = "".join(sign if sign.isprintable() else " " for sign in value) if not value.isprintable() else value
    return _SPACE.sub(" ", value).strip()


def shorten(value: str, most: int) -> str:
    """Return at most `most` characters, cut at a word where there is one."""
    if len(value) <= most:
        return value
    head = value[: most + 1]
    return (head.rsplit(" ", 1)[0] if " " in head else value[:most]).rstrip(" ,;:-")


def flatten(value: object) -> list[str]:
    """Return all strings of nested lists, a list that was written as a string included; a mapping gives its values."""
    if value is None or value != value:  # NaN
        return []
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, str):
        listed = _literal(value)
        if listed is None:
            return [value] if value.strip() else []
        value = listed
    if isinstance(value, Iterable):
        return [one for part in value for one in flatten(part)]
    return [str(value)]


def _literal(value: str) -> list | tuple | None:
    """Return the list that a string spells, or None. Only literals are read; nothing is ever evaluated."""
    stripped = value.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")) or len(stripped) > LONGEST_LITERAL:
        return None
    try:
        found = ast.literal_eval(_SPACE.sub(" ", stripped))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        quoted = stripped[1:2] in "'\"" and stripped[-2:-1] in "'\"" and len(stripped) > 3
        return _BETWEEN.split(stripped[2:-2]) if quoted else None  # its own quotes were never escaped
    return found if isinstance(found, list) else None


def labels(value: object, most: int, separator: str = "") -> list[str]:
    """Return categories: distinct clean strings in their order; one string is split at `separator` where given."""
    found = flatten(value)
    if separator and isinstance(value, str) and len(found) == 1:
        found = found[0].split(separator)
    return [one for one in dict.fromkeys(shorten(line(part), most) for part in found) if one]


def attributes(values: Mapping[str, object], most: int) -> list[dict[str, str]]:
    """Return named values that say something, sorted by name."""
    cleaned = {line(str(name)): text(value, most) for name, value in values.items()}
    return [{"name": name, "value": cleaned[name]} for name in sorted(cleaned) if name and cleaned[name]]
