"""Document artifacts: metrics and reports (JSON), plots (CSV) and pages (text)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidflow.core.errors import InputError
from sidflow.core.files import Artifact, atomic_path, note_read, note_write

DIGITS = 6  # significant digits of numbers in documents


def round_floats(value: object) -> object:
    """Return `value` with every float in it rounded to `DIGITS` significant digits; NaN becomes None."""
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): round_floats(element) for key, element in value.items()}
    if isinstance(value, Sequence):
        return [round_floats(element) for element in value]
    return round_floats(value.item())  # type: ignore[attr-defined]  # a numpy scalar


@dataclass(frozen=True)
class Document(Artifact):
    """One JSON artifact; a `flat` one has only numbers and strings under lower-snake-case names."""

    flat: bool = False

    def write(self, content: Mapping[str, object], **names: str) -> Path:
        """Write the document, keys sorted and floats rounded; return its path.

        Raises:
            InputError: a flat document has a nested value or a name that is not lower snake case.
        """
        path = self.at(**names)
        if self.flat:
            for key, value in content.items():
                if (
                    isinstance(value, (Mapping, list, tuple))
                    or not key.replace("_", "").isalnum()
                    or key != key.lower()
                ):
                    raise InputError(
                        str(path),
                        expected="flat lower_snake_case metrics",
                        found="a nested value or another name",
                        example=key,
                        remedy="report this as a defect of the stage that writes it",
                    )
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(round_floats(content), indent=2, sort_keys=True) + "\n")
        note_write(path)
        return path

    def read(self, **names: str) -> dict:
        """Return the document.

        Raises:
            InputError: the file is absent or not JSON.
        """
        path = self.at(**names)
        note_read(path)
        try:
            return json.loads(path.read_text())
        except FileNotFoundError as error:
            raise InputError(
                str(path), expected="a JSON document", found="no such file", remedy="run `dvc repro` to make it"
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(
                str(path), expected="JSON", found=str(error), remedy="delete it and run `dvc repro`"
            ) from error


@dataclass(frozen=True)
class Curve(Artifact):
    """One CSV artifact that DVC plots: a header and rows of numbers."""

    def write(self, rows: Sequence[Mapping[str, object]], columns: Sequence[str], **names: str) -> Path:
        """Write the rows, floats rounded and absent values empty; return the path."""
        path = self.at(**names)
        with atomic_path(path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(columns), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({name: round_floats(row.get(name)) for name in columns})
        note_write(path)
        return path

    def read(self, **names: str) -> list[dict[str, str]]:
        """Return the rows as text, or an empty list where the file is absent."""
        path = self.at(**names)
        note_read(path)
        if not path.is_file():
            return []
        with path.open(newline="") as handle:
            return list(csv.DictReader(handle))


@dataclass(frozen=True)
class Text(Artifact):
    """One text artifact, such as a page."""

    def write(self, content: str, **names: str) -> Path:
        """Write the text as UTF-8; return its path."""
        path = self.at(**names)
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
        note_write(path)
        return path
