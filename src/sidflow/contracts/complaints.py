"""What pydantic refuses, in the words of the house: what is expected at which name, and what stands there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

NEAREST = 5  # of the known names that are told
MOST = 120  # characters of a value that is shown
_TYPES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "text", "null": "null"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class Unfit(ValueError):
    """Raised by a model's own validator: values that are each in range, but not together."""

    def __init__(self, expected: str, found: str) -> None:
        """Say what was expected and what was found, as `InputError` does."""
        self.expected, self.found = expected, found
        super().__init__(f"expected {expected}; found {found}")


class Complaint(NamedTuple):
    """The first thing that a model refuses."""

    name: str  # dotted, as in the file; empty for the whole of it
    expected: str
    found: str
    count: int  # places that are refused, this one included


def first(error: ValidationError, model: type[BaseModel], content: Any) -> Complaint:
    """Return the first complaint about `content`."""
    places: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for one in error.errors():
        places.setdefault(_place(one, content), []).append(one)
    place, several = next(iter(places.items()))
    count = 1 + sum(other[: len(place)] != place for other in places)
    schema, kind, context = model.model_json_schema(), several[0]["type"], several[0].get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Unfit):
        return Complaint(_dotted(place), cause.expected, cause.found, count)
    if kind == "extra_forbidden":
        known = _resolve(_at(schema, schema, place[:-1], content), schema, _value(content, place[:-1]))
        expected = nearest(str(place[-1]), known.get("properties", {}))
        return Complaint(_dotted(place[:-1]), expected, f"`{place[-1]}`", count)
    expected = describe(_at(schema, schema, place, content), schema)
    if kind == "missing" or kind == "union_tag_not_found":
        return Complaint(_dotted(place), expected, "none", count)
    found = repr(context["tag"] if kind == "union_tag_invalid" else _value(content, place))
    return Complaint(_dotted(place), expected, "null" if found == "None" else found[:MOST], count)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known names as what was expected, those like `name` first, and not all where they are many."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=NEAREST, cutoff=0.5)
    order = [*close, *(one for one in names if one not in close)]
    more = f" and {len(order) - NEAREST} more" if len(order) > NEAREST else ""
    return f"one of the names {', '.join(order[:NEAREST])}{more}" if order else "no names"


def describe(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return what fits a node of a JSON schema, in words, for example `a number >= 1`."""
    node = _deref(node, schema)
    if "const" in node or "enum" in node:
        values = [str(value) for value in node.get("enum", [node.get("const")])]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if "discriminator" in node:
        tag = node["discriminator"]
        return f"a mapping whose `{tag['propertyName']}` is one of {', '.join(tag['mapping'])}"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(describe(one, schema) for one in node["anyOf"]))
    kind = node.get("type")
    if kind == "array":
        each = f", each {describe(node['items'], schema)}" if node.get("items") else ""
        return f"a list{' that is not empty' if node.get('minItems') else ''}{each}"
    if kind == "object":
        return "a mapping of names to values"
    if node.get("format") == "path":
        return "a path"
    bounds = " and ".join(f"{sign} {node[key]}" for key, sign in _BOUNDS.items() if key in node)
    text = _TYPES.get(str(kind), "another value") + (" that is not empty" if node.get("minLength") else "")
    return f"{text} {bounds}".rstrip()


def _place(error: ErrorDetails, content: Any) -> tuple[str | int, ...]:
    """Return where in `content` an error lies: pydantic's location, less the names of the union's members."""
    place: list[str | int] = []
    for part in error["loc"]:
        row = isinstance(content, (list, tuple)) and isinstance(part, int)
        if row or (isinstance(content, Mapping) and part in content):
            content = _value(content, (part,))
            place.append(part)
        elif error["type"] == "missing" and part == error["loc"][-1]:
            place.append(part)
    return tuple(place)


def _value(content: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        content = content[part]
    return content


def _at(
    node: Mapping[str, Any], schema: Mapping[str, Any], place: tuple[str | int, ...], content: Any
) -> Mapping[str, Any]:
    """Return the schema's node of a place in `content`."""
    for depth, part in enumerate(place):
        node = _resolve(node, schema, _value(content, place[:depth]))
        inside = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part)
        node = inside if inside is not None else node.get("additionalProperties") or {}
    return node


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """Follow references, and of several that may fit take the one that the value's tag or shape asks for."""
    node = _deref(node, schema)
    if "discriminator" in node:
        tag = node["discriminator"]
        chosen = tag["mapping"].get(value.get(tag["propertyName"])) if isinstance(value, Mapping) else None
        return _deref({"$ref": chosen}, schema) if chosen else {}
    shape = "object" if isinstance(value, Mapping) else "array"
    several = [_deref(one, schema) for one in node.get("anyOf", [])]
    return next((one for one in several if one.get("type") == shape), node)


def _deref(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _dotted(place: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in place)
