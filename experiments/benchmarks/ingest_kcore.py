"""Ingest of 10 million interactions against a bare polars k-core. Run: python experiments/benchmarks/ingest_kcore.py.

Ours is the whole stage: read, sort keys, order by time and hashed ties, measure repeats and ties, iterated 5-core,
dense ids by sorted key, positions, checks, and the written artifacts. Theirs reads the same file, casts the keys to
categoricals and keeps large enough groups until nothing changes; it orders nothing, numbers nothing and writes nothing.
Each side runs in a process of its own, in turn; the figures are medians.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
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

EVENTS = 10_000_000  # of the claim; what other numbers give is not written
USERS, ITEMS = 900_000, 250_000


def make(path: Path, events: int) -> None:
    """Write a long-tailed data set with string keys, times in seconds, a fifth of them tied."""
    rng = np.random.default_rng(5)
    user = np.minimum(rng.lognormal(0, 1.4, events) / 40 * USERS, USERS - 1).astype(np.int64)
    item = np.minimum((rng.pareto(0.6, events) * 900), ITEMS - 1).astype(np.int64)
    second = rng.integers(1_300_000_000, 1_600_000_000, events)
    second = np.where(rng.random(events) < 0.2, second // 86_400 * 86_400, second)
    scramble = rng.permutation(USERS)[user]
    frame = pl.DataFrame({"user_id": scramble, "item_id": rng.permutation(ITEMS)[item], "timestamp": second})
    frame.with_columns(
        pl.format("A{}U", pl.col("user_id") * 7919), pl.format("B{}", pl.col("item_id") * 104_729)
    ).write_parquet(path)


def ours(path: Path) -> int:
    """Run the stage on the file; artifacts go to the current folder."""
    from sidflow.artifacts.catalog import INTERACTIONS
    from sidflow.artifacts.catalog import ITEMS as ITEM_TABLE
    from sidflow.artifacts.catalog import USERS as USER_TABLE
    from sidflow.catalog.ingest import ingest
    from sidflow.catalog.params import IngestParams

    catalog = ingest(IngestParams(source="files", path=str(path), outside_core="none"))
    INTERACTIONS.write(catalog.interactions)
    ITEM_TABLE.write(catalog.items)
    USER_TABLE.write(catalog.users)
    return catalog.interactions.height


def theirs(path: Path) -> int:
    """The k-core as one writes it in polars."""
    frame = pl.read_parquet(path).with_columns(pl.col("user_id", "item_id").cast(pl.Categorical))
    while True:
        before = frame.height
        for column in ("user_id", "item_id"):
            enough = frame.group_by(column).len().filter(pl.col("len") >= 5)
            frame = frame.join(enough, on=column, how="semi")
        if frame.height == before:
            return before


SIDES = {"ours": ours, "theirs": theirs}


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run one side in this process: events left, seconds of work, peak MB."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        began = time.perf_counter()
        left = SIDES[args.side](args.data)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"left": left, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    args.dry = args.dry or args.events != EVENTS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.parquet"
        make(path, args.events)
        rounds = run_in_turn(
            {side: side_command(__file__, side, "--data", path) for side in ("theirs", "ours")}, args.rounds
        )
    left = {one["left"] for each in rounds.values() for one in each}
    assert len(left) == 1, "the two cores differ"
    figures = medians(rounds)
    peak = {side: max(one["peak"] for one in each) for side, each in rounds.items()}
    yield (
        "ingest_kcore",
        benchmark_record(
            f"ingest of {args.events:,} interactions, whole stage, against a bare polars 5-core of the same file",
            "seconds",
            Measurement(figures["ours"]["seconds"], peak["ours"]),
            Measurement(figures["theirs"]["seconds"], peak["theirs"]),
            higher_is_better=False,
            command="python experiments/benchmarks/ingest_kcore.py",
            **run_conditions(args.rounds),
            cpu_seconds_ours=round(figures["ours"]["cpu"], 2),
            cpu_seconds_theirs=round(figures["theirs"]["cpu"], 2),
            interactions_left=left.pop(),
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    run_side_or_all(parser, dict.fromkeys(SIDES, measure), results)


if __name__ == "__main__":
    main()
