"""Commands that use what was trained: recommendations, items, new IDs, one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidflow.cli.program import AsJson, command_group, in_project, one_line

app = command_group()
show_app = command_group("Print what the artifacts hold of one thing.")


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(metavar="KEY", help="Key of a user, for example U000001.")] = None,
    history: Annotated[
        str | None,
        typer.Option(metavar="KEYS", help="Instead of a user: keys of items, oldest first, with commas between them."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many items to recommend.")] = 10,
    recommender: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="One of `recommenders` in params.yaml; by default mme_sid, or else the first."
        ),
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
    artifacts: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Artifacts folder of the run that trained the quantizer.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Parquet file to write: item_key, modality, codes, suffix, new.")
    ],
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=FILE",
            help="Parquet file of item_key and vector; repeatable. By default this project's items.",
        ),
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
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write, new or empty.")],
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
