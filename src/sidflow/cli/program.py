"""What all commands share: mistakes and bad input end in one line, and groups of commands look alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sidflow.cli.usage import require_project_files
from sidflow.core.disk import disk_errors
from sidflow.core.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class OneLineErrors(TyperGroup):
    """The program. A mistake on the command line ends in one line and exit code 2, as all invalid input does."""

    def main(self, args: list[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the program on `args`, by default the process's own."""
        arguments = sys.argv[1:] if args is None else list(args)
        try:
            status = super().main(arguments, prog_name="sidflow", standalone_mode=False)
        except typer.Abort:
            sys.exit(1)
        except typer.TyperException as error:
            from sidflow.cli.usage import usage_error

            is_help = type(error).__name__ == "NoArgsIsHelpError"  # its message is the help
            typer.echo(error.message if is_help else usage_error(error, self, arguments).line(), err=True)
            sys.exit(2)
        sys.exit(status if isinstance(status, int) else 0)


def command_group(text: str | None = None, **options: Any) -> typer.Typer:
    """Return a group of commands with this help; without one its commands join those of the program."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **options,
    )


@contextmanager
def one_line() -> Iterator[None]:
    """Print an `InputError`, or a failure of the disk, as one line and exit with code 2."""
    try:
        with disk_errors():
            yield
    except InputError as error:
        typer.echo(error.line(), err=True)
        raise typer.Exit(2) from None


@contextmanager
def in_project(*files: str) -> Iterator[None]:
    """Do as `one_line`, and exit as well where the current folder is no project."""
    with one_line():
        require_project_files(*files)
        yield
