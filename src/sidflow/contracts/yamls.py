"""YAML files that people write: errors name file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sidflow.contracts.errors import InputError


def read_yaml(path: Path, yaml: YAML | None = None) -> Any:
    """Return what the file holds, as plain values (`3e-4` is a float, as DVC reads it) or as `yaml` makes them.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no text, no YAML, or has a name twice.
    """
    try:
        return (yaml or YAML(typ="safe")).load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            str(path),
            expected="text in UTF-8",
            found=f"byte {error.object[error.start]:#04x} at offset {error.start}",
            remedy="save the file as UTF-8",
        ) from error
    except YAMLError as error:
        raise _input_error(path, error) from error


def read_yaml_mapping(path: Path, yaml: YAML | None = None) -> dict[str, Any]:
    """Return the names that the file holds at its top; none for an empty file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it cannot be read, or holds something else.
    """
    content = read_yaml(path, yaml)
    if content is not None and not isinstance(content, dict):
        raise InputError(
            str(path),
            expected="lines of `name: value`",
            found=f"a {type(content).__name__}",
            remedy=f"correct {path} by hand",
        )
    return content or {}


def _input_error(path: Path, error: YAMLError) -> InputError:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    problem = (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error).splitlines()[0]
    found = problem.removeprefix("found ")
    if isinstance(error, DuplicateKeyError):
        return InputError(where, expected="every name once", found=found, remedy="keep one of the two lines")
    return InputError(where, expected="YAML", found=found, remedy="correct that place by hand")
