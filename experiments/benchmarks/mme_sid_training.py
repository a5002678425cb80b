"""MME-SID's training, side by side with the published way: time per epoch, and with --quality what is learned.

Run: python experiments/benchmarks/mme_sid_training.py --run amazon-beauty=FOLDER
then: python experiments/benchmarks/mme_sid_training.py --run embedded=FOLDER --quality --seeds 42 43 44

FOLDER holds a project in which the preset has run. Both sides have the same backbone, heads, initial weights, optimizer
and training loop, and learn the same targets: every item of every training part but the first. Ours predicts at every
position of a history in one pass, the instruction computed once a step; theirs is `mme_sid_published.py`. Each side is
a process of its own. Time: steps of one epoch after a warm-up, all of them for ours, `--batches` of theirs, each taken
up to a whole epoch by its targets. Quality: as many epochs each, and for theirs the better of two learning rates (the
published one and ours), the best epoch's nDCG@10 over all validation queries.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import mme_sid_common as common
import numpy as np
import torch
from finished_run import name_of
from mme_sid_published import BATCH, RATE, WARMUP_STEPS, Published, PublishedTask
from side_by_side import (
    Measurement,
    benchmark_record,
    medians,
    peak_memory_mb,
    run,
    run_conditions,
    run_in_turn,
    run_side_or_all,
)

from sidflow.core.devices import pick_device
from sidflow.mme_sid.model import MmeSidTask
from sidflow.training.loop import LoopParams, fit

WARM_UP = 5  # steps


def prepare(side: str, args: argparse.Namespace) -> tuple[MmeSidTask | PublishedTask, LoopParams, np.ndarray, int]:
    """Return the task, its loop, how many targets each of its rows has, and the seed."""
    project = common.load(args.run, args.threads, args.seed)
    model = common.new_model(project)
    loop = project.settings.loop.model_copy(update={"epochs": args.epochs, "patience": 0})
    count = int((model.windows.lengths - 1).sum())
    if side == "ours":
        return (
            MmeSidTask(model, project.histories, project.settings),
            loop,
            (model.windows.lengths - 1).numpy(),
            project.seed,
        )
    published = Published(model)
    assert len(published.samples.start) == count, "the sides do not learn the same targets"
    loop = loop.model_copy(update={"warmup_steps": WARMUP_STEPS, "learning_rate": args.rate or loop.learning_rate})
    return PublishedTask(published), loop, np.ones(count, dtype=np.int64), project.seed


def time_epoch(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return targets a second after the warm-up, and what that makes of an epoch."""
    args.epochs = 1
    task, loop, targets, seed = prepare(side, args)
    share = common.PartOfEpoch(task, args.batches and WARM_UP + args.batches)
    ticks: list[tuple[float, float]] = []
    fit(
        side, share, loop, seed=seed, device=pick_device(),
        on_step=lambda _: ticks.append((time.perf_counter(), time.process_time())),
    )  # fmt: skip
    done = sum(int(targets[batch.numpy()].sum()) for batch in share.chosen[WARM_UP:])
    seconds, cpu_seconds = (end - begin for begin, end in zip(ticks[WARM_UP - 1], ticks[-1], strict=True))
    return {
        "per_second": done / seconds,
        "epoch_seconds": seconds * float(targets.sum()) / done,
        "epoch_cpu_seconds": cpu_seconds * float(targets.sum()) / done,
        "targets": int(targets.sum()),
        "targets_timed": done,
        "steps_an_epoch": len(task.batches(0, torch.Generator().manual_seed(0))),
        "peak_mb": peak_memory_mb(),
    }


def train_epochs(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return validation nDCG@10 after each epoch."""
    task, loop, _, seed = prepare(side, args)
    began = time.perf_counter()
    fitted = fit(side, task, loop, seed=seed, device=pick_device())
    curve = [round(row["valid_ndcg_at_10"], 5) for row in fitted.curves]
    seconds = time.perf_counter() - began
    return {"best": fitted.best_value, "curve": curve, "seconds": round(seconds, 1), "peak_mb": peak_memory_mb()}


def compare_time(args: argparse.Namespace) -> dict[str, Any]:
    sides = {
        "theirs": common.side_command(__file__, "theirs", args, "--batches", args.batches),
        "ours": common.side_command(__file__, "ours", args, "--batches", 0),
    }
    figures = medians(run_in_turn(sides, args.rounds, args.threads))
    a, b = figures["ours"], figures["theirs"]
    name = name_of(args.run)
    return benchmark_record(
        f"MME-SID on {name}, an epoch of {a['targets']:,.0f} targets: one pass a history against one a prefix",
        "seconds",
        Measurement(a["epoch_seconds"], a["peak_mb"]),
        Measurement(b["epoch_seconds"], b["peak_mb"]),
        higher_is_better=False,
        finding=f"{a['epoch_seconds']:.1f} s an epoch ({a['per_second']:,.0f} targets/s, {a['steps_an_epoch']:.0f} "
        f"steps) against {b['epoch_seconds']:,.0f} s ({b['per_second']:,.0f} targets/s, {b['steps_an_epoch']:,.0f} "
        f"steps of {BATCH} samples; taken up from {b['targets_timed']:,.0f} targets after a warm-up of {WARM_UP} "
        f"steps); peak memory {a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB",
        command=f"python experiments/benchmarks/mme_sid_training.py --run {name}=FOLDER",
        **run_conditions(args.rounds, args.threads),
        targets_per_second_ours=round(a["per_second"], 1),
        targets_per_second_theirs=round(b["per_second"], 1),
        batches_timed_theirs=args.batches,
        epoch_cpu_seconds_ours=round(a["epoch_cpu_seconds"], 2),  # what else runs on the machine moves it less
        epoch_cpu_seconds_theirs=round(b["epoch_cpu_seconds"], 1),
    )


def compare_quality(args: argparse.Namespace) -> dict[str, Any]:
    name = name_of(args.run)
    sides = {"ours": ("ours", 0), "theirs at ours": ("theirs", 0), "theirs as published": ("theirs", RATE)}
    figures: dict[str, list[dict[str, Any]]] = {one: [] for one in sides}
    for seed in args.seeds:
        for label, (side, rate) in sides.items():
            more = ["--quality", "--rate", rate, "--epochs", args.epochs, "--seed", seed]
            figures[label].append(run(common.side_command(__file__, side, args, *more), args.threads))
            print(f"seed {seed}, {label}: {figures[label][-1]}", file=sys.stderr)
    means = {label: statistics.mean(one["best"] for one in each) for label, each in figures.items()}
    better = max(("theirs at ours", "theirs as published"), key=means.__getitem__)
    seconds = {label: statistics.mean(one["seconds"] for one in each) for label, each in figures.items()}
    peak = {label: max(one["peak_mb"] for one in each) for label, each in figures.items()}
    return benchmark_record(
        f"MME-SID on {name}, {args.epochs} epochs each: validation nDCG@10 against the published training",
        "nDCG@10",
        Measurement(means["ours"], peak["ours"]),
        Measurement(means[better], peak[better]),
        higher_is_better=True,
        finding=f"nDCG@10 of the best of {args.epochs} epochs over all validation queries, mean of "
        f"{len(args.seeds)} seed{'s' * (len(args.seeds) > 1)}: {means['ours']:.4f} after {seconds['ours']:,.0f} s "
        f"against {means['theirs at ours']:.4f} (our learning rate) and {means['theirs as published']:.4f} "
        f"(the published {RATE:g}) after {seconds[better]:,.0f} s; the better one counts",
        command=f"python experiments/benchmarks/mme_sid_training.py --run {name}=FOLDER --quality "
        f"--epochs {args.epochs} --seeds {' '.join(map(str, args.seeds))}",
        **run_conditions(1, args.threads),
        runs=figures,
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    return (train_epochs if args.quality else time_epoch)(args.side, args)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    if args.quality:
        yield "mme_sid_training_quality", compare_quality(args)
    else:
        yield "mme_sid_training", compare_time(args)


def main() -> None:
    parser = common.benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--batches", type=int, default=60, help="of theirs, after the warm-up; 0: a whole epoch")
    parser.add_argument("--quality", action="store_true", help="compare what is learned instead of time")
    parser.add_argument("--epochs", type=int, default=3, help="with --quality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="with --quality")
    parser.add_argument("--rate", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    run_side_or_all(parser, {"ours": measure, "theirs": measure}, results)


if __name__ == "__main__":
    main()
