"""Strict params: what changes a result. Models of single sections live beside the code that they steer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sidflow.contracts import yamls
from sidflow.contracts.complaints import first_field_error
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import project_path
from sidflow.contracts.trace import note_param

PARAMS_PATH = Path("params.yaml")


class Params(BaseModel):
    """Base of every params model: unknown names are refused, values are frozen.

    A field's `description` is its meaning and unit in one line, and stands as a comment in params.yaml. A subclass
    changes defaults alone by `class Longer(LoopParams, defaults={"epochs": 20})`; bounds and meanings stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init_subclass__(cls, defaults: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Accept the class keyword `defaults`, which pydantic's hook below uses."""
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, defaults: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Take the `defaults` that a subclass has in place of its parent's."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, value in (defaults or {}).items():
            cls.model_fields[name].default = value
        if defaults:
            cls.model_rebuild(force=True)

    def unused(self) -> frozenset[str]:
        """Return the fields that mean nothing beside the others' values, and so are left out of params.yaml."""
        return frozenset()


P = TypeVar("P", bound=Params)


def load_params(path: Path = PARAMS_PATH) -> dict[str, Any]:
    """Return the whole of params.yaml as plain dicts.

    Raises:
        InputError: the file is absent, no YAML, or no mapping.
    """
    try:
        return yamls.read_yaml_mapping(project_path(path))
    except FileNotFoundError as error:
        raise InputError(
            str(path),
            expected="a params file",
            found="no such file",
            remedy="run in the project's folder, or `sidflow preset apply embedded` to write one",
        ) from error


def load_section(section: str, model: type[P], path: Path = PARAMS_PATH) -> P:
    """Return one section, checked, for example `load_section("train_sequential.sasrec", SasrecParams)`.

    Raises:
        InputError: the section is absent, a name unknown, or a value out of range.
    """
    return validate_params(load_param(section, path), model, f"{path}:{section}")


def load_param(name: str, path: Path = PARAMS_PATH) -> Any:
    """Return one value as it stands, for example `seed` or `ingest.repeats`.

    Raises:
        InputError: there is none of that name.
    """
    content: Any = load_params(path)
    for part in name.split("."):
        if not isinstance(content, dict) or part not in content:
            raise InputError(
                f"{path}:{name}",
                expected=f"`{name}`",
                found=f"no `{part}`" + (f" among {sorted(content)}" if isinstance(content, dict) else ""),
                remedy=f"add it to {path}; `sidflow preset show embedded` prints every name with its meaning",
            )
        content = content[part]
    note_param(name)
    return content


def validate_params(content: Any, model: type[P], where: str, remedy: str | None = None) -> P:
    """Return `content` as `model`.

    Args:
        content: plain values; None is an empty mapping.
        model: what they have to fit.
        where: the file they are from, a colon, the section.
        remedy: what repairs them, where it is not an edit of that file.

    Raises:
        InputError: a name is unknown or absent, or a value is of the wrong type or out of range.
    """
    content = {} if content is None else content
    try:
        return model.model_validate(content)
    except ValidationError as error:
        invalid = first_field_error(error, model, content)
        joint = "." if ":" in where else ":"
        raise InputError(
            f"{where}{joint}{invalid.name}" if invalid.name else where,
            expected=invalid.expected,
            found=invalid.found,
            count=invalid.count if invalid.count > 1 else None,
            remedy=remedy or f"edit {where.partition(':')[0]}, whose comments give units and ranges",
        ) from error
