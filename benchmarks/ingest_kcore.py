"""Ingest of 10 million interactions against a bare polars k-core. Run: python benchmarks/ingest_kcore.py.

Ours is the whole stage: read, sort keys, order by time and hashed ties, measure repeats and ties, iterated 5-core,
dense ids by sorted key, positions, checks, and the written artifacts. Theirs reads the same file, casts the keys to
categoricals and keeps large enough groups until nothing changes; it orders nothing, numbers nothing and writes nothing.
Each side runs in a process of its own, in turn; the figures are medians.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/ingest_kcore.json"
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
    from sidflow.catalog.ingest import ingest
    from sidflow.catalog.params import IngestParams
    from sidflow.contracts.artifacts.interactions import INTERACTIONS
    from sidflow.contracts.artifacts.items import ITEMS as ITEM_TABLE
    from sidflow.contracts.artifacts.users import USERS as USER_TABLE

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


def peak_mb() -> float:
    """Return this process's own peak; `ru_maxrss` would also hold that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 976.56
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(side: str, path: Path) -> dict[str, float]:
    """Run one side in a process of its own: events left, seconds of work, peak MB."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), "--side", side, "--data", str(path)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "theirs"])
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    if given.side:
        began = time.perf_counter()
        left = {"ours": ours, "theirs": theirs}[given.side](given.data)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"left": left, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": peak_mb()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.parquet"
        make(path, given.events)
        runs = {side: [] for side in ("theirs", "ours")}
        for _ in range(given.rounds):
            for side, results in runs.items():
                results.append(measure(side, path))
    assert len({run["left"] for results in runs.values() for run in results}) == 1, "the two cores differ"
    seconds = {side: statistics.median(run["seconds"] for run in results) for side, results in runs.items()}
    cpu = {side: statistics.median(run["cpu"] for run in results) for side, results in runs.items()}
    peak = {side: max(run["peak"] for run in results) for side, results in runs.items()}
    result = {
        "claim": f"ingest of {given.events:,} interactions, whole stage, against a bare polars 5-core of the same file",
        "unit": "seconds",
        "ours": round(seconds["ours"], 2),
        "theirs": round(seconds["theirs"], 2),
        "ratio": round(seconds["theirs"] / seconds["ours"], 3),
        "peak_memory_ours": round(peak["ours"]),
        "peak_memory_theirs": round(peak["theirs"]),
        "cpu_seconds_ours": round(cpu["ours"], 2),
        "cpu_seconds_theirs": round(cpu["theirs"], 2),
        "interactions_left": runs["ours"][0]["left"],
        "rounds": given.rounds,
        "load_average": round(os.getloadavg()[0], 1),
        "command": "python benchmarks/ingest_kcore.py",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    print(json.dumps(result, indent=2))
    if given.events == 10_000_000:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
