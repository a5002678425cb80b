"""Training of `tiger`: all targets of a history in one pass, against one sample a target.

Run: python experiments/benchmarks/generative_training.py

It reads the finished run of the preset `embedded` in the project's folder. Both sides train the same decoder, with the
same initial weights, on the same targets for as many epochs, and with as many targets a step. One sample a target is
the published way: the history before it goes through the model for it alone. Every side runs in a process of its own
on one thread; batches have rows of similar length on both sides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
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

from sidflow.artifacts.catalog import ITEMS, core_count
from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, quantized_modalities
from sidflow.core.params import load_param
from sidflow.generative.causal import ScratchIdModel
from sidflow.generative.decoding import Predictions
from sidflow.generative.fit import GenerativeTask, make_model
from sidflow.generative.objective import IdLosses
from sidflow.generative.params import KINDS, generative_entry
from sidflow.generative.ranking import CandidateTree
from sidflow.generative.vocabulary import load_item_ids
from sidflow.sequences.histories import load_histories_for_ranking
from sidflow.sequences.windows import prefix_windows, training_windows
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

EPOCHS = 3


class OneTarget(ScratchIdModel):
    """A decoder that predicts the last item of a history alone."""

    def predictions(self, tokens: torch.Tensor, lengths: torch.Tensor) -> Predictions:
        """Return what predicts the last item of every history."""
        every = super().predictions(tokens, lengths)
        return Predictions(every.states[torch.arange(len(tokens)), lengths - 2][:, None], (lengths - 1)[:, None])


def prepared(seed: int, *, one_target: bool, changes: Mapping[str, Any] | None = None) -> tuple[GenerativeTask, int]:
    """Return the training of `tiger` in the run at hand, and its targets.

    Args:
        seed: of the initial weights.
        one_target: whether each target is a sample of its own, with as many targets a step.
        changes: of the preset's params. An encoder-decoder has one sample a target in any case.
    """
    prepare_training(seed, 1)
    entry = {**load_param("generate.tiger"), **(changes or {})}
    fields = KINDS[entry.get("architecture", "decoder")].model_fields  # the other architecture has some that it lacks
    entry = {name: value for name, value in entry.items() if name in fields}
    params = generative_entry("tiger", entry, "params.yaml:generate.tiger")
    histories, count = load_histories_for_ranking(), core_count()
    quantizer = QUANTIZER.read()
    counts = {modality: code_counts(quantizer, modality) for modality in quantized_modalities(quantizer)}
    ids = load_item_ids(ITEMS.read(columns=["item_id"]).height, counts, params.ids)
    candidates = CandidateTree(ids, count, torch.device("cpu"))
    model = make_model(ids, params)
    task = GenerativeTask(model, histories, ids, candidates, params)
    packed = training_windows(histories, params.max_length + 1, overlap=1)
    targets = int((packed.lengths - 1).sum())
    if one_target:
        if isinstance(model, ScratchIdModel):
            model.__class__ = OneTarget
        rows = round(params.batch_size * targets / len(packed.lengths))
        assert isinstance(task.module, IdLosses)
        task.windows = task.module.windows = prefix_windows(histories, params.max_length)
        task.params = params.model_copy(update={"batch_size": rows})
    return task, targets


def trained(*, one_target: bool) -> dict[str, float]:
    """Train for EPOCHS epochs; return targets a second of training alone, and the best nDCG@10 on validation."""
    task, targets = prepared(42, one_target=one_target)
    moments: list[float] = []
    steps = len(task.batches(0, torch.Generator()))
    fitted = fit(
        "generative_training",
        task,
        task.params.loop.model_copy(update={"epochs": EPOCHS, "patience": 0}),
        seed=42,
        device=torch.device("cpu"),
        on_step=lambda _: moments.append(time.perf_counter()),
    )
    gaps = np.diff(moments)
    within = np.arange(1, len(moments)) % steps != 0  # the others hold a validation
    return {
        "targets_per_second": targets / steps / float(gaps[within].mean()),
        "targets": targets,
        "steps": steps,
        "valid_ndcg_at_10": float(fitted.best_value or 0.0),
        "peak_mb": peak_memory_mb(),
    }


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sides = {side: side_command(__file__, side) for side in ("packed", "samples")}
    figures = medians(run_in_turn(sides, args.rounds, 1))
    a, b = figures["packed"], figures["samples"]
    yield (
        "generative_training",
        benchmark_record(
            "Training of `tiger` on the embedded catalogue: all targets of a history in one pass, against one sample a "
            "target",
            "targets a second",
            Measurement(a["targets_per_second"], a["peak_mb"]),
            Measurement(b["targets_per_second"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"{a['targets_per_second']:,.0f} targets a second against {b['targets_per_second']:,.0f}; after "
            f"{EPOCHS} epochs nDCG@10 on validation is {a['valid_ndcg_at_10']:.4f} against {b['valid_ndcg_at_10']:.4f}",
            command="python experiments/benchmarks/generative_training.py",
            sides=figures,
            **run_conditions(args.rounds, 1),
        ),
    )


def main() -> None:
    run_side_or_all(
        benchmark_parser(__doc__, rounds=1),
        {"packed": lambda _: trained(one_target=False), "samples": lambda _: trained(one_target=True)},
        results,
    )


if __name__ == "__main__":
    main()
