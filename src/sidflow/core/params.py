"""Strict params, and the YAML files that they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sidflow.core.errors import InputError, first_field_error
from sidflow.core.files import note_param, project_path

PARAMS_PATH = Path("params.yaml")

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threads = Annotated[int, Field(ge=1)]


def read_yaml(path: Path, yaml: YAML | None = None) -> Any:
    """Return the content of the file, as plain values (`3e-4` is a float, as DVC reads it) or as `yaml` makes them.

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
    """Return the top-level mapping of the file; empty for an empty file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it cannot be read, or is not a mapping.
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
    location = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    message = (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error).splitlines()[0]
    problem = message.removeprefix("found ")
    if isinstance(error, DuplicateKeyError):
        duplicate = problem.partition(" with value ")[0]
        return InputError(location, expected="every name once", found=duplicate, remedy="keep one of the two lines")
    return InputError(location, expected="YAML", found=problem, remedy="correct that place by hand")


class Params(BaseModel):
    """Base of every params model: unknown names are refused, values are frozen.

    A field's `description` is its meaning and unit in one line, and stands as a comment in params.yaml. A subclass
    changes defaults alone by `class Longer(LoopParams, defaults={"epochs": 20})`; bounds and meanings stay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
        """Return the fields that other fields make irrelevant; params.yaml leaves them out."""
        return frozenset()


class TrainingParams(Params):
    """What every training reads, outside of the sections."""

    seed: Seed = 0
    threads: Threads = 1


P = TypeVar("P", bound=Params)


def load_params(path: Path = PARAMS_PATH) -> dict[str, Any]:
    """Return the whole of params.yaml as plain dicts.

    Raises:
        InputError: the file is absent, no YAML, or no mapping.
    """
    try:
        return read_yaml_mapping(project_path(path))
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
    """Return one value, for example `seed` or `ingest.repeats`.

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


def load_seed() -> int:
    """Return the seed of every model.

    Raises:
        InputError: it is absent, or no whole number from 0 to 2**32 - 1.
    """
    return validate_params({"seed": load_param("seed")}, TrainingParams, str(PARAMS_PATH)).seed


def load_threads() -> int:
    """Return the threads of every training.

    Raises:
        InputError: they are absent, or no positive whole number.
    """
    return validate_params({"threads": load_param("threads")}, TrainingParams, str(PARAMS_PATH)).threads


def require_listed(recommender: str, section: str) -> None:
    """Check that `recommenders` lists a recommender, or that another value of params reads what it makes.

    Args:
        recommender: its name.
        section: of params.yaml that has its entry.

    Raises:
        InputError: nobody asks for it. DVC runs what the sections hold, whatever the list says.
    """
    content = load_params()
    listed = content.get("recommenders")
    blends = [entry for entry in (content.get("blend") or {}).values() if isinstance(entry, dict)]
    blended = any(recommender in (entry.get("base"), entry.get("added")) for entry in blends)
    read = blended or f"artifacts/recommenders/{recommender}/" in str(content)
    if listed is None or recommender in listed or read:
        return
    raise InputError(
        f"{PARAMS_PATH}:{section}.{recommender}",
        expected="entries that `recommenders` lists, or that another one reads",
        found=f"`{recommender}`, not among {', '.join(map(str, listed))}",
        remedy="`sidflow recommenders` removes what the list does not need, then `dvc repro`; or list it",
    )


def validate_params(content: Any, model: type[P], location: str, remedy: str | None = None) -> P:
    """Return `content` as `model`.

    Args:
        content: plain values; None is an empty mapping.
        model: the params model.
        location: file and section, joined by a colon.
        remedy: of the error message; None asks for an edit of that file.

    Raises:
        InputError: a name is unknown or absent, or a value is of the wrong type or out of range.
    """
    content = {} if content is None else content
    try:
        return model.model_validate(content)
    except ValidationError as error:
        invalid = first_field_error(error, model, content)
        separator = "." if ":" in location else ":"
        raise InputError(
            f"{location}{separator}{invalid.name}" if invalid.name else location,
            expected=invalid.expected,
            found=invalid.found,
            count=invalid.count if invalid.count > 1 else None,
            remedy=remedy or f"edit {location.partition(':')[0]}, whose comments give units and ranges",
        ) from error
