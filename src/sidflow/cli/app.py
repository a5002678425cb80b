"""The command line: all commands in one program. Each imports what it needs when called, so that it starts fast."""

from __future__ import annotations

import sys

from sidflow.cli.commands import responses, results, serving, settings
from sidflow.cli.program import OneLineErrors, command_group

app = command_group(
    """Recommendation with multimodal embeddings, semantic IDs and a language model, as a DVC pipeline.

    `make repro` or `dvc repro` runs the pipeline. These commands choose its data and settings, and print its results.
    All but `doctor` run in the project's folder.""",
    cls=OneLineErrors,
)
app.add_typer(settings.preset_app, name="preset")
for commands in (settings.app, serving.app, results.app):
    app.add_typer(commands)
app.add_typer(serving.show_app, name="show")
app.add_typer(responses.responses_app, name="responses")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    sys.exit(main())
