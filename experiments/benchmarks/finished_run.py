"""The finished run that a benchmark reads: the option `--run NAME=FOLDER`, and its folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def add_run_option(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Add `--run`; `more` as `add_argument` takes it. It is required unless `more` says otherwise."""
    settings = {"required": True, "help": "a project in which the preset has run"} | more
    parser.add_argument("--run", metavar="NAME=FOLDER", **settings)


def name_of(argument: str) -> str:
    """Return NAME of NAME=FOLDER, or the name of the folder where there is no NAME.

    >>> name_of("embedded=runs/one"), name_of("runs/one")
    ('embedded', 'one')
    """
    return Path(argument.partition("=")[0]).name


def folder_of(argument: str) -> Path:
    """Return FOLDER of NAME=FOLDER, whole."""
    name, _, folder = argument.partition("=")
    return Path(folder or name).resolve()


@contextmanager
def enter_run(argument: str) -> Iterator[str]:
    """Stand in the folder of NAME=FOLDER, and give NAME."""
    here = Path.cwd()
    os.chdir(folder_of(argument))
    try:
        yield name_of(argument)
    finally:
        os.chdir(here)
