"""How the command line is used: from a project's folder, and with mistakes reported as an `InputError` of one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidflow.core.errors import InputError, closest_names

PROGRAM = "sidflow"
PROJECT_FILES = ("params.yaml", "dvc.yaml")
PRESET_FILES = ("dvc.yaml", "presets/embedded.yaml")  # what it takes to choose a preset, params.yaml being written then
_KINDS = {int: "an integer", float: "a number"}


def usage_error(error: Exception, program: Any, arguments: Sequence[str]) -> InputError:
    """Return Typer's error about `arguments` as an `InputError`.

    Args:
        error: Typer's, with a `message` and, by its kind, an `option_name` or a `param`.
        program: Typer's command of the whole program.
        arguments: the command line after the program's name.
    """
    command, path, rest = _called_command(program, arguments)
    expected, found = _expected_and_found(error, command, rest)
    name = " ".join([PROGRAM, *path])
    return InputError(name, expected=expected, found=found, remedy=f"`{name} --help`")


def _expected_and_found(error: Any, command: Any, rest: Sequence[str]) -> tuple[str, str]:
    options = [name for param in command.params for name in param.opts if name.startswith("-")]
    option, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if option is not None and hasattr(error, "possibilities"):
        return closest_names(option, [*options, "--help"]).replace("names", "options"), f"`{option}`"
    if option is not None and "requires" in error.message:
        return f"a value after {option}", "none"
    if option is not None:
        return f"{option} without a value", "one"
    if param is not None and hasattr(error, "param_type"):
        return next((name for name in param.opts if name.startswith("-")), param.name.upper()), "none"
    if param is not None:
        least = f" >= {param.min}" if getattr(param, "min", None) is not None else ""
        typed = error.__cause__.errors()[0]["input"] if hasattr(error.__cause__, "errors") else "another value"
        return f"{_KINDS.get(param.type_descriptor.annotation, 'a value')}{least} after {param.opts[0]}", repr(typed)
    if rest and getattr(command, "commands", None):
        return closest_names(rest[0], command.commands).replace("names", "commands"), f"`{rest[0]}`"
    return "nothing more", error.message.rpartition("(")[2].removesuffix(")")


def _called_command(program: Any, arguments: Sequence[str]) -> tuple[Any, list[str], list[str]]:
    """Return the command that `arguments` call, the names that lead to it, and the arguments that follow."""
    command, path, rest = program, [], list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest[0]]
        path.append(rest.pop(0))
    return command, path, rest


def is_project(folder: Path = Path()) -> bool:
    """Return whether `folder` is a project's root."""
    return not _absent(folder)


def require_project_files(*files: str) -> None:
    """Check that the current folder is a project's root: that it holds `files`, by default `PROJECT_FILES`.

    Raises:
        InputError: one of them is not here; where a folder above has them, it is named.
    """
    absent = _absent(Path(), files or PROJECT_FILES)
    if not absent:
        return
    above = next((folder for folder in Path.cwd().parents if is_project(folder)), None)
    raise InputError(
        "this folder",
        expected=f"a sidflow project ({' and '.join(files or PROJECT_FILES)})",
        found=f"no {' and no '.join(absent)}",
        remedy=f"cd {above}" if above else _remedy(absent),
    )


def _remedy(absent: list[str]) -> str:
    if absent == ["params.yaml"]:
        return "`sidflow preset apply embedded` writes it"
    return "cd to the project's folder (the clone of its repository)"


def _absent(folder: Path, files: tuple[str, ...] = PROJECT_FILES) -> list[str]:
    return [file for file in files if not (folder / file).is_file()]
