"""Commands on the store of language models' answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidflow.cli.program import command_group, one_line

responses_app = command_group("Keep and share the answers of language models.")


@responses_app.command("size")
def responses_size() -> None:
    """Print the store's path, answers, tokens and cost.

    Each model in the store has a line.
    """
    from sidflow.cli.responses import size_lines

    with one_line():
        typer.echo(size_lines())


@responses_app.command("export")
def responses_export(file: Annotated[Path, typer.Argument(metavar="FILE", help="The store to write.")]) -> None:
    """Write all answers to one file that can be shared."""
    from sidflow.cli.responses import export_line

    with one_line():
        typer.echo(export_line(file))


@responses_app.command("merge")
def responses_merge(file: Annotated[Path, typer.Argument(metavar="FILE", help="Another store.")]) -> None:
    """Add the answers of another store that are missing in this one."""
    from sidflow.cli.responses import merge_line

    with one_line():
        typer.echo(merge_line(file))
