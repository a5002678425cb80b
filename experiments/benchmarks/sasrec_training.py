"""Training of SASRec on amazon-beauty, side by side with RecTools at the same sizes on the same sequences.

Run: python experiments/benchmarks/sasrec_training.py --data FOLDER --rectools-python PATH

FOLDER holds Beauty.inter.json (preset amazon-beauty); PATH is the interpreter of an environment of its own with
    pip install "rectools[torch]==0.19.0" torch==2.13.0
Every side trains in a process of its own on two threads, in turn, medians of the rounds. All but the last two items of
each user; of longer histories the last 51. Theirs: batches of one length, so that steps after a warm-up tell the rate;
once as it is, once with logits of real targets alone (the same loss, a few lines laid over it from outside). Ours:
whole epochs after one of warm-up, as its batches are of unlike lengths. RecTools draws 256 negatives for each position,
ours 256 for a batch; ours with 256 for each position stands beside it, so that the part of the ratio which is not in
the drawing can be told. None of RecTools' code is part of this repository.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rectools_common import SETTINGS, benchmark_parser, run_conditions, theirs, write_data
from rectools_side import load
from side_by_side import (
    Measurement,
    benchmark_record,
    medians,
    peak_memory_mb,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.sequences.windows import Windows, recent_windows, shuffled_batches
from sidflow.sequential.model import IdEmbedding, SequenceModel, WindowLosses
from sidflow.sequential.params import SasrecParams
from sidflow.training.devices import prepare_training
from sidflow.training.loop import LoopParams, fit
from sidflow.training.softmax import TrainingScores


class Task:
    """Training without validation."""

    def __init__(self, model: SequenceModel, windows: Windows) -> None:
        self.module: torch.nn.Module = WindowLosses(model, windows)
        self.windows, self.size = windows, model.settings.batch_size

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Return the epoch's batches as training has them."""
        return shuffled_batches(self.windows.lengths, self.size, generator)

    def validate(self) -> dict[str, float]:
        """Return nothing."""
        return {}


class OwnNegatives(torch.nn.Module):
    """The sampled softmax with `count` negatives of each position's own, as RecTools has it."""

    sampled = False  # draws by itself, from all items

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, scores: TrainingScores) -> torch.Tensor:
        """Return the mean loss over the positions; all items are scored.

        Gradients are taken with the loss, 1,024 places at a time. A place's few items are picked from the logits of
        all: one large product takes less time than a row gathered for every negative.
        """
        states, vectors, targets = scores.states, scores.item_matrix, scores.targets
        drawn = torch.randint(len(vectors), (len(states), self.count))
        value, of_states, of_vectors = torch.zeros(()), torch.empty_like(states), torch.zeros_like(vectors)
        with torch.no_grad():
            candidates = torch.cat([targets[:, None], drawn], 1).split(1024)
            for part, some, into in zip(states.split(1024), candidates, of_states.split(1024), strict=True):
                table = part @ vectors.T
                chances = table.gather(1, some).log_softmax(1)
                value -= chances[:, 0].sum() / len(states)
                chances.exp_()[:, 0] -= 1
                wrong = table.zero_().scatter_add_(1, some, chances.div_(len(states)))
                torch.mm(wrong, vectors, out=into)
                of_vectors.addmm_(wrong.T, part)
        carrier = (states * of_states).sum() + (vectors * of_vectors).sum()
        return carrier + (value - carrier).detach()


def params(epochs: int) -> SasrecParams:
    same = ("dimensions", "blocks", "heads", "feedforward", "max_length", "dropout", "negatives", "batch_size")
    loop = LoopParams(epochs=epochs, patience=0, learning_rate=SETTINGS["learning_rate"])
    return SasrecParams.model_validate(
        {name: SETTINGS[name] for name in same}
        | {"item_dropout": 0.0, "attention_dropout": SETTINGS["dropout"], "loss": "sampled", "loop": loop}
    )


def per_position(args: argparse.Namespace) -> dict[str, float]:
    """Train as `ours` does, with negatives as RecTools draws them."""
    return ours(args, OwnNegatives(SETTINGS["negatives"]))


def ours(args: argparse.Namespace, objective: OwnNegatives | None = None) -> dict[str, float]:
    """Train `--epochs` epochs after one of warm-up, on another `objective` if given, and return sequences a second."""
    sequences, settings = load(args.data)
    prepare_training(settings["seed"], settings["threads"])
    count = int(max(one.max() for one in sequences)) + 1
    windows = recent_windows(sequences, settings["max_length"] + 1)
    chosen = params(1 + args.epochs)
    counts = torch.from_numpy(np.bincount(np.concatenate(sequences), minlength=count))
    model = SequenceModel(chosen, IdEmbedding(count, chosen.dimensions), counts)
    if objective is not None:
        model.add_module("objective", objective)
    task = Task(model, windows)
    ticks: list[float] = []
    fit(
        "ours", task, chosen.loop, seed=settings["seed"], device=torch.device("cpu"),
        on_step=lambda _: ticks.append(time.perf_counter()),
    )  # fmt: skip
    steps = math.ceil(len(windows.lengths) / chosen.batch_size)
    assert len(ticks) == steps * (1 + args.epochs)
    return {
        "per_second": len(windows.lengths) * args.epochs / (ticks[-1] - ticks[steps - 1]),
        "peak_mb": peak_memory_mb(),
    }


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        write_data(args.data, path, held_out=2)
        steps = ("--steps", args.steps, "--warm-up", args.warm_up)
        sides = {kind: theirs(args, "train", path, *steps, "--kind", kind) for kind in ("stock", "unpadded")}
        for side in SIDES:
            sides[side] = side_command(__file__, side, "--data", path, "--epochs", args.epochs)
        figures = medians(run_in_turn(sides, args.rounds, SETTINGS["threads"]))
    assert figures["unpadded"]["loss_difference"] < 1e-5, "the loss of real targets is not RecTools' own"
    a, alike = figures["ours"], figures["per_position"]
    for kind, name, against in (
        ("stock", "sasrec_training", "RecTools as it is"),
        ("unpadded", "sasrec_training_unpadded", "RecTools with logits of real targets alone"),
    ):
        b = figures[kind]
        yield (
            name,
            benchmark_record(
                f"Training SASRec on amazon-beauty, sampled softmax, against {against}",
                "sequences/s",
                Measurement(a["per_second"], a["peak_mb"]),
                Measurement(b["per_second"], b["peak_mb"]),
                higher_is_better=True,
                finding=f"{a['per_second']:,.0f} training sequences a second against {b['per_second']:,.0f} on two "
                "threads, 64 dimensions, one block, at most 50 items, 256 negatives (ours shares a batch's, RecTools "
                f"draws them for each position: drawn so, ours trains on {alike['per_second']:,.0f}, "
                f"{alike['per_second'] / b['per_second']:.2f}x, with {alike['peak_mb']:,.0f} MB), batch 128; peak "
                f"memory {a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB",
                **run_conditions("sasrec_training.py", args),
                ours_per_position=alike,
                steps=args.steps,
                epochs=args.epochs,
            ),
        )


SIDES = {"ours": ours, "per_position": per_position}


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--steps", type=int, default=60, help="of theirs, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=10, help="steps of theirs")
    parser.add_argument("--epochs", type=int, default=3, help="of ours, after one of warm-up")
    run_side_or_all(parser, SIDES, results)


if __name__ == "__main__":
    main()
