"""MME-SID's evaluation of all users, side by side with one user per forward pass.

Run: python experiments/benchmarks/mme_sid_evaluation.py --run amazon-beauty=FOLDER

FOLDER holds a project in which the preset has run; the model is the one that it fine-tuned. Both sides answer the test
queries with the best 20 items, the history excluded, and measure recall and nDCG at 5, 10 and 20. Ours encodes all
queries in batches of like length, the instruction once, and ranks by exact inner product. Theirs gives `--users` of
them to the model one by one, instruction and response marker in every row, and scores all items from the four parts'
equations each time; a second figure keeps the folded item matrix for it. Each side is a process of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import mme_sid_common as common
import numpy as np
import torch
from finished_run import name_of
from mme_sid_published import Published, scores_from_parts
from rectools_common import SETTINGS
from side_by_side import (
    Measurement,
    benchmark_record,
    medians,
    peak_memory_mb,
    run_conditions,
    run_in_turn,
    run_side_or_all,
)

from sidflow.backbones.prompted_backbone import PromptedBackbone
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.search import search_top_k
from sidflow.sequences.histories import Histories

CUTOFFS = (5, 10, 20)
TOP = SETTINGS["top"]
WARM_UP = 16  # queries
CHECKED = 64  # queries whose states have to be those of our own code with the same readout


def metrics(lists: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return recall and nDCG of lists [q, TOP]."""
    hit = lists == targets[:, None]
    ranks = np.where(hit.any(1), hit.argmax(1) + 1, TOP + 1)
    return {f"{name}_at_{k}": float(metric_at_k(ranks, name, k).mean()) for name in ("recall", "ndcg") for k in CUTOFFS}


def test_queries(histories: Histories) -> np.ndarray:
    """Return the test queries with a history."""
    return np.flatnonzero(~histories.query_valid & (histories.query_end > 0))


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """Encode and rank everybody."""
    project = common.load(args.run, args.threads)
    model, past = common.fine_tuned_model(args.run, project), project.histories
    queries = test_queries(past)
    model.query_states(past, queries[:WARM_UP])
    began = time.perf_counter()
    with torch.no_grad():
        states, matrix = model.query_states(past, queries).numpy(), model.item_matrix().numpy()
    encoded = time.perf_counter()
    lists = search_top_k({"query_states": states, "item_matrix": matrix}, past.seen(len(matrix), queries), TOP).items
    ready = time.perf_counter()
    figures = metrics(lists, past.targets[queries])
    seconds = time.perf_counter() - began
    return {
        "users": len(queries),
        "items": len(matrix),
        "per_second": len(queries) / seconds,
        "seconds": seconds,
        "encoding_seconds": encoded - began,
        "ranking_seconds": ready - encoded,
        "peak_mb": peak_memory_mb(),
        **figures,
    }


@torch.no_grad()
def theirs(args: argparse.Namespace) -> dict[str, Any]:
    """Answer some users one by one."""
    project = common.load(args.run, args.threads)
    model, past = common.fine_tuned_model(args.run, project), project.histories
    published = Published(model).eval()
    queries = test_queries(past)
    queries = np.random.default_rng(project.seed).permutation(queries)[: WARM_UP + args.users]
    length = np.minimum(past.query_end[queries], model.max_length)
    start = past.offsets[past.query_user[queries]] + past.query_end[queries] - length
    kept = model.item_matrix()

    def states(one: int) -> torch.Tensor:
        return published.states(past.items, start[one : one + 1], length[one : one + 1])

    def best(one: int, scores: torch.Tensor) -> np.ndarray:
        scores[0, torch.from_numpy(past.history(queries[one]).astype(np.int64))] = -torch.inf
        return scores[0].topk(TOP).indices.numpy()

    ways = {
        "per_second": lambda one: best(one, scores_from_parts(model.fusion, states(one))),
        "per_second_kept": lambda one: best(one, states(one) @ kept.T),
    }
    rates: dict[str, float] = {}
    lists: dict[str, np.ndarray] = {}
    for name, way in ways.items():
        for one in range(WARM_UP):
            way(one)
        began = time.perf_counter()
        lists[name] = np.stack([way(one) for one in range(WARM_UP, len(queries))])
        metrics(lists[name], past.targets[queries[WARM_UP:]])
        rates[name] = (len(queries) - WARM_UP) / (time.perf_counter() - began)
    same = float((lists["per_second"] == lists["per_second_kept"]).mean())
    assert same > 0.99, f"the folded matrix gives other lists than the equations: only {same:.3f} of places are alike"
    model.backbone = PromptedBackbone(model.backbone.model, common.prompt(project), "response").eval()
    some = queries[:CHECKED]
    difference = float((model.query_states(past, some) - published.query_states(some)).abs().max())
    assert difference < 1e-3, f"not the states that our own code has with the same readout: {difference:.1e}"
    return {**rates, "difference": difference, "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sides = {
        "theirs": common.side_command(__file__, "theirs", args, "--users", args.users),
        "ours": common.side_command(__file__, "ours", args),
    }
    figures = medians(run_in_turn(sides, args.rounds, args.threads))
    a, b = figures["ours"], figures["theirs"]
    name = name_of(args.run)
    yield (
        "mme_sid_evaluation",
        benchmark_record(
            f"MME-SID on {name}, evaluation of {a['users']:,.0f} users, against one user per forward pass",
            "users/s",
            Measurement(a["per_second"], a["peak_mb"]),
            Measurement(b["per_second"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"{a['per_second']:,.0f} users a second against {b['per_second']:,.1f} "
            f"({b['per_second_kept']:,.1f} with the folded item matrix kept; over {args.users:,} users); ours takes "
            f"{a['seconds']:.1f} s for all {a['users']:,.0f} users, {a['encoding_seconds']:.1f} s of it to encode "
            f"histories and {a['ranking_seconds']:.2f} s to rank {a['items']:,.0f} items; test nDCG@10 "
            f"{a['ndcg_at_10']:.4f}",
            command=f"python experiments/benchmarks/mme_sid_evaluation.py --run {name}=FOLDER",
            **run_conditions(args.rounds, args.threads),
            ratio_item_matrix_kept=round(a["per_second"] / b["per_second_kept"], 1),
            users_theirs=args.users,
            whole_evaluation=a,
        ),
    )


def main() -> None:
    parser = common.benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--users", type=int, default=300, help="of theirs, after the warm-up")
    run_side_or_all(parser, {"ours": ours, "theirs": theirs}, results)


if __name__ == "__main__":
    main()
