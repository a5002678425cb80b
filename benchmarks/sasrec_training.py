"""Training of SASRec on amazon-beauty, side by side with RecTools at the same sizes on the same sequences.

Run: python benchmarks/sasrec_training.py --data FOLDER --rectools-python PATH

FOLDER holds Beauty.inter.json (preset amazon-beauty); PATH is the interpreter of an environment of its own with
    pip install "rectools[torch]==0.19.0"
Every side trains in a process of its own on two threads, in turn, medians of the rounds. All but the last two items of
each user; of longer histories the last 51. Theirs: batches of one length, so that steps after a warm-up tell the rate;
once as it is, once with logits of real targets alone (the same loss, a few lines laid over it from outside). Ours:
whole epochs after one of warm-up, as its batches are of unlike lengths. RecTools draws 256 negatives for each position,
ours 256 for a batch. None of its code is part of this repository.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rectools_common import SETTINGS, arguments, facts, in_turn, write, write_data
from rectools_side import load, peak_mb

from sidflow.recommenders.neural.batches import Windows, recent_windows, shuffled
from sidflow.recommenders.neural.items import ItemTable
from sidflow.recommenders.neural.model import SequenceModel, WindowLosses
from sidflow.recommenders.neural.params import SasrecParams
from sidflow.training.device import prepare
from sidflow.training.loop import LoopParams, fit


class Task:
    """Training without validation."""

    def __init__(self, model: SequenceModel, windows: Windows) -> None:
        self.module: torch.nn.Module = WindowLosses(model, windows)
        self.windows, self.size = windows, model.settings.batch_size

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Return the epoch's batches as training has them."""
        return shuffled(self.windows.lengths, self.size, generator)

    def validate(self) -> dict[str, float]:
        """Return nothing."""
        return {}


def params(epochs: int) -> SasrecParams:
    same = ("dimensions", "blocks", "heads", "feedforward", "max_length", "dropout", "negatives", "batch_size")
    loop = LoopParams(epochs=epochs, patience=0, learning_rate=SETTINGS["learning_rate"])
    return SasrecParams.model_validate(
        {name: SETTINGS[name] for name in same}
        | {"item_dropout": 0.0, "attention_dropout": SETTINGS["dropout"], "loss": "sampled", "loop": loop}
    )


def ours(path: Path, epochs: int) -> dict[str, float]:
    """Train `epochs` epochs after one of warm-up and return sequences a second."""
    sequences, settings = load(path)
    prepare(settings["seed"], settings["threads"])
    count = int(max(one.max() for one in sequences)) + 1
    windows = recent_windows(sequences, settings["max_length"] + 1)
    chosen = params(1 + epochs)
    counts = torch.from_numpy(np.bincount(np.concatenate(sequences), minlength=count))
    task = Task(SequenceModel(chosen, ItemTable(count, chosen.dimensions), counts), windows)
    ticks: list[float] = []
    fit(
        "ours", task, chosen.loop, seed=settings["seed"], device=torch.device("cpu"),
        on_step=lambda _: ticks.append(time.perf_counter()),
    )  # fmt: skip
    steps = math.ceil(len(windows.lengths) / chosen.batch_size)
    assert len(ticks) == steps * (1 + epochs)
    return {"per_second": len(windows.lengths) * epochs / (ticks[-1] - ticks[steps - 1]), "peak_mb": peak_mb()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=60, help="of theirs, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=10, help="steps of theirs")
    parser.add_argument("--epochs", type=int, default=3, help="of ours, after one of warm-up")
    given = parser.parse_args()
    if given.side:
        print("\n" + json.dumps(ours(given.data, given.epochs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.npz"
        write_data(given.data, path, held_out=2)
        side = Path(__file__).with_name("rectools_side.py")
        theirs = [str(given.rectools_python), str(side), "train", "--data", str(path), "--steps", str(given.steps)]
        theirs += ["--warm-up", str(given.warm_up), "--kind"]
        mine = [sys.executable, __file__, "--side", "--data", str(path), "--epochs", str(given.epochs)]
        sides = {"stock": [*theirs, "stock"], "unpadded": [*theirs, "unpadded"], "ours": mine}
        found = in_turn(sides, given.rounds)
    assert found["unpadded"]["loss_difference"] < 1e-5, "the loss of real targets is not RecTools' own"
    a = found["ours"]
    for kind, name, against in (
        ("stock", "sasrec_training", "RecTools as it is"),
        ("unpadded", "sasrec_training_unpadded", "RecTools with logits of real targets alone"),
    ):
        b = found[kind]
        result = {
            "claim": f"Training SASRec on amazon-beauty, sampled softmax, against {against}",
            "finding": f"{a['per_second']:,.0f} training sequences a second against {b['per_second']:,.0f} on two "
            "threads, 64 dimensions, one block, at most 50 items, 256 negatives (ours shares a batch's, RecTools draws "
            f"them for each position), batch 128; peak memory {a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB",
            "unit": "sequences/s",
            "ours": round(a["per_second"], 1),
            "theirs": round(b["per_second"], 1),
            "ratio": round(a["per_second"] / b["per_second"], 2),
            "peak_memory_ours": round(a["peak_mb"]),
            "peak_memory_theirs": round(b["peak_mb"]),
            **facts("sasrec_training.py", given),
            "steps": given.steps,
            "epochs": given.epochs,
        }
        write(name, result, given.dry)


if __name__ == "__main__":
    main()
