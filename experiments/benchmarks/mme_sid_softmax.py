"""The exact softmax over a catalogue in chunks against all logits at once, and MME-SID's step over a million items.

Run: python experiments/benchmarks/mme_sid_softmax.py

Each side runs in a process of its own. Time is forward and backward, the best of the repeats; memory is the largest
that this adds to states, items and targets, gradients included. The plain form is `cross_entropy(states @ items.T)`;
losses and gradients of both are compared. Ours is measured with four times the positions, too: its memory must not grow
as positions x items do. A million items: one training step of MME-SID itself (a small backbone with random weights,
one modality, forward, backward, AdamW on all that trains) with `loss: sampled`, beside the same step with `loss: full`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
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
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from sidflow.backbones.models import Backbone
from sidflow.backbones.scratch import train_tokenizer
from sidflow.mme_sid.item_tokens import ItemInputs, ModalityInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.sequences.histories import Histories
from sidflow.training.devices import epoch_generator, prepare_training
from sidflow.training.softmax import catalogue_cross_entropy

SEED = 42
ITEMS = 12_086
POSITIONS = 16_384
GROWN = 4  # times as many positions
MANY = 1_000_000
STEP_HISTORIES, STEP_LENGTH = 32, 32  # a step predicts the next item at so many positions
NEGATIVES = 1_024
WIDTH, LEVELS, CODES = 16, 4, 256  # of the modality's rows; of its semantic IDs


def inputs(positions: int, items: int, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, dimensions, generator=generator).requires_grad_()
    matrix = torch.randn(items, dimensions, generator=generator).mul_(0.3).requires_grad_()
    return states, matrix, torch.randint(items, (positions,), generator=generator)


def plain(states: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(states @ matrix.T, targets)


FORMS = {"ours": catalogue_cross_entropy, "plain": plain}


def reset_peak_memory() -> None:
    """Begin the count of the largest memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one form in this process: a loss and its gradients."""
    torch.set_num_threads(args.threads)
    function = FORMS[args.side]
    function(*inputs(8, 64, args.dimensions)).backward()
    states, matrix, targets = inputs(args.positions, args.items, args.dimensions)
    reset_peak_memory()
    before, seconds, loss = peak_memory_mb(), [], torch.zeros(())
    for _ in range(args.repeats):
        states.grad = matrix.grad = None
        began = time.perf_counter()
        loss = function(states, matrix, targets)
        loss.backward()
        seconds.append(time.perf_counter() - began)
    assert states.grad is not None and matrix.grad is not None
    return {
        "seconds": min(seconds),
        "added_mb": peak_memory_mb() - before,
        "peak_mb": peak_memory_mb(),
        "loss": loss.item(),
        "gradient": matrix.grad.norm().item() + states.grad.norm().item(),
    }


def step(args: argparse.Namespace) -> dict[str, Any]:
    """Run training steps of MME-SID in this process, with the loss that the side names; the first is not timed."""
    device = prepare_training(SEED, args.threads)
    params = FinetuneParams(
        loss="full" if args.side == "full" else "sampled",
        negatives=NEGATIVES,
        max_length=STEP_LENGTH,
        batch_size=STEP_HISTORIES,
    )
    model = MmeSid(backbone(args.dimensions), catalogue(args.items), histories(args.items), params).to(device)
    task = MmeSidTask(model, model.histories, params)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], fused=True)
    seconds, loss = [], torch.zeros(())
    for epoch in range(args.repeats + 1):
        batch = task.batches(epoch, epoch_generator(SEED, epoch))[0]
        began = time.perf_counter()
        loss = model(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds[1:]), "peak_mb": peak_memory_mb(), "loss": loss.item()}


def backbone(hidden: int) -> Backbone:
    """Return a small Llama with random weights, of the embedded preset's layers and heads."""
    tokenizer = train_tokenizer([FinetuneParams().prompt] * 50, 400)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return Backbone(LlamaForCausalLM(config).requires_grad_(False).eval(), tokenizer)


def catalogue(items: int) -> ItemInputs:
    """Return one modality of random rows and codes."""
    draw = np.random.default_rng(SEED)
    rows = draw.standard_normal((items, WIDTH), dtype=np.float32)
    books = draw.standard_normal((LEVELS, CODES, WIDTH), dtype=np.float32)
    codes = draw.integers(0, CODES, (items, LEVELS))
    return ItemInputs(
        {"text": ModalityInputs(rows, np.ones(items, dtype=bool), codes, books)}, np.ones(items, dtype=int)
    )


def histories(items: int) -> Histories:
    """Return the training histories of one batch: as many as a step has, all of the full length."""
    length, none = STEP_LENGTH + 1, np.zeros(0, dtype=np.int64)
    drawn = np.random.default_rng(SEED).integers(0, items, STEP_HISTORIES * length).astype(np.int32)
    offsets = np.arange(STEP_HISTORIES + 1) * length
    return Histories(drawn, offsets, np.full(STEP_HISTORIES, length), none, none, none.astype(bool), none)


def one(form: str, items: int, args: argparse.Namespace, repeats: int, *more: object) -> list[str]:
    sizes = ("--items", items, "--dimensions", args.dimensions)
    return side_command(__file__, form, *sizes, "--repeats", repeats, "--threads", args.threads, *more)


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    about = {
        "command": "python experiments/benchmarks/mme_sid_softmax.py",
        **run_conditions(1, args.threads),
        "repeats": args.repeats,
    }
    yield "mme_sid_softmax", exact_record(args, about)
    yield "mme_sid_softmax_million", million_record(args, about)


def exact_record(args: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    positions, items = args.positions, args.items
    sides = {
        "plain": one("plain", items, args, args.repeats, "--positions", positions),
        "ours": one("ours", items, args, args.repeats, "--positions", positions),
        "grown": one("ours", items, args, 1, "--positions", positions * GROWN),
    }
    figures = medians(run_in_turn(sides, 1, args.threads))
    a, b, grown = figures["ours"], figures["plain"], figures["grown"]
    difference, gradient = abs(a["loss"] - b["loss"]), abs(a["gradient"] / b["gradient"] - 1)
    assert difference < 1e-4 and gradient < 1e-4, (a, b)
    logits = positions * items * 4 / 1e6
    return benchmark_record(
        f"Softmax over {items:,} items at {positions:,} positions, forward and backward: chunks against plain",
        "seconds",
        Measurement(a["seconds"], a["added_mb"]),
        Measurement(b["seconds"], b["added_mb"]),
        higher_is_better=False,
        finding=f"{a['seconds']:.2f} s and {a['added_mb']:,.0f} MB beside its inputs against "
        f"{b['seconds']:.2f} s and {b['added_mb']:,.0f} MB, {args.dimensions} dimensions; losses equal to "
        f"{difference:.0e}. With {GROWN} times the positions ours adds {grown['added_mb']:,.0f} MB, where all "
        f"logits would be {GROWN * logits:,.0f} MB each time that they are held",
        **about,
        added_mb_at_positions={positions: round(a["added_mb"], 1), positions * GROWN: round(grown["added_mb"], 1)},
        logits_mb_at_positions={positions: round(logits, 1), positions * GROWN: round(GROWN * logits, 1)},
    )


def million_record(args: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    sides = {
        "sampled": one("sampled", args.many, args, args.repeats),
        "full": one("full", args.many, args, 1),
    }
    figures = medians(run_in_turn(sides, 1, args.threads))
    a, b = figures["sampled"], figures["full"]
    return benchmark_record(
        f"MME-SID's training step over {args.many:,} items, {STEP_HISTORIES * STEP_LENGTH:,} positions: "
        "softmax sampled against full",
        "seconds",
        Measurement(a["seconds"], a["peak_mb"]),
        Measurement(b["seconds"], b["peak_mb"]),
        higher_is_better=False,
        finding=f"{a['seconds']:.2f} s with {NEGATIVES:,} shared negatives against {b['seconds']:.1f} s, forward, "
        f"backward and AdamW on the table of {args.many:,} x {args.dimensions} and the rest; the whole process needs "
        f"{a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB (the table with its gradient and AdamW's two moments "
        f"is {4 * args.many * args.dimensions * 4 / 1e6:,.0f} MB of that)",
        **about,
    )


def main() -> None:
    parser = benchmark_parser(__doc__, threads=1)
    parser.add_argument("--positions", type=int, default=POSITIONS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--many", type=int, default=MANY, help="items of the second comparison")
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    run_side_or_all(parser, dict.fromkeys(FORMS, measure) | dict.fromkeys(("sampled", "full"), step), results)


if __name__ == "__main__":
    main()
