"""JSON and JSON Lines: broken lines are counted, names that stand twice in an object are seen."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sidflow.catalog.text_files import check_utf8, numbered_lines, open_utf8
from sidflow.core.errors import InputError

MAX_LINE_CHARACTERS = 2_000_000  # characters of a line; a longer one counts as bad
MAX_FILE_BYTES = 1_000_000_000  # of a file that is one JSON value, unzipped: parsed, it takes about ten times as much
MAX_DEPTH = 64  # objects and lists inside one another in such a file, or in a line
MAX_BAD_SHARE = 0.01  # of a file's lines; where more are broken, the file is refused
FREE_BAD_LINES = 10  # broken lines that no file is refused for, as long as they are not most of it


class RepeatedNames(dict[str, Any]):
    """A JSON object in which a name stands twice with different values; `pairs` has all of them in order."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        """Hold the pairs; as a mapping the longest value of a name counts, the first of equally long ones."""
        super().__init__()
        lengths: dict[str, int] = {}
        for name, value in pairs:
            length = len(str(value))
            if length > lengths.get(name, -1):
                self[name], lengths[name] = value, length
        self.pairs = pairs


def parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object of its pairs: a `RepeatedNames` where a name has two values."""
    content = dict(pairs)
    if len(content) == len(pairs) or all(content[name] == value for name, value in pairs):
        return content
    return RepeatedNames(pairs)


class JsonLines:
    """Iterates over the objects of a file; `good` and `bad` count its lines."""

    def __init__(
        self,
        path: Path,
        *,
        required: tuple[str, ...] = (),
        remedy: str = "give the raw file as it is published",
        literals: bool = False,
        encoding: str = "utf-8",
        max_bad_share: float = MAX_BAD_SHARE,
    ) -> None:
        """Read `path`.

        Args:
            path: of the file.
            required: names of which an object must have one; without, the line counts as bad.
            remedy: what to do where no object has one.
            literals: a line may also be a Python literal, as in Amazon's metadata of 2014.
            encoding: of the file, where it has no byte order mark.
            max_bad_share: share of bad lines above which the file is refused.
        """
        self._path, self._literals = path, literals
        self._required, self._remedy = required, remedy
        self._encoding, self._max_bad_share = encoding, max_bad_share
        self._other_names: list[str] = []  # of the first object without a required name
        self.good, self.bad, self.example = 0, 0, ""
        self.line = 0  # the number of the line that was read last

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the objects in order. Broken lines, and those in which a name has two values, are counted as bad.

        Raises:
            InputError: no line is an object with a required name, or too many are broken.
        """
        for number, line in numbered_lines(self._path, self._encoding):
            self.line = number
            value = None if line is None else self._parse(line)
            if not isinstance(value, dict) or isinstance(value, RepeatedNames):
                self._count_bad(line or "a line that is too long")
            elif self._required and not any(name in value for name in self._required):
                self._other_names = self._other_names or sorted(map(str, value))
                self._count_bad(line or "")
            else:
                self.good += 1
                yield value
        if not self.good:
            names = " or ".join(f"`{name}`" for name in self._required)
            raise InputError(
                str(self._path),
                expected="one JSON object per line" + (f", with {names}" if names else ""),
                found=f"objects with {self._other_names[:20]}" if self._other_names else "none",
                count=self.bad,
                example=self.example,
                remedy=self._remedy,
            )
        refuse_too_many_bad(self._path, self.bad, self.good + self.bad, self.example, self._max_bad_share)

    def _count_bad(self, line: str) -> None:
        self.bad += 1
        self.example = self.example or f"line {self.line}: {line[:60].strip()}"

    def _parse(self, line: str) -> object:
        if len(line) > MAX_LINE_CHARACTERS:
            return None
        try:
            value = json.loads(line, object_pairs_hook=parse_object)
        except ValueError:
            return parse_literal(line.strip()) if self._literals else None
        except RecursionError:
            return None
        may_be_deep = line.count("[") + line.count("{") > MAX_DEPTH
        return None if may_be_deep and json_depth(line.encode()) > MAX_DEPTH else value


def parse_literal(text: str) -> object:
    """Return the value of a Python literal; None where it is none or cannot be written again. No code is evaluated."""
    try:
        value = ast.literal_eval(text)
        str(value)  # fails where a hexadecimal number has more digits than Python writes
    except (ValueError, TypeError, OverflowError, SyntaxError, MemoryError, RecursionError):
        return None
    return value


def refuse_too_many_bad(path: Path, bad: int, lines: int, example: str, max_share: float = MAX_BAD_SHARE) -> None:
    """Check that not too many lines of a file are broken.

    Raises:
        InputError: more than half are, or more than `FREE_BAD_LINES` and more than the share `max_share`.
    """
    most = bad > lines / 2
    if most or (bad > FREE_BAD_LINES and bad > max_share * lines):
        raise InputError(
            str(path),
            expected=f"few broken lines (at most {FREE_BAD_LINES} or {max_share:.2%}, and at most half)",
            found=f"{bad} of {lines}",
            example=example,
            remedy="repair the file or download it again" + ("" if most else ", or raise ingest.max_bad_lines"),
        )


def read_json(path: Path, encoding: str = "utf-8") -> Any:
    """Return the content of a JSON file; an object in which a name has two values is a `RepeatedNames`.

    Its size and its depth are bounded before it is parsed, a gzipped one's by what it unzips to.

    Raises:
        InputError: it is not JSON, or is larger or deeper than `MAX_FILE_BYTES` and `MAX_DEPTH`.
    """
    with open_utf8(path, encoding) as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InputError(
            str(path),
            expected=f"a JSON file of at most {MAX_FILE_BYTES / 1e6:,.0f} MB",
            found="more",
            remedy="convert it to .jsonl with one object per line, which is read line by line",
        )
    check_utf8(content, path)
    depth = json_depth(content)
    if depth > MAX_DEPTH:
        raise InputError(
            str(path),
            expected=f"at most {MAX_DEPTH} objects and lists inside one another",
            found=f"{depth}",
            remedy="give the file as published",
        )
    try:
        return json.loads(content, object_pairs_hook=parse_object)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), expected="JSON", found=str(error), remedy="give the file as published") from error


def json_depth(content: bytes) -> int:
    """Return how deep objects and lists lie inside one another, brackets inside strings not counted."""
    marks = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHER_BYTES)
    brackets = np.frombuffer(_STRINGS.sub(b"", marks), dtype=np.uint8)
    steps = np.where(np.isin(brackets, tuple(b"[{")), 1, np.where(np.isin(brackets, tuple(b"]}")), -1, 0))
    return int(steps.cumsum().max(initial=0))


_OTHER_BYTES = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_STRINGS = re.compile(rb'"[^"]*"')
