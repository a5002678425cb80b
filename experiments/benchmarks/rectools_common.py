"""What the benchmarks against RecTools share: sizes, data, the sides' commands."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import side_by_side

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams

SETTINGS: dict[str, Any] = {
    "dimensions": 64, "blocks": 1, "heads": 1, "feedforward": 1, "max_length": 50, "dropout": 0.2, "negatives": 256,
    "batch_size": 128, "learning_rate": 1e-3, "threads": 2, "seed": 42, "top": 20,
}  # fmt: skip


def benchmark_parser(text: str | None) -> argparse.ArgumentParser:
    parser = side_by_side.benchmark_parser(text, rounds=3)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds Beauty.inter.json")
    parser.add_argument("--rectools-python", type=Path, metavar="PATH", help="the interpreter that has RecTools")
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


def theirs(args: argparse.Namespace, what: str, path: Path, *more: object) -> list[str]:
    """Return the command that runs RecTools' side on the data that `write_data` wrote."""
    script = Path(__file__).with_name("rectools_side.py")
    return [str(args.rectools_python), str(script), what, "--data", str(path), *map(str, more)]


def run_conditions(script: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what every result says of how it came about."""
    code = ["import importlib.metadata as m; print(m.version('rectools'), m.version('torch'))"]
    done = subprocess.run([str(args.rectools_python), "-c", *code], capture_output=True, text=True, check=True)
    rectools, torch = done.stdout.split()
    return {
        "command": f"python experiments/benchmarks/{script} --data FOLDER --rectools-python PATH",
        **side_by_side.run_conditions(args.rounds),
        "rectools": rectools,
        "torch_of_rectools": torch,
        "settings": SETTINGS,
    }
