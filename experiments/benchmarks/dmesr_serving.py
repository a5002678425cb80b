"""DMESR served from its weights over 10,000, 100,000 and 1,000,000 items, against its base model.

Run: python experiments/benchmarks/dmesr_serving.py

Both are SASRec, 64 wide, over the vectors of `dmesr_step`; nothing is trained, since time does not depend on what is
learned. One process fuses the table and writes the weights as training does. The sides, each in a process of its own,
load the weights, encode histories of 50 items and rank all items for each: the best 20, the history excluded. Loading
is not in the users a second; it is in the peak memory, of the process. DMESR's file also holds the free vectors and the
fusion, which nobody needs to serve it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from full_ranking import histories
from side_by_side import (
    ITEM_COUNTS,
    Measurement,
    benchmark_parser,
    benchmark_record,
    medians,
    peak_memory_mb,
    run,
    run_conditions,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.artifacts.recommenders import WEIGHTS
from sidflow.ranking.search import search_top_k
from sidflow.sequential.serve import load_recommender
from sidflow.training.checkpoint import weights_to_arrays
from sidflow.training.devices import prepare_training

SEED = 42
LENGTH, DIMENSIONS, TOP = 50, 64, 20
MODELS = ("dmesr", "base")
FUSING = "sidflow.multimodal.dmesr"


def write_weights(args: argparse.Namespace) -> dict[str, Any]:
    """Fuse the item vectors, and write the weights of both recommenders, as training does at its end."""
    from dmesr_step import random_content

    from sidflow.multimodal.dmesr import DmesrItemEmbedding, DmesrParams
    from sidflow.sequential.model import IdEmbedding, build_encoder
    from sidflow.sequential.params import SasrecParams

    prepare_training(SEED, args.threads)
    base = SasrecParams(dimensions=DIMENSIONS, max_length=LENGTH, loss="sampled")
    encoder = weights_to_arrays(build_encoder(base), "encoder.")
    fused = DmesrItemEmbedding(random_content(args.items), args.items, DIMENSIONS, base.init_std, DmesrParams())
    began = time.perf_counter()
    with torch.no_grad():
        table = fused.eval()().numpy()
    seconds = time.perf_counter() - began
    metadata = {"settings": base.model_dump(mode="json")}
    WEIGHTS.write({"item_matrix": table, **encoder, **weights_to_arrays(fused, "items.")}, metadata, model="dmesr")
    free = IdEmbedding(args.items, DIMENSIONS, base.init_std).weight.detach().numpy()
    WEIGHTS.write({"item_matrix": free, **encoder}, metadata, model="base")
    return {"fusing_seconds": seconds}


def serve(args: argparse.Namespace) -> dict[str, Any]:
    """Load the weights of one recommender and answer all histories; the best of the repeats."""
    prepare_training(SEED, args.threads)
    draw = np.random.default_rng(SEED)
    sequences = list(draw.integers(args.items, size=(args.users, LENGTH)).astype(np.int32))
    excluded = histories(sequences, args.items)
    recommender = load_recommender(args.side)
    loaded = peak_memory_mb()
    seconds = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        lists = search_top_k(recommender.answer(sequences).arrays(), excluded, TOP).items
        seconds.append(time.perf_counter() - began)
        assert lists.shape == (args.users, TOP) and lists.min() >= 0
    assert FUSING not in sys.modules, "serving has loaded what fuses item vectors"
    return {"users_per_second": args.users / min(seconds), "peak_mb": peak_memory_mb(), "loaded_mb": loaded}


def in_folder(args: argparse.Namespace) -> dict[str, Any]:
    """Run a side where the weights are."""
    os.chdir(args.folder)
    return write_weights(args) if args.side == "write" else serve(args)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    script = Path(__file__).resolve()
    for size in args.sizes:
        items = ITEM_COUNTS[size]
        with tempfile.TemporaryDirectory() as folder:
            more = ("--folder", folder, "--items", items, "--users", args.users)
            more = (*more, "--repeats", args.repeats, "--threads", args.threads)
            written = run(side_command(str(script), "write", *more), args.threads)
            sides = {name: side_command(str(script), name, *more) for name in MODELS}
            figures = medians(run_in_turn(sides, args.rounds, args.threads))
        ours, base = (figures[name] for name in MODELS)
        yield (
            f"dmesr_serving_{size}",
            benchmark_record(
                f"DMESR served over {items:,} items, from loaded weights, against its base model",
                "users a second",
                Measurement(ours["users_per_second"], ours["peak_mb"]),
                Measurement(base["users_per_second"], base["peak_mb"]),
                higher_is_better=True,
                finding=f"{ours['users_per_second']:,.0f} users a second and {ours['peak_mb']:,.0f} MB against "
                f"{base['users_per_second']:,.0f} and {base['peak_mb']:,.0f} MB; {args.users:,} histories of {LENGTH} "
                f"items, the best {TOP} of all items. Fusing the table takes {written['fusing_seconds']:.2f} s, once, "
                "when training ends; serving does not load the code that fuses",
                command="python experiments/benchmarks/dmesr_serving.py",
                **run_conditions(args.rounds, args.threads),
                repeats=args.repeats,
                users=args.users,
                fusing_seconds=written["fusing_seconds"],
                loaded_mb={name: figures[name]["loaded_mb"] for name in MODELS},
            ),
        )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3, threads=1)
    parser.add_argument("--items", type=int, default=ITEM_COUNTS["10k"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="+", choices=list(ITEM_COUNTS), default=list(ITEM_COUNTS))
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3, help="in each process; the best counts")
    run_side_or_all(parser, dict.fromkeys(("write", *MODELS), in_folder), results)


if __name__ == "__main__":
    main()
