"""What every result has: its sides run in turn, both put together, how it came about, and the file.

Only the standard library is imported, and a module of sidflow that needs no more. A side's peak memory is its own, and
RecTools' interpreter, which has no sidflow, can import this.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "src"), str(ROOT)]  # for `sidflow` and for `experiments`

from sidflow.core.memory import peak_memory_mb  # noqa: E402, F401

RESULTS = ROOT / "experiments/results/benchmarks"
OWN_RESULTS = ROOT / ".sidflow/benchmarks"  # of those that the repository has already

ITEM_COUNTS = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}  # of a catalogue, by their names in records


class Measurement(NamedTuple):
    """What one side reached, in the result's unit, and its memory in MB of 10^6 bytes (None: not measured)."""

    value: float
    peak_mb: float | None = None


def side_command(script: str, side: str, *more: object) -> list[str]:
    """Return the command that runs one side of `script`, a process of its own."""
    return [sys.executable, script, "--side", side, *map(str, more)]


def run(command: list[str], threads: int | None = None) -> dict[str, Any]:
    """Run one side on `threads` threads (None: as many as it takes) and return what it prints last."""
    some = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | some)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_in_turn(
    sides: dict[str, list[str]], rounds: int, threads: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Run every side `rounds` times, in turn, so that what else runs on the machine meets all of them."""
    figures: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, command in sides.items():
            figures[side].append(run(command, threads))
            print(f"{side}: {figures[side][-1]}", file=sys.stderr)
    return figures


def medians(figures: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return the median over the rounds of each figure of every side."""
    return {
        side: {name: statistics.median(one[name] for one in each) for name in each[0]} for side, each in figures.items()
    }


def machine(threads: int | None = None) -> str:
    """Say what a result was measured on."""
    parts = [f"{os.cpu_count()} cores", platform.machine(), f"Python {platform.python_version()}"]
    if threads is not None:
        parts += [f"{threads} thread{'s' * (threads > 1)}", f"torch {version('torch')}"]
    return ", ".join(parts)


def commit() -> str:
    """Return the code's commit."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return head.stdout.strip()


def run_conditions(rounds: int, threads: int | None = None) -> dict[str, Any]:
    """Return how a result came about that other load on the machine can move."""
    return {
        "machine": machine(threads),
        "commit": commit(),
        "rounds": rounds,
        "load_average": round(os.getloadavg()[0], 1),
    }


def benchmark_record(
    claim: str,
    unit: str,
    ours: Measurement,
    theirs: Measurement,
    *,
    higher_is_better: bool,
    command: str,
    finding: str | None = None,
    **about: Any,
) -> dict[str, Any]:
    """Return both sides as a result; its ratio is above 1 where ours is better.

    Args:
        claim: what is compared, in a line.
        unit: of both sides' values.
        ours: our side.
        theirs: what it is compared to.
        higher_is_better: true of a rate, false of a time.
        command: what a reader types to have it again.
        finding: what was found, in a sentence.
        about: what else is kept, `run_conditions` among it.
    """
    ratio = ours.value / theirs.value if higher_is_better else theirs.value / ours.value
    return {
        "claim": claim,
        **({} if finding is None else {"finding": finding}),
        "unit": unit,
        "ours": _rounded(ours.value, 6),
        "theirs": _rounded(theirs.value, 6),
        "ratio": _rounded(ratio, 4),
        "peak_memory_ours": None if ours.peak_mb is None else round(ours.peak_mb, 1),
        "peak_memory_theirs": None if theirs.peak_mb is None else round(theirs.peak_mb, 1),
        "command": command,
        **about,
    }


def _rounded(value: float, digits: int) -> float:
    """Return `value` with as many digits that count."""
    return float(f"{value:.{digits}g}")


def write(name: str, result: dict[str, Any], dry: bool, *, replace: bool = False) -> None:
    """Print a result, and keep it unless `dry`; a name may begin with folders.

    A record of the repository stays unless `replace`; the result then goes to a folder that git ignores.
    """
    print(json.dumps(result, indent=1))
    if not dry:
        keep(record_path(name, replace=replace), result)


def record_path(name: str, *, replace: bool, resumed: bool = False) -> Path:
    """Return where a result goes: beside the records, or to a folder that git ignores where there is one already.

    Args:
        name: of the record; it may begin with folders.
        replace: take the place of a record of the repository.
        resumed: a record of this commit, which a run before this one has begun, is gone on with.
    """
    path = RESULTS / f"{name}.json"
    if replace or not path.exists() or (resumed and begun_record(path)):
        return path
    own = OWN_RESULTS / f"{name}.json"
    print(f"{name} is recorded already and stays (--replace replaces it); this result: {own}")
    return own


def begun_record(path: Path) -> dict[str, Any]:
    """Return the record in `path` where it is one of this commit, to go on with; else an empty one."""
    recorded: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return recorded if recorded.get("commit") == commit() else {}


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write a result to its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def benchmark_parser(
    text: str | None, rounds: int | None = None, threads: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser of what most benchmarks take; without `rounds` or `threads` there is no such option."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="each side is run as often, in turn")
    if threads is not None:
        parser.add_argument("--threads", type=int, default=threads, help="of each side")
    parser.add_argument("--dry", action="store_true", help="print the result, and write no file")
    parser.add_argument("--replace", action="store_true", help="replace a record that the repository has")
    return parser


def run_side_or_all(
    parser: argparse.ArgumentParser,
    sides: dict[str, Callable[[argparse.Namespace], dict[str, Any]]],
    results: Callable[[argparse.Namespace], Iterable[tuple[str, dict[str, Any]]]],
) -> None:
    """Run in this process the side that `--side` names; without it, write each result as soon as it is there.

    Args:
        parser: from `benchmark_parser`; `--side` is added.
        sides: what runs each of them and returns its figures.
        results: names and results, from sides that it runs by `side_command`.
    """
    parser.add_argument("--side", choices=list(sides), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print("\n" + json.dumps(sides[args.side](args)))
        return
    for name, result in results(args):
        write(name, result, args.dry, replace=args.replace)
