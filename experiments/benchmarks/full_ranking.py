"""The best 20 items for every user of amazon-beauty, their histories excluded, side by side with RecTools.

Run: python experiments/benchmarks/full_ranking.py --data FOLDER --rectools-python PATH

FOLDER holds Beauty.inter.json (preset amazon-beauty); PATH is the interpreter of an environment of its own with
    pip install "rectools[torch]==0.19.0"
Every side runs in a process of its own on two threads, in turn, medians of the rounds. Both begin with a SASRec of the
same sizes and all users' whole histories, encode these and rank all items: theirs is `recommend`. Then ours ranks from
the factors that RecTools made, and has to give RecTools' own lists. None of its code is part of this repository.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rectools_common import SETTINGS, benchmark_parser, run_conditions, theirs, write_data
from rectools_side import load
from sasrec_training import params
from scipy.sparse import csr_matrix
from side_by_side import (
    Measurement,
    benchmark_record,
    medians,
    peak_memory_mb,
    run,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.ranking.search import search_top_k
from sidflow.sequences.windows import recent_windows
from sidflow.sequential.model import IdEmbedding, build_encoder
from sidflow.sequential.serve import query_states
from sidflow.training.devices import prepare_training

STEPS = 10  # of training before theirs recommends; time does not depend on what is learned


def histories(sequences: list[np.ndarray], count: int) -> csr_matrix:
    """Return which items stand in whose sequence, bool CSR [users, count]."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sequences])])
    items = np.concatenate(sequences)
    matrix = csr_matrix((np.ones(len(items), dtype=bool), items, offsets), shape=(len(sequences), count))
    matrix.sum_duplicates()
    return matrix


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Encode and rank everybody."""
    sequences, settings = load(args.data)
    prepare_training(settings["seed"], settings["threads"])
    count = int(max(one.max() for one in sequences)) + 1
    chosen = params(0)
    encoder, table = build_encoder(chosen).eval(), IdEmbedding(count, chosen.dimensions)
    began = time.perf_counter()
    windows = recent_windows(sequences, chosen.max_length)
    states = query_states(encoder, table.weight.detach(), windows).numpy()
    encoded = time.perf_counter()
    factors = {"query_states": states, "item_matrix": table.weight.detach().numpy()}
    lists = search_top_k(factors, histories(sequences, count), settings["top"]).items
    seconds = time.perf_counter() - began
    assert lists.min() >= 0
    return {"seconds": seconds, "encoding_seconds": encoded - began, "peak_mb": peak_memory_mb()}


def from_theirs(args: argparse.Namespace) -> dict[str, float]:
    """Rank from the factors that RecTools wrote; return the time, and the share of its lists' items that ours has."""
    sequences, settings = load(args.data)
    prepare_training(settings["seed"], settings["threads"])
    with np.load(args.factors) as arrays:
        states, matrix, known_items, expected = (arrays[name] for name in ("states", "matrix", "known", "lists"))
    excluded = csr_matrix(histories(sequences, int(max(one.max() for one in sequences)) + 1)[:, known_items])
    began = time.perf_counter()
    lists = known_items[search_top_k({"query_states": states, "item_matrix": matrix}, excluded, settings["top"]).items]
    seconds = time.perf_counter() - began
    same = np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(lists, expected, strict=True)])
    return {"seconds": seconds, "same": float(same), "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path, factors = Path(folder) / "sequences.npz", Path(folder) / "factors.npz"
        write_data(args.data, path, held_out=0)
        sides = {
            "theirs": theirs(args, "recommend", path, "--steps", STEPS, "--factors", factors),
            "ours": side_command(__file__, "ours", "--data", path),
        }
        figures = medians(run_in_turn(sides, args.rounds, SETTINGS["threads"]))
        with np.load(factors) as arrays:
            users = len(arrays["lists"])
        checked = run(side_command(__file__, "from_theirs", "--data", path, "--factors", factors), SETTINGS["threads"])
    assert checked["same"] > 0.999, f"from RecTools' factors only {checked['same']:.4f} of its items are found"
    a, b = figures["ours"], figures["theirs"]
    yield (
        "full_ranking",
        benchmark_record(
            f"Top {SETTINGS['top']} for all {users:,} users of amazon-beauty, from histories, against RecTools",
            "seconds",
            Measurement(a["seconds"], a["peak_mb"]),
            Measurement(b["seconds"], b["peak_mb"]),
            higher_is_better=False,
            finding=f"{a['seconds']:.2f} s ({a['encoding_seconds']:.2f} s of it to encode histories) against "
            f"{b['seconds']:.2f} s of `recommend`, two threads; from RecTools' own factors ours takes "
            f"{checked['seconds']:.2f} s and finds {100 * checked['same']:.2f}% of the items that RecTools lists",
            **run_conditions("full_ranking.py", args),
            from_their_factors=checked,
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--factors", type=Path, help=argparse.SUPPRESS)
    run_side_or_all(parser, {"ours": ours, "from_theirs": from_theirs}, results)


if __name__ == "__main__":
    main()
