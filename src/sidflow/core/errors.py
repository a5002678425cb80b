"""The one error that users meet, and pydantic's validation errors turned into it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the command line starts without pydantic
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

MAX_NAMES = 5  # valid names that a message lists
MAX_VALUE = 120  # characters of a value that a message shows
_TYPES = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "text", "null": "null"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}

_SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE)
_SETTINGS = frozenset({"SIDFLOW_TOKEN_BUDGET"})  # variables of our own with such a name, which hold no secret
_LEAST_SECRET = 6  # characters; shorter values stand in every text
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_URL_QUERY = re.compile(
    r"([?&][^=&\s]*(?:token|secret|password|credential|key|signature|sig)[^=&\s]*=)[^&\s#'\"`,;:]+", re.IGNORECASE
)

Location = tuple[str | int, ...]  # keys and row numbers that lead to one value


class InputError(Exception):
    """Invalid input, as a message of one line. A stage that raises it exits with code 2 and writes nothing."""

    def __init__(
        self,
        artifact: str,
        *,
        expected: str,
        found: str,
        remedy: str,
        count: int | None = None,
        example: object | None = None,
    ) -> None:
        """Describe the invalid input.

        Args:
            artifact: the invalid file, parameter or object.
            expected: what it should hold.
            found: what it holds.
            remedy: the command or edit that corrects it.
            count: how many rows, items or files are affected.
            example: one of them.
        """
        self.artifact = artifact
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.count = count
        self.example = example
        super().__init__(self.line())

    def line(self) -> str:
        """Return the whole message as a single line."""
        affected = "" if self.count is None else f" ({self.count} affected)"
        example = "" if self.example is None else f", for example {self.example!r}"
        text = (
            f"{self.artifact}: expected {self.expected}; found {self.found}{affected}{example}. Remedy: {self.remedy}"
        )
        return without_secrets(" ".join(text.split()))


def without_secrets(text: str) -> str:
    """Return `text` without credentials in URLs and without the values of variables such as HF_TOKEN."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST_SECRET and _SECRET_NAMES.search(name) and name not in _SETTINGS:
            text = text.replace(value, "***")
    return _URL_QUERY.sub(r"\1***", _URL_CREDENTIALS.sub("***@", text))


class InvalidValue(ValueError):
    """Raised by validators of params models, for example for values that do not go together."""

    def __init__(self, expected: str, found: str) -> None:
        """Take `expected` and `found` as `InputError` does."""
        self.expected, self.found = expected, found
        super().__init__(f"expected {expected}; found {found}")


class FieldError(NamedTuple):
    """One validation error."""

    name: str  # dotted, as in the file; empty for the whole content
    expected: str
    found: str
    count: int  # how many names are invalid, this one included


def first_field_error(error: ValidationError, model: type[BaseModel], content: Any) -> FieldError:
    """Return the first of the errors that `model` raised about `content`."""
    by_location: dict[Location, list[ErrorDetails]] = {}
    for details in error.errors():
        by_location.setdefault(_location(details, content), []).append(details)
    location, errors = next(iter(by_location.items()))
    count = 1 + sum(other[: len(location)] != location for other in by_location)
    schema, kind, context = model.model_json_schema(), errors[0]["type"], errors[0].get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, InvalidValue):
        return FieldError(_dotted(location), cause.expected, cause.found, count)
    if kind == "extra_forbidden":
        parent = location[:-1]
        node = _resolve(_node_at(schema, schema, parent, content), schema, _value_at(content, parent))
        expected = closest_names(str(location[-1]), node.get("properties", {}))
        return FieldError(_dotted(parent), expected, f"`{location[-1]}`", count)
    expected = describe_schema(_node_at(schema, schema, location, content), schema)
    if kind in ("missing", "union_tag_not_found"):
        return FieldError(_dotted(location), expected, "none", count)
    value = repr(context["tag"] if kind == "union_tag_invalid" else _value_at(content, location))
    return FieldError(_dotted(location), expected, "null" if value == "None" else value[:MAX_VALUE], count)


def closest_names(name: str, names: Iterable[str]) -> str:
    """Return valid names as the `expected` of a message: those like `name` first, at most `MAX_NAMES`."""
    valid = list(names)
    close = difflib.get_close_matches(name, valid, n=MAX_NAMES, cutoff=0.5)
    order = [*close, *(other for other in valid if other not in close)]
    more = f" and {len(order) - MAX_NAMES} more" if len(order) > MAX_NAMES else ""
    return f"one of the names {', '.join(order[:MAX_NAMES])}{more}" if order else "no names"


def describe_schema(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return in words which values a node of a JSON schema allows, for example `a number >= 1`."""
    node = _follow(node, schema)
    if "const" in node or "enum" in node:
        values = [str(value) for value in node.get("enum", [node.get("const")])]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if "discriminator" in node:
        tag = node["discriminator"]
        return f"a mapping whose `{tag['propertyName']}` is one of {', '.join(tag['mapping'])}"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(describe_schema(member, schema) for member in node["anyOf"]))
    kind = node.get("type")
    if kind == "array":
        element = f", each {describe_schema(node['items'], schema)}" if node.get("items") else ""
        return f"a list{' that is not empty' if node.get('minItems') else ''}{element}"
    if kind == "object":
        return "a mapping of names to values"
    if node.get("format") == "path":
        return "a path"
    bounds = " and ".join(f"{sign} {node[key]}" for key, sign in _BOUNDS.items() if key in node)
    text = _TYPES.get(str(kind), "another value") + (" that is not empty" if node.get("minLength") else "")
    return f"{text} {bounds}".rstrip()


def _location(error: ErrorDetails, content: Any) -> Location:
    """Return the location of an error in `content`: pydantic's location without the names of a union's members."""
    location: list[str | int] = []
    for part in error["loc"]:
        is_row = isinstance(content, (list, tuple)) and isinstance(part, int)
        if is_row or (isinstance(content, Mapping) and part in content):
            content = _value_at(content, (part,))
            location.append(part)
        elif error["type"] == "missing" and part == error["loc"][-1]:
            location.append(part)
    return tuple(location)


def _value_at(content: Any, location: Location) -> Any:
    for part in location:
        content = content[part]
    return content


def _node_at(node: Mapping[str, Any], schema: Mapping[str, Any], location: Location, content: Any) -> Mapping[str, Any]:
    """Return the schema's node of a location in `content`."""
    for depth, part in enumerate(location):
        node = _resolve(node, schema, _value_at(content, location[:depth]))
        child = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part)
        node = child if child is not None else node.get("additionalProperties") or {}
    return node


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """Follow references; of a union, return the member that the value's tag or type selects."""
    node = _follow(node, schema)
    if "discriminator" in node:
        tag = node["discriminator"]
        reference = tag["mapping"].get(value.get(tag["propertyName"])) if isinstance(value, Mapping) else None
        return _follow({"$ref": reference}, schema) if reference else {}
    json_type = "object" if isinstance(value, Mapping) else "array"
    members = [_follow(member, schema) for member in node.get("anyOf", [])]
    return next((member for member in members if member.get("type") == json_type), node)


def _follow(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))
