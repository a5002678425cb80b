"""Commands that print results, compare them, and make them again."""

from __future__ import annotations

from typing import Annotated

import typer

from sidflow.cli.program import AsJson, command_group, in_project
from sidflow.core.errors import InputError

app = command_group()


@app.command()
def leaderboard(
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default `compare.primary` of params.yaml.")
    ] = None,
    page: Annotated[
        bool,
        typer.Option("--page", help="Print nothing of it: write the costs beside the report page, which shows them."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print all recommenders, best first, with what each costs.

    Seconds, memory and users a second are those that were measured when the stages ran on this machine.
    """
    from sidflow.cli.leaderboard import leaderboard_json, leaderboard_text, write_costs_beside_page

    with in_project():
        if page and (as_json or metric):
            found = "--json" if as_json else "--metric"
            raise InputError("--page", expected="no other option", found=found, remedy="leave one of the two out")
        if page:
            typer.echo(write_costs_beside_page())
        else:
            typer.echo(leaderboard_json(metric) if as_json else leaderboard_text(metric))


@app.command()
def compare(
    rev: Annotated[
        str | None,
        typer.Argument(metavar="REV", help="A commit, branch, tag or experiment of DVC; only --pair needs none."),
    ] = None,
    other: Annotated[
        str | None,
        typer.Argument(metavar="OTHER", help="The revision to compare with; by default the files in artifacts/."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="By default `compare.primary` of params.yaml; repeatable with --pair."),
    ] = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare recommender A with B, in REV or in artifacts/."),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="NAME", help="With --pair: also on this slice, such as tail; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how two revisions or recommenders differ.

    Each recommender is compared with itself in the other revision, or the two of --pair with each other, query by
    query. Results of a revision are read from DVC's cache; the files in artifacts/ stay as they are.
    """
    from sidflow.cli.compare import check_arguments, compare_recommenders, compare_revisions
    from sidflow.cli.comparison_table import to_json, to_text
    from sidflow.cli.revisions import read_revision, read_workspace
    from sidflow.cli.slices import slices_of_tests
    from sidflow.core import params
    from sidflow.evaluation.params import CompareParams

    with in_project():
        check_arguments(rev, other, metric or (), slices or (), pair=bool(pair))
        settings = params.load_section("compare", CompareParams)
        revision = read_revision(rev) if rev is not None else read_workspace(pair)
        if pair:
            masks = slices_of_tests(slices) if slices else {}
            comparison = compare_recommenders(revision, pair, metric or (), settings, masks)
        else:
            after = read_revision(other) if other is not None else read_workspace()
            comparison = compare_revisions(revision, after, settings, metric[0] if metric else None)
        typer.echo(to_json(comparison) if as_json else to_text(comparison))


@app.command()
def ablations(
    seed: Annotated[
        list[int] | None, typer.Option(min=0, metavar="N", help="Repeatable; by default the seed of params.yaml.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="Repeatable; by default all rows.")] = None,
) -> None:
    """Run MME-SID's ablations and print each result.

    Each row and seed is a DVC experiment in a temporary copy that shares the cache. Finished experiments of the same
    commit are kept, so that the command can be stopped and started again. `dvc repro report` shows the table.
    """
    from sidflow.cli.ablations import run_ablations

    with in_project():
        for line in run_ablations(seed, only):
            typer.echo(line)


@app.command()
def verify(
    here: Annotated[
        bool, typer.Option("--here", help="Verify the files as they are instead of the last commit.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary copy.")] = False,
) -> None:
    """Rerun the pipeline in a copy and print what differs.

    The copy is temporary and shares no cache, so this takes as long as a first run. The hash of each artifact is
    compared with dvc.lock; exit code 1 if any differs.
    """
    from sidflow.cli.verify import verification_lines
    from sidflow.cli.verify import verify as rerun_and_compare

    with in_project():
        result = rerun_and_compare(here=here, keep=keep)
        for line in verification_lines(result):
            typer.echo(line)
        if not result.same:
            raise typer.Exit(1)
