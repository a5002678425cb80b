"""What `tiger` learns from all targets of a history in one pass, from one sample a target, and with some changes.

Run: python experiments/benchmarks/generative_training_quality.py --run FOLDER

FOLDER holds a finished run of the preset `embedded`. Every way trains the same decoder from the same initial weights on
the same targets, with as many targets a step and as many steps (twice as many in `packed, 16 histories a step`), by the
schedule of so many epochs. The figure is nDCG@10 over all validation queries, of the best epoch; the test part is not
looked at. Differences are paired: means over seeds of each user, then a bootstrap over users.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import generative_training as training
import numpy as np
import torch
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

from sidflow.generative.encoder_decoder import EncoderDecoderIdModel
from sidflow.generative.fit import GenerativeTask
from sidflow.generative.ranking import Decoder, ranks_by_beam
from sidflow.metrics.ranking import metric_at_k
from sidflow.sequences.windows import Windows
from sidflow.training.devices import epoch_generator
from sidflow.training.loop import fit

DRAWS = 10_000


@dataclasses.dataclass(frozen=True)
class Way:
    """How `tiger` is trained: what differs from the preset."""

    one_target: bool = False
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    rate: float | None = None
    crop: bool = False  # each window starts at a random item
    positions: bool = False  # T5's encoder is told how far from the end of the history each token stands


T5 = {"architecture": "encoder_decoder"}
WAYS = {
    "packed": Way(),
    "samples": Way(one_target=True),
    "packed, 16 histories a step": Way(params={"batch_size": 16}),
    "packed, learning rate .002": Way(rate=0.002),
    "packed, learning rate .005": Way(rate=0.005),
    "packed, dropout .1": Way(params={"dropout": 0.1}),
    "packed, windows cut at random": Way(crop=True),
}
ENCODER_DECODERS = {  # of benchmarks/generative_architectures.py
    "encoder-decoder": Way(one_target=True, params=T5),
    "encoder-decoder, no dropout": Way(one_target=True, params=T5 | {"dropout": 0.0}),
    "encoder-decoder, no dropout, 14 histories a step": Way(
        one_target=True, params=T5 | {"dropout": 0.0, "batch_size": 14}
    ),
    "encoder-decoder, no dropout, 14 histories a step, positions from the end": Way(
        one_target=True, params=T5 | {"dropout": 0.0, "batch_size": 14}, positions=True
    ),
    "encoder-decoder, no dropout, learning rate .001": Way(one_target=True, params=T5 | {"dropout": 0.0}, rate=0.001),
}


class CroppedTask(GenerativeTask):
    """Training on windows of which a half, drawn anew each epoch, begins at a random item."""

    def batches(self, epoch: int, generator: torch.Generator) -> Any:
        """Return the epoch's batches, after cutting the windows."""
        whole = self.__dict__.setdefault("whole", self.windows)
        draw = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        most = (whole.lengths - 2).clamp(min=0)  # two items stay
        cut = (torch.rand(len(most), generator=draw) * (most + 1)).long()
        cut = torch.where(torch.rand(len(most), generator=draw) < 0.5, cut, 0)
        self.windows = Windows(whole.items, whole.starts + cut, whole.lengths - cut)
        self.module.windows = self.windows  # type: ignore[assignment]
        return super().batches(epoch, generator)


def add_positions(model: EncoderDecoderIdModel, longest: int) -> None:
    """Add a learned vector to each token of histories of `longest` tokens at most, by its distance from the end.

    T5 knows positions by the distance of two tokens alone, and what its decoder reads of the encoder has none.
    """
    embedding = torch.nn.Embedding(longest, model.model.config.d_model)
    torch.nn.init.normal_(embedding.weight, std=0.02)
    model.positions = embedding
    encoder: Any = model.model.encoder
    whole = encoder.forward

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> Any:
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        back = (attention_mask.sum(1, keepdim=True) - 1 - place).clamp(min=0)  # any of padding
        vectors = model.model.shared(input_ids) + embedding(back)
        return whole(attention_mask=attention_mask, **(more | {"inputs_embeds": vectors}))

    encoder.forward = forward


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """Train the way that `args` name; return what `train` returns."""
    return train((WAYS | ENCODER_DECODERS)[args.way], args)


def train(way: Way, args: argparse.Namespace) -> dict[str, Any]:
    """Train one way in the run at hand; return nDCG@10 of every validation query, the curve and what it took."""
    os.chdir(args.run)
    task, targets = training.prepared(args.seed, one_target=way.one_target, changes=way.params)
    if way.positions:
        add_positions(task.model, task.params.max_length * task.ids.vocabulary.levels)  # type: ignore[arg-type]
    if way.crop:
        task.__class__ = CroppedTask
    loop = task.params.loop.model_copy(update={"epochs": args.epochs, "patience": 0})
    if way.rate is not None:
        loop = loop.model_copy(update={"learning_rate": way.rate})
    steps = len(task.batches(0, epoch_generator(args.seed, 0)))
    began = time.perf_counter()
    fitted = fit("generative_training_quality", task, loop, seed=args.seed, device=torch.device("cpu"))
    seconds = time.perf_counter() - began
    decoder = Decoder.of(task.model, task.ids, task.candidates, task.params.normalise)
    params, queries = task.params, task.queries
    ranks, sharing = ranks_by_beam(decoder, task.histories, queries, params.max_length, params.validate_beam)
    values = metric_at_k(ranks, "ndcg", 10, sharing)
    assert abs(values.mean() - float(fitted.best_value or 0)) < 1e-9
    return {
        "ndcg": np.round(values, 6).tolist(),
        "ndcg_by_id": round(float(metric_at_k(ranks - sharing, "ndcg", 10).mean()), 5),
        "curve": [round(row["valid_ndcg_at_10"], 5) for row in fitted.curves],
        "seconds": round(seconds, 1),
        "targets": targets,
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "peak_mb": peak_memory_mb(),
    }


def interval(differences: np.ndarray) -> list[float]:
    """Return mean and 95% interval of users' differences, by a bootstrap over them."""
    draw = np.random.default_rng(0)
    means = [differences[draw.integers(len(differences), size=len(differences))].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return [round(float(value), 5) for value in (differences.mean(), low, high)]


def train_in_turn(
    script: str, args: argparse.Namespace, ways: Sequence[str], folders: Mapping[str, Path] | None = None
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, np.ndarray]]:
    """Train each way with each seed in a process of its own; return figures, and nDCG@10 [seeds, queries], by way.

    `folders` are the runs of ways that have one of their own.
    """
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for seed in args.seeds:
        for way in ways:
            more = ["--run", (folders or {}).get(way, args.run), "--way", way, "--epochs", args.epochs, "--seed", seed]
            runs[way].append(run(side_command(script, "trained", *more), 1))
            one = runs[way][-1]
            print(f"seed {seed}, {way}: {one['curve']}, {one['seconds']} s", file=sys.stderr, flush=True)
    return runs, {way: np.array([one.pop("ndcg") for one in each]) for way, each in runs.items()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    runs, values = train_in_turn(__file__, args, args.ways)
    means = {way: float(each.mean()) for way, each in values.items()}
    seconds = {way: statistics.mean(one["seconds"] for one in each) for way, each in runs.items()}
    against = {way: interval((values[way] - values["samples"]).mean(0)) for way in args.ways if way != "samples"}
    difference, low, high = against["packed"]
    best = max(against, key=lambda way: means[way])
    best_of = (
        f"; the best of {len(against)} ways to pack is `{best}` with {means[best]:.4f}" if len(against) > 1 else ""
    )
    yield (
        f"generative_training_quality_{args.epochs}",
        benchmark_record(
            f"`tiger` on the embedded catalogue, {args.epochs} epochs: all targets of a history in one pass, against "
            "one sample a target",
            "nDCG@10 on validation",
            Measurement(means["packed"], max(one["peak_mb"] for one in runs["packed"])),
            Measurement(means["samples"], max(one["peak_mb"] for one in runs["samples"])),
            higher_is_better=True,
            finding=f"mean of {len(args.seeds)} seeds {means['packed']:.4f} after {seconds['packed']:,.0f} s against "
            f"{means['samples']:.4f} after {seconds['samples']:,.0f} s: {difference:+.4f}, 95% interval {low:+.4f} to "
            f"{high:+.4f} over users" + best_of,
            command=f"python experiments/benchmarks/generative_training_quality.py --run FOLDER --epochs {args.epochs} "
            f"--seeds {' '.join(map(str, args.seeds))}"
            + (f" --ways {' '.join(args.ways)}" if len(against) == 1 else ""),
            means={way: round(mean, 5) for way, mean in means.items()},
            by_seed={way: np.round(each.mean(1), 5).tolist() for way, each in values.items()},
            against_samples=against,
            runs=runs,
            **run_conditions(1, 1),
        ),
    )


def quality_parser(text: str | None, ways: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a benchmark that trains in `ways`."""
    parser = benchmark_parser(text)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of `embedded`")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--way", choices=ways, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = quality_parser(__doc__, list(WAYS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    run_side_or_all(parser, {"trained": trained}, results)


if __name__ == "__main__":
    main()
