"""The command line: thin, so that it starts fast; what it does is in `sidflow.commands`, imported when called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sidflow.contracts.errors import InputError

app = typer.Typer(
    help="Raw interactions to multimodal semantic IDs and an LLM recommender. The pipeline itself: `dvc repro`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
preset_app = typer.Typer(help="Params for one data set or experiment.", no_args_is_help=True)
show_app = typer.Typer(help="What the pipeline knows of one thing.", no_args_is_help=True)
results_app = typer.Typer(help="What runs found, kept in docs/results/ and shown in tables.", no_args_is_help=True)
app.add_typer(preset_app, name="preset")
app.add_typer(show_app, name="show")
app.add_typer(results_app, name="results")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def one_line() -> Iterator[None]:
    """Turn bad input into one line and exit code 2."""
    try:
        yield
    except InputError as error:
        typer.echo(error.line(), err=True)
        raise typer.Exit(2) from None


@preset_app.command("list")
def preset_list() -> None:
    """Name the presets; the star marks the one in params.yaml."""
    from sidflow.commands import presets

    with one_line():
        for line in presets.listing():
            typer.echo(line)


@preset_app.command("show")
def preset_show(name: str) -> None:
    """Print a preset's file: the full params of `embedded`, of the others what they change."""
    from sidflow.commands import presets

    with one_line():
        typer.echo(presets.path_of(name).read_text(), nl=False)


@preset_app.command("apply")
def preset_apply(
    name: str,
    data: Annotated[Path | None, typer.Option(help="File or folder of the raw data.")] = None,
) -> None:
    """Write params.yaml for a preset and swap the artifacts; coming back reruns nothing."""
    from sidflow.commands import switching

    with one_line():
        for line in switching.told(name, switching.apply(name, data)):
            typer.echo(line)


@preset_app.command("refresh")
def preset_refresh() -> None:
    """Write presets/embedded.yaml from params.yaml, after editing that by hand."""
    from sidflow.commands import presets

    with one_line():
        typer.echo(presets.refresh())


@app.command()
def doctor() -> None:
    """Say what is installed and usable; exit code 1 where something required is broken."""
    from sidflow.commands import doctor as examination

    with one_line():
        findings = examination.examine()
        for line in examination.told(findings):
            typer.echo(line)
        if any(finding.broken for finding in findings):
            raise typer.Exit(1)


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(help="A user's key.")] = None,
    history: Annotated[str | None, typer.Option(help="Item keys, oldest first, with commas between.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    model: Annotated[str | None, typer.Option(help="A recommender's name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to a known user, or to whoever has a given history."""
    from sidflow.commands import recommend as recommending

    with one_line():
        found = recommending.recommend(user, history.split(",") if history else None, k, model)
        typer.echo(recommending.as_json(found) if as_json else recommending.as_text(found))


@show_app.command("item")
def show_item(item_key: str, as_json: AsJson = False) -> None:
    """Show an item: its words, semantics, semantic IDs, who shares their prefixes, neighbours, training count."""
    from sidflow.commands import show

    with one_line():
        found = show.item(item_key)
        typer.echo(show.as_json(found) if as_json else show.as_text(found))


@results_app.command("add")
def results_add() -> None:
    """Add the present run (one seed of one preset) to docs/results/."""
    from sidflow.commands import results

    with one_line():
        typer.echo(results.add())


@results_app.command("table")
def results_table(
    write: Annotated[list[Path] | None, typer.Option(help="Write between this file's markers; repeatable.")] = None,
) -> None:
    """Print the tables of docs/results/ and benchmarks/results/, or write them between a file's markers."""
    from sidflow.commands import tables

    with one_line():
        if not write:
            typer.echo(tables.everything())
        for path in write or []:
            typer.echo(tables.write(path))


@app.command()
def verify(
    here: Annotated[bool, typer.Option(help="Verify the working tree as it is, not the last commit.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the temporary copy.")] = False,
) -> None:
    """Rerun the DAG in a temporary copy and compare every artifact's hash with the lock; exit 1 if any differs."""
    from sidflow.commands import verify as verifying

    with one_line():
        found = verifying.verify(here=here, keep=keep)
        for line in verifying.told(found):
            typer.echo(line)
        if not found.same:
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    sys.exit(main())
