"""JSON and JSON Lines files of sources: bad lines are counted; only a file without a good line is an error."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidflow.catalog.folder import open_text
from sidflow.contracts.errors import InputError

MAX_LINE_CHARACTERS = 2_000_000  # characters of a line; a longer one counts as bad


class JsonLines:
    """Iterates over the objects of a file; `good` and `bad` count its lines."""

    def __init__(self, path: Path, *, literals: bool = False) -> None:
        """Read `path`; with `literals` a line may also be a Python literal, as in Amazon's metadata of 2014."""
        self._path, self._literals = path, literals
        self.good, self.bad, self.example = 0, 0, ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the objects in order.

        Raises:
            InputError: no line is an object.
        """
        with open_text(self._path) as handle:
            for number, line in enumerate(handle, start=1):
                if not line.strip():
                    continue
                value = self._parse(line)
                if isinstance(value, dict):
                    self.good += 1
                    yield value
                else:
                    self.bad += 1
                    self.example = self.example or f"line {number}: {line[:60].strip()}"
        if not self.good:
            raise InputError(
                str(self._path),
                expected="one JSON object per line",
                found="none",
                count=self.bad,
                example=self.example,
                remedy="give the raw file as it is published",
            )

    def _parse(self, line: str) -> object:
        if len(line) > MAX_LINE_CHARACTERS:
            return None
        try:
            return json.loads(line)
        except ValueError:
            pass
        except RecursionError:
            return None
        if not self._literals:
            return None
        try:
            return ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it is not JSON.
    """
    try:
        with open_text(path) as handle:
            return json.load(handle)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), expected="JSON", found=str(error), remedy="give the file as published") from error
