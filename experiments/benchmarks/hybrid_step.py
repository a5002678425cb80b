"""A training step of a hybrid: content of the positions that see the prior, against a product over all positions.

Run: python experiments/benchmarks/hybrid_step.py

Histories, content and vectors are random, since time does not depend on what they say. A step is forward, backward and
AdamW of SASRec beside a score prior, with the settings of `amazon-beauty-text`, over the sampled candidates and over
the whole catalogue. `plain` has content as further columns of states and item rows, so that each step multiplies by all
of it, both ways. `product` has no cosines, as where they take too much memory; a sampled loss needs none. All sides
draw the same batches and must reach the same loss. Time is the median of the steps after the first one, which computes
the cosines.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from hybrid_validation import BASE, SEED, TEXT, random_histories
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
from torch import Tensor

from sidflow.artifacts.features import ItemRows
from sidflow.hybrid import content
from sidflow.hybrid.content import ContentScores
from sidflow.hybrid.evidence import TrainingPositions
from sidflow.hybrid.params import HybridParams
from sidflow.hybrid.prior import ScorePrior, prior_inputs
from sidflow.sequential.fit import NextItemTask
from sidflow.sequential.model import IdEmbedding, SequenceModel
from sidflow.sequential.params import SasrecParams
from sidflow.training.devices import epoch_generator, prepare_training
from sidflow.training.softmax import TrainingScores

LOSSES = {"sampled": "sampled candidates", "full": "the whole catalogue"}
SIDES = {"cosines": content.COSINE_BYTES, "product": 0, "plain": 0}  # memory that cosines may take


class PlainPrior(ScorePrior):
    """A prior whose content is further columns of states and item rows."""

    def loss(self, scores: TrainingScores, positions: TrainingPositions, content: ContentScores) -> Tensor:
        """Return the loss of the widened factors."""
        self.sees_prior = super()._sample_prior_mask(positions)
        last_items = torch.from_numpy(positions.histories.last_items(self.params.last))
        states = self.content_states(last_items, self.content_weights()) / self.params.own_weight
        shown = torch.from_numpy(self.sees_prior)[:, None]
        items = slice(self.items) if scores.candidates is None else scores.candidates.items
        matrix = torch.cat([rows[items] for rows in self.content_rows().values()], 1)
        widened = scores._replace(
            states=torch.cat([scores.states, states * shown], 1), item_matrix=torch.cat([scores.item_matrix, matrix], 1)
        )
        return super().loss(widened, positions, content)

    def _sample_prior_mask(self, positions: TrainingPositions) -> np.ndarray:
        return self.sees_prior

    def _content_logits(self, *_: object) -> None:
        return None


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Run training steps in this process; the first is timed apart."""
    prepare_training(SEED, args.threads)
    content.COSINE_BYTES = SIDES[args.side]
    histories = random_histories(args.users, args.items)
    params = HybridParams(content=("text",), window=20, last=3, neighbours=100)
    rows = np.random.default_rng(SEED).standard_normal((args.items, TEXT), dtype=np.float32)
    inputs = prior_inputs(histories, args.items, {"text": ItemRows(rows, np.ones(args.items, dtype=bool))}, params)
    prior = (PlainPrior if args.side == "plain" else ScorePrior)(inputs, params)
    base = SasrecParams(
        dimensions=BASE, feedforward=2, dropout=0.3, item_dropout=0.25, skip_share=0.2, loss=args.loss, batch_size=128
    )
    counts = torch.from_numpy(histories.training_counts(args.items))
    task = NextItemTask(SequenceModel(base, IdEmbedding(args.items, BASE), counts), histories, args.items, prior)
    optimizer = torch.optim.AdamW(task.parameter_groups(), fused=True)
    seconds, losses = [], []
    for batch in task.batches(0, epoch_generator(SEED, 0))[: args.steps + 1]:
        began = time.perf_counter()
        loss = task.module(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        losses.append(loss.item())
    median = statistics.median(seconds[1:])
    return {"seconds": median, "first": seconds[0], "peak_mb": peak_memory_mb(), "loss": sum(losses)}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sizes = ("--items", args.items, "--users", args.users, "--steps", args.steps, "--threads", args.threads)
    for loss in args.losses:
        names = [name for name in SIDES if loss == "full" or name != "product"]
        sides = {name: side_command(__file__, name, "--loss", loss, *sizes) for name in names}
        figures = medians(run_in_turn(sides, args.rounds, args.threads))
        ours, plain = figures["cosines"], figures["plain"]
        for side in figures.values():
            assert abs(side["loss"] / plain["loss"] - 1) < 1e-4, figures
        without = ""
        if "product" in figures:
            first, product = ours["first"] - ours["seconds"], figures["product"]
            without = f"; the cosines take {first:.1f} s once, and without them a step takes {product['seconds']:.3f} s"
        yield (
            f"hybrid_step_{loss}",
            benchmark_record(
                f"A hybrid's training step over {LOSSES[loss]}: content where the prior is seen, against a product "
                "over all positions",
                "seconds",
                Measurement(ours["seconds"], ours["peak_mb"]),
                Measurement(plain["seconds"], plain["peak_mb"]),
                higher_is_better=False,
                finding=f"{ours['seconds']:.3f} s against {plain['seconds']:.3f} s{without}; content {TEXT:,} wide, "
                f"the base model {BASE}, 128 histories; {args.items:,} items",
                command=f"python experiments/benchmarks/hybrid_step.py --rounds {args.rounds}",
                **run_conditions(args.rounds, args.threads),
                steps=args.steps,
            ),
        )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3, threads=1)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--loss", choices=list(LOSSES), help=argparse.SUPPRESS)
    run_side_or_all(parser, dict.fromkeys(SIDES, train), results)


if __name__ == "__main__":
    main()
