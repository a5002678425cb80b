"""How a stage runs: bad input ends in one line and exit code 2; time and peak memory are measured."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from sidflow.core.costs import write_cost
from sidflow.core.disk import disk_errors
from sidflow.core.errors import InputError
from sidflow.core.files import write_trace
from sidflow.core.runtime import is_main_process, report_error

# When this process began, by the clock that nobody sets; it began before this module was imported.
_BEGAN = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
_resumed = {"seconds": 0.0}  # time of the killed runs that this one resumes

# Threads of torch that wait for another one spin. On a shared machine this keeps the other thread from its core and
# slows small models most, so that the spinning is kept short. Torch reads the variable when it loads.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@contextmanager
def errors_in_one_line(name: str) -> Iterator[None]:
    """End with one line and exit code 2 where the input is bad or the disk fails."""
    try:
        with disk_errors():
            yield
    except InputError as error:
        report_error(f"{name}: {error.line()}")
        raise SystemExit(2) from None


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run a stage's body; `name` is DVC's, for example `train_sequential@sasrec`.

    What it cost goes to the cache folder (`core.costs`), in no hashed file; of the main process, where several run
    the stage. A cost that cannot be kept is a line of warning: the result stands.
    """
    try:
        with errors_in_one_line(name):
            yield
    finally:
        if is_main_process():
            write_trace(name)
    if not is_main_process():
        return
    try:
        with disk_errors():
            write_cost(name, seconds_spent())
    except InputError as error:
        print(f"{name}: its cost is not kept: {error.line()}", file=sys.stderr, flush=True)


def seconds_spent() -> float:
    """Return the stage's seconds so far: of this whole process, imports included, and of the runs that it resumes."""
    return _resumed["seconds"] + time.monotonic() - _BEGAN


def add_resumed_seconds(seconds: float) -> None:
    """Add the time of a killed run to this stage; `seconds` is the `seconds_spent` that its checkpoint recorded.

    Each checkpoint holds the time of the whole stage so far. With several trainings in a stage the longest counts.
    """
    _resumed["seconds"] = max(_resumed["seconds"], seconds)


def print_progress(message: str) -> None:
    """Print one line of progress at once, from the main process."""
    if is_main_process():
        print(message, flush=True)
