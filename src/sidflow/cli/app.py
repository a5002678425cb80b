"""The command line. Commands import what they need when they are called, so that it starts fast."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sidflow.cli.usage import PRESET_FILES, require_project_files
from sidflow.core.disk import disk_errors
from sidflow.core.errors import InputError


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


def _group(text: str, **options: Any) -> typer.Typer:
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **options,
    )


app = _group(
    """Recommendation with multimodal embeddings, semantic IDs and a language model, as a DVC pipeline.

    `make repro` or `dvc repro` runs the pipeline. These commands choose its data and settings, and print its results.
    All but `doctor` run in the project's folder.""",
    cls=OneLineErrors,
)
preset_app = _group("Choose data and settings: presets of params.yaml.")
show_app = _group("Print what the artifacts hold of one thing.")
app.add_typer(preset_app, name="preset")
app.add_typer(show_app, name="show")
responses_app = _group("Keep and share the answers of language models.")
app.add_typer(responses_app, name="responses")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
PresetName = Annotated[str, typer.Argument(metavar="NAME", help="A preset that `sidflow preset list` names.")]


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


@preset_app.command("list")
def preset_list() -> None:
    """Print the presets; a star marks the one in params.yaml."""
    from sidflow.cli import presets

    with in_project(*PRESET_FILES):
        for line in presets.listing():
            typer.echo(line)


@preset_app.command("show")
def preset_show(name: PresetName) -> None:
    """Print what a preset says by itself."""
    from sidflow.cli import presets

    with in_project(*PRESET_FILES):
        typer.echo(presets.path_of(name).read_text(), nl=False)


@preset_app.command("apply")
def preset_apply(
    name: PresetName,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="File or folder of the raw data; by default $SIDFLOW_DATA/NAME. `embedded` needs none."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of every model; by default the preset's.")
    ] = None,
) -> None:
    """Write params.yaml for a preset and print what is next.

    The artifacts of the previous preset are stored. Applying that preset again restores them, and nothing reruns.
    """
    from sidflow.cli.switching import apply, next_step_lines

    with in_project(*PRESET_FILES):
        for line in next_step_lines(name, apply(name, data, seed)):
            typer.echo(line)


@app.command("recommenders")
def choose_recommenders(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="By default those that params.yaml lists.")
    ] = None,
) -> None:
    """Choose what is trained, with all that it needs.

    Writes params.yaml: `dvc repro` then trains and compares them alone. What an earlier choice left out comes back from
    the preset.
    """
    from sidflow.cli import switching

    with in_project():
        for line in switching.choose_recommenders(names or ()):
            typer.echo(line)


@app.command("params")
def show_params(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A section, an entry or a knob; all if absent.")
    ] = None,
    diff: Annotated[
        str | None, typer.Option("--diff", metavar="PRESET", help="Show only what differs from this preset.")
    ] = None,
) -> None:
    """Print the knobs of params.yaml, with origin and meaning."""
    from sidflow.cli.params import difference_lines, knob_lines

    with in_project():
        for line in difference_lines(diff) if diff else knob_lines(name):
            typer.echo(line)


@app.command()
def doctor() -> None:
    """Print what is installed and usable, one line each.

    Marks: ok, info, optional (absent, and not required), warning, BROKEN (required; exit code 1).
    """
    from sidflow.cli.doctor import examine, finding_lines

    with one_line():
        findings = examine()
        for line in finding_lines(findings):
            typer.echo(line)
        if any(finding.broken for finding in findings):
            raise typer.Exit(1)


@app.command()
def models() -> None:
    """Print the model of each slot, its size and licence."""
    from sidflow.cli.models import model_lines

    with in_project():
        for line in model_lines():
            typer.echo(line)


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(metavar="KEY", help="Key of a user, for example U000001.")] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Instead of a user: keys of items, oldest first, separated by commas."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many items to recommend.")] = 10,
    recommender: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One of `recommenders` in params.yaml; by default mme_sid."),
    ] = None,
    include_cold: Annotated[
        bool, typer.Option("--include-cold", help="With --history: rank items outside the core as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print recommendations for a user or a new history.

    A user's list is the one that was evaluated; it is printed with the held-out item that really came next.
    """
    from sidflow.api import Project
    from sidflow.cli.serving import recommendation_as_json, recommendation_as_text

    with in_project():
        recommendation = Project.load().recommend(
            user,
            history=None if history is None else [key.strip() for key in history.split(",")],
            k=k,
            recommender=recommender,
            include_cold=include_cold,
        )
        typer.echo(recommendation_as_json(recommendation) if as_json else recommendation_as_text(recommendation))


@app.command("assign-new")
def assign_new(
    artifacts: Annotated[Path, typer.Argument(help="Artifacts folder of the run that trained the quantizer.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write: item_key, modality, codes, suffix, new.")],
    vectors: Annotated[
        list[str] | None,
        typer.Option(help="MODALITY=FILE, Parquet of item_key and vector; repeatable. Default: this project's items."),
    ] = None,
) -> None:
    """Write semantic IDs for new items and print their number.

    Items that have an ID in that run keep it.
    """
    from sidflow.cli.serving import write_new_ids

    with one_line():
        for line in write_new_ids(artifacts, out, vectors):
            typer.echo(line)


@app.command()
def merge(
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    recommender: Annotated[str, typer.Option(metavar="NAME", help="One of `finetune` in params.yaml.")] = "mme_sid",
) -> None:
    """Write a fine-tuned MME-SID as one checkpoint.

    Prints what the folder holds: the language model with its adapter merged in, and the tables beside it.
    """
    from sidflow.cli.serving import write_merged

    with in_project():
        typer.echo(write_merged(recommender, out))


@show_app.command("item")
def show_item(
    item_key: Annotated[str, typer.Argument(metavar="KEY", help="Key of an item, for example P00001.")],
    as_json: AsJson = False,
) -> None:
    """Print an item's text, semantic IDs and neighbours.

    The size of its picture, its count in training, and the items that share its first codes are printed as well.
    """
    from sidflow.api import Project
    from sidflow.cli.serving import item_as_json, item_as_text

    with in_project():
        item = Project.load().item(item_key)
        typer.echo(item_as_json(item) if as_json else item_as_text(item))


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
    from sidflow.cli.compare import check_arguments, compare_recommenders, compare_revisions, to_json, to_text
    from sidflow.cli.revisions import read_revision, read_workspace
    from sidflow.cli.slices import slices_of_tests
    from sidflow.core import params
    from sidflow.evaluation.params import CompareParams

    with in_project():
        check_arguments(rev, other, metric or (), slices or (), pair=bool(pair))
        settings = params.load_section("compare", CompareParams)
        revision = read_revision(rev) if rev else read_workspace()
        if pair:
            masks = slices_of_tests(slices) if slices else {}
            comparison = compare_recommenders(revision, pair, metric or (), settings, masks)
        else:
            after = read_revision(other) if other else read_workspace()
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


@responses_app.command("size")
def responses_size() -> None:
    """Print where the store is, and the answers, tokens and cost of each model in it."""
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


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    sys.exit(main())
