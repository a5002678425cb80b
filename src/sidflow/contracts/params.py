"""Strict params: what changes a result. Models of single sections live beside the code that they steer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sidflow.contracts import trace
from sidflow.contracts.errors import InputError

PATH = Path("params.yaml")


class Params(BaseModel):
    """Base of every params model: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Params)


def load_all(path: Path = PATH) -> dict[str, Any]:
    """Return the whole of params.yaml as plain dicts (ruamel: `3e-4` is a float, as DVC reads it).

    Raises:
        InputError: the file is absent or no YAML mapping.
    """
    try:
        content = YAML(typ="safe").load(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            str(path),
            expected="a params file",
            found="no such file",
            remedy="run from the project's folder, or `sidflow preset apply embedded`",
        ) from error
    except YAMLError as error:
        raise InputError(
            str(path), expected="YAML", found=str(error), remedy="repair it, or `sidflow preset apply embedded`"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            str(path), expected="a mapping", found=type(content).__name__, remedy="`sidflow preset apply embedded`"
        )
    return content


def load(section: str, model: type[P], path: Path = PATH) -> P:
    """Return one section, checked, for example `load("train.sasrec", SasrecParams)`.

    Raises:
        InputError: the section is absent, a name unknown, or a value out of range.
    """
    return check(load_value(section, path), model, f"{path}:{section}")


def load_value(name: str, path: Path = PATH) -> Any:
    """Return one value as it stands, for example `seed` or `ingest.repeats`.

    Raises:
        InputError: there is none of that name.
    """
    content: Any = load_all(path)
    for part in name.split("."):
        if not isinstance(content, dict) or part not in content:
            raise InputError(
                f"{path}:{name}",
                expected=f"`{name}`",
                found=f"no `{part}`" + (f" among {sorted(content)}" if isinstance(content, dict) else ""),
                remedy="add it, or `sidflow preset apply` a preset that has it",
            )
        content = content[part]
    trace.note_param(name)
    return content


def check(content: Any, model: type[P], where: str) -> P:
    """Return `content` as `model`; a pydantic complaint becomes one line."""
    try:
        return model.model_validate(content if content is not None else {})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}.{name}" if name else where,
            expected=first["msg"],
            found=repr(first["input"])[:120],
            count=error.error_count(),
            remedy="edit params.yaml (its comments give units and ranges)",
        ) from error
