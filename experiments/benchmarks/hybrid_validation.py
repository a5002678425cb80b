"""Validation of a hybrid after each epoch: cosines of content computed once, against a product in every epoch.

Run: python experiments/benchmarks/hybrid_validation.py

Histories, content and the base model's vectors are random, since time does not depend on what they say. Between the
epochs the prior's weights change, as in training. Both sides rank every query by nine weights of the base model's score
and must give the same figures. The time is of all epochs, the computing of the cosines included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
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

from sidflow.artifacts.features import ItemRows
from sidflow.hybrid import content
from sidflow.hybrid.params import HybridParams
from sidflow.hybrid.prior import ScorePrior, prior_inputs
from sidflow.hybrid.task import HybridValidation
from sidflow.sequences.histories import Histories
from sidflow.training.devices import prepare_training

SEED = 42
LENGTH, BASE, TEXT = 9, 128, 1_024  # events of a user; width of the base model's vectors and of the content
SIDES = {"once": content.COSINE_BYTES, "each epoch": 0}  # memory that cosines may take


def random_histories(users: int, items: int) -> Histories:
    """Return users of `LENGTH` random events, the last one a validation target."""
    drawn = np.random.default_rng(SEED).integers(0, items, users * LENGTH).astype(np.int32)
    offsets, every = np.arange(users + 1) * LENGTH, np.arange(users)
    ends = np.full(users, LENGTH - 1)
    return Histories(drawn, offsets, ends, every, ends, np.ones(users, dtype=bool), drawn[offsets[1:] - 1])


def validate(args: argparse.Namespace) -> dict[str, Any]:
    """Validate as often as there are epochs, in this process."""
    prepare_training(SEED, args.threads)
    content.COSINE_BYTES = SIDES[args.side]
    histories = random_histories(args.users, args.items)
    params = HybridParams(content=("text",), window=20, last=3, neighbours=100)
    rows = np.random.default_rng(SEED).standard_normal((args.items, TEXT), dtype=np.float32)
    inputs = prior_inputs(histories, args.items, {"text": ItemRows(rows, np.ones(args.items, dtype=bool))}, params)
    prior = ScorePrior(inputs, params)
    scores = content.ContentScores(prior.content_rows, args.items, histories)
    validation = HybridValidation(histories, args.items, prior, scores)
    states, matrix = torch.randn(args.users, BASE), torch.randn(args.items, BASE)
    began, figures = time.perf_counter(), []
    for _ in range(args.epochs):
        figures.append(validation.metrics(states, matrix)["valid_ndcg_at_10"])
        with torch.no_grad():
            for weight in prior.parameters():
                weight += 0.1
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_memory_mb(), "ndcg": sum(figures)}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sizes = ("--items", args.items, "--users", args.users, "--epochs", args.epochs, "--threads", args.threads)
    sides = {name: side_command(__file__, name, *sizes) for name in SIDES}
    figures = medians(run_in_turn(sides, args.rounds, args.threads))
    once, each = (figures[name] for name in SIDES)
    assert abs(once["ndcg"] / each["ndcg"] - 1) < 1e-3, (once, each)
    yield (
        "hybrid_validation",
        benchmark_record(
            f"Validating a hybrid, {args.epochs} epochs of {args.users:,} queries: cosines of content once, against a "
            "product in every epoch",
            "seconds",
            Measurement(once["seconds"], once["peak_mb"]),
            Measurement(each["seconds"], each["peak_mb"]),
            higher_is_better=False,
            finding=f"{once['seconds']:.1f} s against {each['seconds']:.1f} s; content {TEXT:,} wide, the base model "
            f"{BASE}, nine weights of its score; {args.items:,} items",
            command=f"python experiments/benchmarks/hybrid_validation.py --rounds {args.rounds}",
            **run_conditions(args.rounds, args.threads),
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3, threads=1)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=8)
    run_side_or_all(parser, dict.fromkeys(SIDES, validate), results)


if __name__ == "__main__":
    main()
