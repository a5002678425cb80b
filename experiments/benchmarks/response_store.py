"""The response store against a file per answer: 100,000 answers written, looked up, exported, merged.

Run: python experiments/benchmarks/response_store.py

Each side runs in a process of its own. The other side is what scripts do: one JSON file an answer, named by its key, in
256 folders. Both write in batches of 16 answers, as `describe` keeps them, and look every key up in chunks of 15,000,
as it does for 5,000 items in three views. An answer is 400 characters long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from side_by_side import (
    Measurement,
    benchmark_parser,
    benchmark_record,
    medians,
    peak_memory_mb,
    run_conditions,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.semantics.store import Response, open_store

ANSWERS = 100_000
WRITTEN, LOOKED_UP = 16, 15_000  # answers in a batch


def answers(count: int) -> Iterator[Response]:
    for number in range(count):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        yield Response(key, json.dumps({"summary": f"{key} " * 6})[:400], "stop", 300, 90, "model@1")


def parts(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def size_on_disk(folder: Path) -> float:
    """Return what the files of a folder take, in MB of 10^6 bytes, by blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6


def ours(args: argparse.Namespace) -> dict[str, Any]:
    made = list(answers(args.answers))
    keys = [answer.key for answer in made]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_store(folder / "store" / "a.sqlite") as store:
            writing, _ = timed(lambda: [store.add(part) for part in parts(made, WRITTEN)])
            looking, stored = timed(lambda: sum(len(store.get(part)) for part in parts(keys, LOOKED_UP)))
            assert stored == len(keys)
            export, exported = timed(lambda: store.export(folder / "all.sqlite"))
        with open_store(folder / "other.sqlite") as other:
            other.add(made[: len(made) // 2])
            merge, merged = timed(lambda: other.merge(folder / "all.sqlite"))
        assert (exported, merged) == (len(made), len(made) - len(made) // 2)
        size = size_on_disk(folder / "store")
    figures = {"seconds": looking, "write": writing, "export": export, "merge": merge, "size_mb": size}
    return figures | {"peak_mb": peak_memory_mb()}


def files(args: argparse.Namespace) -> dict[str, Any]:
    made = list(answers(args.answers))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def path(key: str) -> Path:
            return folder / key[:2] / f"{key}.json"

        for number in range(256):
            (folder / f"{number:02x}").mkdir()
        writing, _ = timed(lambda: [path(answer.key).write_text(json.dumps(answer)) for answer in made])
        looking, stored = timed(lambda: sum(1 for one in made if json.loads(path(one.key).read_text())[0] == one.key))
        assert stored == len(made)
        size = size_on_disk(folder)
    return {"seconds": looking, "write": writing, "size_mb": size, "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sides = {side: side_command(__file__, side, "--answers", args.answers) for side in ("ours", "files")}
    figures = medians(run_in_turn(sides, args.rounds))
    a, b = figures["ours"], figures["files"]
    yield (
        "response_store",
        benchmark_record(
            f"{args.answers:,} look-ups in the response store, against a JSON file per answer",
            "seconds",
            Measurement(a["seconds"], a["peak_mb"]),
            Measurement(b["seconds"], b["peak_mb"]),
            higher_is_better=False,
            finding=f"{a['seconds']:.2f} s against {b['seconds']:.2f} s for files that were just written; writing "
            f"{a['write']:.1f} s in batches of {WRITTEN} against {b['write']:.1f} s, export {a['export']:.1f} s, merge "
            f"of half of them {a['merge']:.1f} s; {a['size_mb']:.0f} MB on disk against {b['size_mb']:.0f} MB",
            command="python experiments/benchmarks/response_store.py",
            **run_conditions(args.rounds),
            figures={side: {name: round(value, 3) for name, value in each.items()} for side, each in figures.items()},
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    run_side_or_all(parser, {"ours": ours, "files": files}, results)


if __name__ == "__main__":
    main()
