"""Usage of the command line: it runs in a project's folder, and reports mistakes as an `InputError` of one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidflow.core.errors import InputError, closest_names

PROGRAM = "sidflow"
PROJECT_FILES = ("params.yaml", "dvc.yaml")
PRESET_FILES = ("dvc.yaml", "presets/embedded.yaml")  # what it takes to choose a preset, params.yaml being written then
_KINDS = {int: "an integer", list[int]: "an integer", float: "a number"}


def usage_error(error: Exception, program: Any, arguments: Sequence[str]) -> InputError:
    """Return Typer's error about `arguments` as an `InputError`.

    Args:
        error: Typer's, with a `message` and, by its kind, an `option_name` or a `param`.
        program: Typer's command of the whole program.
        arguments: the command line after the program's name.
    """
    command, path, remaining = _called_command(program, arguments)
    expected, actual = _expected_and_actual(error, command, remaining)
    name = " ".join([PROGRAM, *path])
    return InputError(name, expected=expected, found=actual, remedy=f"`{name} --help`")


def _expected_and_actual(error: Any, command: Any, remaining: Sequence[str]) -> tuple[str, str]:
    options = [name for param in command.params for name in param.opts if name.startswith("-")]
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if option is not None and hasattr(error, "possibilities"):
        return closest_names(option, [*options, "--help"]).replace("names", "options"), f"`{option}`"
    if option is not None and "requires" in error.message:
        return f"a value after {option}", "none"
    if option is not None:
        return f"{option} without a value", "one"
    if param is not None and hasattr(error, "param_type"):
        return next((name for name in param.opts if name.startswith("-")), param.metavar or param.name.upper()), "none"
    if param is not None:
        minimum = f" >= {param.min}" if getattr(param, "min", None) is not None else ""
        value = error.__cause__.errors()[0]["input"] if hasattr(error.__cause__, "errors") else "another value"
        return f"{_KINDS.get(param.type_descriptor.annotation, 'a value')}{minimum} after {param.opts[0]}", repr(value)
    if remaining and getattr(command, "commands", None):
        return closest_names(remaining[0], command.commands).replace("names", "commands"), f"`{remaining[0]}`"
    return "nothing more", error.message.rpartition("(")[2].removesuffix(")")


def _called_command(program: Any, arguments: Sequence[str]) -> tuple[Any, list[str], list[str]]:
    """Return the command that `arguments` call, the names that lead to it, and the arguments that follow."""
    command, path, remaining = program, [], list(arguments)
    while remaining and remaining[0] in getattr(command, "commands", {}):
        command = command.commands[remaining[0]]
        path.append(remaining.pop(0))
    return command, path, remaining


def is_project(folder: Path = Path()) -> bool:
    """Return whether `folder` is a project's root."""
    return not _missing_files(folder)


def require_project_files(*files: str) -> None:
    """Check that the current folder is a project's root: that it holds `files`, by default `PROJECT_FILES`.

    Raises:
        InputError: one of them is not here; where a folder above has them, it is named.
    """
    missing = _missing_files(Path(), files or PROJECT_FILES)
    if not missing:
        return
    parent = next((folder for folder in Path.cwd().parents if is_project(folder)), None)
    raise InputError(
        "this folder",
        expected=f"a sidflow project ({' and '.join(files or PROJECT_FILES)})",
        found=f"no {' and no '.join(missing)}",
        remedy=f"cd {parent}" if parent else _remedy(missing),
    )


def _remedy(missing: list[str]) -> str:
    if missing == ["params.yaml"]:
        return "`sidflow preset apply embedded` writes it"
    return "cd to the project's folder (the clone of its repository)"


def _missing_files(folder: Path, files: tuple[str, ...] = PROJECT_FILES) -> list[str]:
    return [file for file in files if not (folder / file).is_file()]
