"""What the benchmarks against RecTools share (MME-SID's use its sides in processes of their own): data, result."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
SETTINGS: dict[str, Any] = {
    "dimensions": 64, "blocks": 1, "heads": 1, "feedforward": 1, "max_length": 50, "dropout": 0.2, "negatives": 256,
    "batch_size": 128, "learning_rate": 1e-3, "threads": 2, "seed": 42, "top": 20,
}  # fmt: skip


def arguments(text: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds Beauty.inter.json")
    parser.add_argument("--rectools-python", type=Path, metavar="PATH", help="the interpreter that has RecTools")
    parser.add_argument("--rounds", type=int, default=3, help="each side is run as often, in turn")
    parser.add_argument("--dry", action="store_true", help="print the result, and write no file")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    return parser


def write_data(folder: Path, path: Path, held_out: int) -> None:
    """Write every user's items but the last `held_out`, and the settings, as one file that either side reads."""
    catalog = ingest(IngestParams(source="sequences", path=str(folder)))
    events = catalog.interactions.sort("user_id", "position")
    _, lengths = np.unique(events["user_id"].to_numpy(), return_counts=True)
    back = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(events))
    items = events["item_id"].to_numpy()[back > held_out].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths - held_out)])
    np.savez(path, items=items, offsets=offsets, settings=json.dumps(SETTINGS))


def run(command: list[str], threads: int = SETTINGS["threads"]) -> dict[str, Any]:
    """Run one side on `threads` threads and return what it prints last."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(
    sides: dict[str, list[str]], rounds: int, threads: int = SETTINGS["threads"]
) -> dict[str, dict[str, float]]:
    """Run every side `rounds` times, one after the other in turn, and return the median of each of its figures."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, command in sides.items():
            found[side].append(run(command, threads))
            print(f"{side}: {found[side][-1]}", file=sys.stderr)
    return {
        side: {name: statistics.median(one[name] for one in each) for name in each[0]} for side, each in found.items()
    }


def facts(script: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return what every result says of how it came about."""
    asked = ["import importlib.metadata as m; print(m.version('rectools'), m.version('torch'))"]
    told = subprocess.run([str(given.rectools_python), "-c", *asked], capture_output=True, text=True, check=True)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    theirs, torch = told.stdout.split()
    return {
        "command": f"python benchmarks/{script} --data FOLDER --rectools-python PATH",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "commit": head.stdout.strip(),
        "rectools": theirs,
        "torch_of_rectools": torch,
        "rounds": given.rounds,
        "load_average": round(os.getloadavg()[0], 1),
        "settings": SETTINGS,
    }


def write(name: str, result: dict[str, Any], dry: bool) -> None:
    print(json.dumps(result, indent=1))
    if not dry:
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
