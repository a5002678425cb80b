"""Probabilities over the codes that go on, or over the whole vocabulary: in training, and in decoding.

Run: python experiments/benchmarks/generative_normalise.py --run FOLDER

FOLDER holds a finished run of the preset `embedded-generative` or `embedded`, which have the same `tiger`. `tiger` is
trained with `normalise: children` and with `normalise: vocabulary`; each is decoded both ways by validation's beam. The
figure is nDCG@10 over all validation queries, of the best epoch; the test part is not looked at. Differences are
paired: means over seeds of each user, then a bootstrap over users.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import generative_training as training
import numpy as np
import torch
from generative_training_quality import interval
from side_by_side import (
    Measurement,
    benchmark_parser,
    benchmark_record,
    peak_memory_mb,
    run,
    run_conditions,
    run_side_or_all,
    side_command,
)

from sidflow.generative.ranking import Decoder, ranks_by_beam
from sidflow.generative.vocabulary import Normalise
from sidflow.metrics.ranking import metric_at_k
from sidflow.training.loop import fit

BOTH: tuple[Normalise, ...] = get_args(Normalise)


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """Train with one normalisation; return nDCG@10 of every validation query, decoded with each."""
    os.chdir(args.run)
    task, _ = training.prepared(args.seed, one_target=False, changes={"normalise": args.way})
    loop = task.params.loop.model_copy(update={"epochs": args.epochs, "patience": 0})
    fitted = fit("generative_normalise", task, loop, seed=args.seed, device=torch.device("cpu"))
    values = {}
    for by in BOTH:
        decoder = Decoder.of(task.model, task.ids, task.candidates, by)
        params, queries = task.params, task.queries
        ranks, sharing = ranks_by_beam(decoder, task.histories, queries, params.max_length, params.validate_beam)
        values[by] = np.round(metric_at_k(ranks, "ndcg", 10, sharing), 6).tolist()
    curve = [round(row["valid_ndcg_at_10"], 5) for row in fitted.curves]
    return {"values": values, "curve": curve, "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    values: dict[str, list[list[float]]] = {}
    peak: dict[str, float] = {}
    for seed in args.seeds:
        for way in BOTH:
            more = ["--run", args.run, "--way", way, "--epochs", args.epochs, "--seed", seed]
            one = run(side_command(__file__, "trained", *more), 1)
            print(f"seed {seed}, {way}: {one['curve']}", file=sys.stderr, flush=True)
            peak[way] = max(peak.get(way, 0.0), one["peak_mb"])
            for by in BOTH:
                values.setdefault(f"trained by {way}, decoded by {by}", []).append(one["values"][by])
    every = {name: np.array(each) for name, each in values.items()}
    means = {name: float(each.mean()) for name, each in every.items()}
    ours, theirs = (f"trained by {by}, decoded by {by}" for by in BOTH)
    difference, low, high = interval((every[ours] - every[theirs]).mean(0))
    yield (
        "generative_normalise",
        benchmark_record(
            f"`tiger` on the embedded catalogue, {args.epochs} epochs: probabilities over the codes that go on, "
            "against over the whole vocabulary",
            "nDCG@10 on validation",
            Measurement(means[ours], peak["children"]),
            Measurement(means[theirs], peak["vocabulary"]),
            higher_is_better=True,
            finding=f"mean of {len(args.seeds)} seeds {means[ours]:.4f} against {means[theirs]:.4f}: "
            f"{difference:+.4f}, 95% interval {low:+.4f} to {high:+.4f} over users; "
            + "; ".join(f"{name}: {mean:.4f}" for name, mean in means.items() if name not in (ours, theirs)),
            command=f"python experiments/benchmarks/generative_normalise.py --run FOLDER --epochs {args.epochs} "
            f"--seeds {' '.join(map(str, args.seeds))}",
            means={name: round(mean, 5) for name, mean in means.items()},
            by_seed={name: np.round(each.mean(1), 5).tolist() for name, each in every.items()},
            **run_conditions(1, 1),
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--way", choices=BOTH, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    run_side_or_all(parser, {"trained": trained}, results)


if __name__ == "__main__":
    main()
