"""Commands that choose and show data and settings, and what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidflow.cli.program import command_group, in_project, one_line
from sidflow.cli.usage import PRESET_FILES

app = command_group()
preset_app = command_group("Choose data and settings: presets of params.yaml.")

PresetName = Annotated[str, typer.Argument(metavar="NAME", help="A preset that `sidflow preset list` names.")]


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
        list[str] | None, typer.Argument(metavar="NAME", help="By default those that params.yaml lists.")
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
        str | None, typer.Argument(metavar="NAME", help="A section, an entry or a knob; by default all.")
    ] = None,
    diff: Annotated[
        str | None, typer.Option("--diff", metavar="PRESET", help="Show only what differs from this preset.")
    ] = None,
) -> None:
    """Print the knobs of params.yaml, with origin and meaning."""
    from sidflow.cli.params import difference_lines, knob_lines

    with in_project():
        for line in difference_lines(diff, name) if diff else knob_lines(name):
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
