"""A training step of DMESR over 10,000, 100,000 and 1,000,000 items: the batch's items fused against the whole table.

Run: python experiments/benchmarks/dmesr_step.py

Random vectors: three views and four text units of each item, 32 wide. A step is forward, backward and AdamW of SASRec
with `loss: sampled`: 64 histories of 50 items, 1,024 shared negatives. Each side runs in a process of its own; time is
the best of the repeats, memory the largest of the process. Over a million items the whole table does not fit in the
memory of a small machine: its time there is ten times what 100,000 items take, and the record says so.
The cost of fusing does not grow, but that of a step does: the free vectors' dense gradient and AdamW's moments have a
row an item, in the base model too. `replace` has no free vectors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from side_by_side import (
    ITEM_COUNTS,
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
from torch import Tensor

from sidflow.artifacts.features import ItemRows
from sidflow.multimodal.dmesr import Content, DmesrItemEmbedding, DmesrParams, Units
from sidflow.sequential.model import SequenceModel
from sidflow.sequential.params import SasrecParams
from sidflow.training.devices import prepare_training

SEED = 42
LARGEST_WHOLE = 100_000  # items whose whole table is fused with gradients
HISTORIES, LENGTH, NEGATIVES = 64, 50, 1_024
DIMENSIONS, WIDTH, UNITS = 64, 32, 4


class WholeTable(DmesrItemEmbedding):
    """DMESR that fuses every item in every step."""

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Return the vectors of the items `ids`, out of those of all."""
        table = super().forward(None)
        return table if ids is None else table[ids]


def random_content(items: int) -> Content:
    """Return three views and some units of each item; a tenth of the rows is absent."""
    draw = np.random.default_rng(SEED)
    views = {
        name: ItemRows(draw.standard_normal((items, WIDTH), dtype=np.float32), draw.random(items) < 0.9)
        for name in ("text", "image", "joint")
    }
    values = draw.standard_normal((items, UNITS, WIDTH), dtype=np.float32)
    return Content(views, Units(values, draw.random((items, UNITS)) < 0.9))


def step(args: argparse.Namespace) -> dict[str, Any]:
    """Run training steps in this process; the first is not timed."""
    prepare_training(SEED, args.threads)
    kind = WholeTable if args.side == "whole" else DmesrItemEmbedding
    settings = DmesrParams(mode="replace" if args.side == "replace" else "add")
    base = SasrecParams(dimensions=DIMENSIONS, max_length=LENGTH, loss="sampled", negatives=NEGATIVES)
    items = kind(random_content(args.items), args.items, DIMENSIONS, 0.02, settings)
    model = SequenceModel(base, items, torch.ones(args.items, dtype=torch.int64))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    lengths = torch.full((HISTORIES,), LENGTH + 1)
    seconds, loss = [], torch.zeros(())
    for _ in range(args.repeats + 1):
        batch = torch.randint(args.items, (HISTORIES, LENGTH + 1))
        began = time.perf_counter()
        loss = model(batch, lengths)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds[1:]), "peak_mb": peak_memory_mb(), "loss": loss.item()}


def side(name: str, items: int, args: argparse.Namespace) -> list[str]:
    sizes = ("--items", items, "--repeats", args.repeats, "--threads", args.threads)
    return side_command(__file__, name, *sizes)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for size in args.sizes:
        items = ITEM_COUNTS[size]
        measured = min(items, LARGEST_WHOLE)
        sides = {name: side(name, items, args) for name in ("batch", "replace")} | {
            "whole": side("whole", measured, args)
        }
        figures = medians(run_in_turn(sides, 1, args.threads))
        ours, free, whole = figures["batch"], figures["replace"], figures["whole"]
        times = items // measured
        if times == 1:  # dropout differs
            assert abs(ours["loss"] - whole["loss"]) < 0.5, (ours, whole)
        extrapolated = "" if times == 1 else f" ({times} times what {measured:,} items take)"
        yield (
            f"dmesr_step_{size}",
            benchmark_record(
                f"DMESR's training step over {items:,} items: the batch's items fused against the whole table",
                "seconds",
                Measurement(ours["seconds"], ours["peak_mb"]),
                Measurement(times * whole["seconds"], whole["peak_mb"] if times == 1 else None),
                higher_is_better=False,
                finding=f"{ours['seconds']:.3f} s and {ours['peak_mb']:,.0f} MB against "
                f"{times * whole['seconds']:.2f} s{extrapolated}; fusing {measured:,} items needs "
                f"{whole['peak_mb']:,.0f} MB. {HISTORIES} histories of {LENGTH} items, "
                f"{NEGATIVES:,} shared negatives; with `mode: replace`, which has no table of free vectors, "
                f"{free['seconds']:.3f} s and {free['peak_mb']:,.0f} MB",
                command="python experiments/benchmarks/dmesr_step.py",
                **run_conditions(1, args.threads),
                repeats=args.repeats,
                without_free_vectors=free,
                whole_table_items=measured,
            ),
        )


def main() -> None:
    parser = benchmark_parser(__doc__, threads=1)
    parser.add_argument("--items", type=int, default=ITEM_COUNTS["10k"], help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="+", choices=list(ITEM_COUNTS), default=list(ITEM_COUNTS))
    parser.add_argument("--repeats", type=int, default=3)
    run_side_or_all(parser, dict.fromkeys(("batch", "whole", "replace"), step), results)


if __name__ == "__main__":
    main()
