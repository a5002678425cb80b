"""The text of params.yaml: every knob with its value, and its unit and meaning as a comment."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any, NamedTuple

from sidflow.cli.sections import SECTIONS, Resolved
from sidflow.core.params import Params

WIDTH = 120
_PLAIN_TEXT = re.compile(r"[A-Za-z/][\w./@ -]*(?<! )")
_KEYWORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


class Knob(NamedTuple):
    """One setting."""

    name: str
    value: Any  # null, a truth value, a number, text, or a list of them
    meaning: str


class Group(NamedTuple):
    """Settings under one name."""

    name: str
    members: list[Knob | Group]
    meaning: str


def group_of(name: str, settings: Params, meaning: str, unused: frozenset[str] = frozenset()) -> Group:
    """Return the knobs of a model: its own first, then those that it shares with others.

    Args:
        name: of the group.
        settings: the model.
        meaning: of the group.
        unused: names to leave out, besides what the model itself calls unused; dots between levels.
    """
    unused = unused | settings.unused()
    members: list[Knob | Group] = []
    for key in _field_order(type(settings)):
        if key in unused:
            continue
        value, text = getattr(settings, key), type(settings).model_fields[key].description or ""
        if isinstance(value, Params):
            unused_inside = frozenset(path.removeprefix(f"{key}.") for path in unused if path.startswith(f"{key}."))
            members.append(group_of(key, value, text, unused_inside))
        elif isinstance(value, Mapping) and not any(isinstance(entry, Params) for entry in value.values()):
            members.append(Group(key, [Knob(entry, one, "") for entry, one in value.items()], text))
        elif isinstance(value, Mapping):
            members.append(
                Group(key, [group_of(entry, params, _summary(params)) for entry, params in value.items()], text)
            )
        else:
            members.append(Knob(key, _plain(value), text))
    return Group(name, members, meaning)


def knobs(resolved: Resolved) -> list[Knob | Group]:
    """Return every knob of params.yaml, in its order."""
    tree: list[Knob | Group] = list(group_of("", resolved.top, "").members)
    for name, settings in resolved.sections.items():
        if isinstance(settings, Params):
            tree.append(group_of(name, settings, _summary(settings)))
        else:
            entries: list[Knob | Group] = [group_of(key, entry, _summary(entry)) for key, entry in settings.items()]
            tree.append(Group(name, entries, SECTIONS[name].meaning))
    return tree


def flat(tree: Sequence[Knob | Group], prefix: str = "") -> Iterator[Knob]:
    """Yield every knob under its dotted name, as `dvc exp run -S` takes it."""
    for node in tree:
        if isinstance(node, Knob):
            yield node._replace(name=prefix + node.name)
        else:
            yield from flat(node.members, f"{prefix}{node.name}.")


def params_text(resolved: Resolved) -> str:
    """Return the text of params.yaml. What several entries of a section share is explained at the first."""
    preset = resolved.top.preset
    lines = [
        "# Every knob that changes a result, with its unit and meaning. What changes none is in runtime.yaml.",
        f"# Written by `sidflow preset apply {preset}` from the params models and presets/{preset}.yaml.",
    ]
    top_level, *sections = _paragraphs(knobs(resolved))
    lines += _lines(top_level, "", set())
    for section in sections:
        lines += ["", *_lines(section, "", set())]
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """Return a value as YAML, on one line; floats never in scientific notation, which some parsers take for text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    if isinstance(value, str):
        plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _KEYWORDS
        quoted = json.dumps(value, ensure_ascii=False)
        return value if plain else "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
    if isinstance(value, list):
        return f"[{', '.join(scalar(element) for element in value)}]"
    return str(value)


def _paragraphs(tree: list[Knob | Group]) -> list[list[Knob | Group]]:
    """Return the knobs outside of sections together, and each section by itself."""
    return [[node for node in tree if isinstance(node, Knob)], *([node] for node in tree if isinstance(node, Group))]


def _lines(members: Sequence[Knob | Group], indent: str, explained: set[tuple[str, str]]) -> list[str]:
    """Return the lines of some knobs and groups; a meaning in `explained` is not repeated, new ones are added to it."""
    rows: list[tuple[str, str, list[str]]] = []  # text, comment, nested lines
    for node in members:
        key = (node.name if isinstance(node, Knob) else "", node.meaning)
        comment = "" if key in explained else node.meaning
        explained.add(key)
        if isinstance(node, Knob):
            rows.append((f"{indent}{node.name}: {scalar(node.value)}", comment, []))
            continue
        line = f"{indent}{node.name}: {_flow(node)}"
        if not node.members or (not comment and len(line) <= WIDTH and _is_explained(node, explained)):
            rows.append((line, comment, []))
        else:
            rows.append((f"{indent}{node.name}:", comment, _lines(node.members, f"{indent}  ", explained)))
    column = max((len(text) for text, comment, _ in rows if comment and _fits(text, comment)), default=0)
    lines: list[str] = []
    for text, comment, nested_lines in rows:
        if comment and len(text.ljust(column)) + len(comment) + 4 <= WIDTH:
            lines.append(f"{text.ljust(column)}  # {comment}")
        else:
            lines += [f"{indent}# {line}" for line in textwrap.wrap(comment, WIDTH - len(indent) - 2)]
            lines += _wrapped(text)
        lines += nested_lines
    return lines


def _fits(text: str, comment: str) -> bool:
    return len(text) + len(comment) + 4 <= WIDTH


def _is_explained(group: Group, explained: set[tuple[str, str]]) -> bool:
    return all(isinstance(node, Knob) and (node.name, node.meaning) in explained for node in group.members)


def _flow(group: Group) -> str:
    parts = [f"{node.name}: {scalar(node.value) if isinstance(node, Knob) else _flow(node)}" for node in group.members]
    return f"{{{', '.join(parts)}}}"


def _wrapped(text: str) -> list[str]:
    """Return a line, or a list that is too long for one over several."""
    if len(text) <= WIDTH or not text.endswith("]"):
        return [text]
    start = text.index("[") + 1
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * start, break_long_words=False, break_on_hyphens=False)


def _field_order(model: type[Params]) -> list[str]:
    """Return the fields' names, those of the model itself before those of its bases."""
    declared = (name for base in model.__mro__ for name in vars(base).get("__annotations__", {}))
    return [name for name in dict.fromkeys(declared) if name in model.model_fields]


def _summary(settings: Params) -> str:
    """Return the first sentence of a model's docstring, as a comment."""
    text = " ".join((type(settings).__doc__ or "").strip().partition("\n\n")[0].split())
    return text.rstrip(".")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(element) for element in value]
    return value.as_posix() if isinstance(value, PurePath) else value
