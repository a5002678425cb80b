"""MME-SID's training, side by side with the published way: time per epoch, and with --quality what is learned.

Run: python experiments/benchmarks/mme_sid_training.py --run amazon-beauty=FOLDER
then: python experiments/benchmarks/mme_sid_training.py --run embedded=FOLDER --quality --seeds 42 43 44

FOLDER holds a project in which the preset has run. Both sides have the same backbone, heads, initial weights, optimizer
and training loop, and learn the same targets: every item of every training part but the first. Ours predicts at every
position of a history in one pass, the instruction computed once a step; theirs is `mme_sid_published.py`. Each side is
a process of its own. Time: steps of one epoch after a warm-up, all of them for ours, `--batches` of theirs, each taken
up to a whole epoch by its targets. Quality: as many epochs each, and for theirs the better of two learning rates (the
published one and ours), the best epoch's NDCG@10 over all validation queries.
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
from mme_sid_published import BATCH, RATE, WARMUP_STEPS, Published, PublishedTask
from side_by_side import Side, facts, in_turn, medians, one_side_or_all, peak_mb, result_of, run

from sidflow.mme_sid.model import MmeSidTask
from sidflow.training.devices import pick_device
from sidflow.training.loop import LoopParams, fit

WARM_UP = 5  # steps


def prepared(side: str, given: argparse.Namespace) -> tuple[MmeSidTask | PublishedTask, LoopParams, np.ndarray, int]:
    """Return the task, its loop, how many targets each of its rows has, and the seed."""
    project = common.load(given.run, given.threads, given.seed)
    model = common.fresh(project)
    loop = project.settings.loop.model_copy(update={"epochs": given.epochs, "patience": 0})
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
    loop = loop.model_copy(update={"warmup_steps": WARMUP_STEPS, "learning_rate": given.rate or loop.learning_rate})
    return PublishedTask(published), loop, np.ones(count, dtype=np.int64), project.seed


def timed(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return targets a second after the warm-up, and what that makes of an epoch."""
    given.epochs = 1
    task, loop, targets, seed = prepared(side, given)
    share = common.Share(task, given.batches and WARM_UP + given.batches)
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
        "peak_mb": peak_mb(),
    }


def learned(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return validation NDCG@10 after each epoch."""
    task, loop, _, seed = prepared(side, given)
    began = time.perf_counter()
    fitted = fit(side, task, loop, seed=seed, device=pick_device())
    curve = [round(row["valid_ndcg_at_10"], 5) for row in fitted.curves]
    seconds = time.perf_counter() - began
    return {"best": fitted.best_value, "curve": curve, "seconds": round(seconds, 1), "peak_mb": peak_mb()}


def compare_time(given: argparse.Namespace) -> dict[str, Any]:
    sides = {
        "theirs": common.own(__file__, "theirs", given, "--batches", given.batches),
        "ours": common.own(__file__, "ours", given, "--batches", 0),
    }
    found = medians(in_turn(sides, given.rounds, given.threads))
    a, b = found["ours"], found["theirs"]
    name = common.name_of(given.run)
    return result_of(
        f"MME-SID on {name}, an epoch of {a['targets']:,.0f} targets: one pass a history against one a prefix",
        "seconds",
        Side(a["epoch_seconds"], a["peak_mb"]),
        Side(b["epoch_seconds"], b["peak_mb"]),
        higher_is_better=False,
        finding=f"{a['epoch_seconds']:.1f} s an epoch ({a['per_second']:,.0f} targets/s, {a['steps_an_epoch']:.0f} "
        f"steps) against {b['epoch_seconds']:,.0f} s ({b['per_second']:,.0f} targets/s, {b['steps_an_epoch']:,.0f} "
        f"steps of {BATCH} samples; taken up from {b['targets_timed']:,.0f} targets after a warm-up of {WARM_UP} "
        f"steps); peak memory {a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB",
        command=f"python experiments/benchmarks/mme_sid_training.py --run {name}=FOLDER",
        **facts(given.rounds, given.threads),
        targets_per_second_ours=round(a["per_second"], 1),
        targets_per_second_theirs=round(b["per_second"], 1),
        batches_timed_theirs=given.batches,
        epoch_cpu_seconds_ours=round(a["epoch_cpu_seconds"], 2),  # what else runs on the machine moves it less
        epoch_cpu_seconds_theirs=round(b["epoch_cpu_seconds"], 1),
    )


def compare_quality(given: argparse.Namespace) -> dict[str, Any]:
    name = common.name_of(given.run)
    sides = {"ours": ("ours", 0), "theirs at ours": ("theirs", 0), "theirs as published": ("theirs", RATE)}
    found: dict[str, list[dict[str, Any]]] = {one: [] for one in sides}
    for seed in given.seeds:
        for label, (side, rate) in sides.items():
            more = ["--quality", "--rate", rate, "--epochs", given.epochs, "--seed", seed]
            found[label].append(run(common.own(__file__, side, given, *more), given.threads))
            print(f"seed {seed}, {label}: {found[label][-1]}", file=sys.stderr)
    means = {label: statistics.mean(one["best"] for one in each) for label, each in found.items()}
    better = max(("theirs at ours", "theirs as published"), key=means.__getitem__)
    seconds = {label: statistics.mean(one["seconds"] for one in each) for label, each in found.items()}
    peak = {label: max(one["peak_mb"] for one in each) for label, each in found.items()}
    return result_of(
        f"MME-SID on {name}, {given.epochs} epochs each: validation NDCG@10 against the published training",
        "NDCG@10",
        Side(means["ours"], peak["ours"]),
        Side(means[better], peak[better]),
        higher_is_better=True,
        finding=f"NDCG@10 of the best of {given.epochs} epochs over all validation queries, mean of "
        f"{len(given.seeds)} seed{'s' * (len(given.seeds) > 1)}: {means['ours']:.4f} after {seconds['ours']:,.0f} s "
        f"against {means['theirs at ours']:.4f} (our learning rate) and {means['theirs as published']:.4f} "
        f"(the published {RATE:g}) after {seconds[better]:,.0f} s; the better one counts",
        command=f"python experiments/benchmarks/mme_sid_training.py --run {name}=FOLDER --quality --epochs {given.epochs} "
        f"--seeds {' '.join(map(str, given.seeds))}",
        **facts(1, given.threads),
        runs=found,
    )


def measured(given: argparse.Namespace) -> dict[str, Any]:
    return (learned if given.quality else timed)(given.side, given)


def results(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    if given.quality:
        yield "mme_sid_training_quality", compare_quality(given)
    else:
        yield "mme_sid_training", compare_time(given)


def main() -> None:
    parser = common.arguments(__doc__, rounds=3)
    parser.add_argument("--batches", type=int, default=60, help="of theirs, after the warm-up; 0: a whole epoch")
    parser.add_argument("--quality", action="store_true", help="compare what is learned instead of time")
    parser.add_argument("--epochs", type=int, default=3, help="with --quality")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="with --quality")
    parser.add_argument("--rate", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    one_side_or_all(parser, {"ours": measured, "theirs": measured}, results)


if __name__ == "__main__":
    main()
