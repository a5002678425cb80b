"""The exact softmax over a catalogue in chunks against all logits at once, and a step over a million items.

Run: python benchmarks/mme_sid_softmax.py

Each side runs in a process of its own. Time is forward and backward, the best of the repeats; memory is the largest
that this adds to states, items and targets, gradients included. The plain form is `cross_entropy(states @ items.T)`;
losses and gradients of both are compared. Ours is measured with four times the positions, too: its memory must not grow
as positions x items do. A million items: one training step (forward, backward, AdamW on the whole table) with a sampled
softmax, beside the same step with the exact one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from side_by_side import Side, arguments, facts, in_turn, medians, one_side_or_all, own, peak_mb, result_of
from torch import Tensor
from torch.nn import functional

from sidflow.losses.catalogue_softmax import catalogue_cross_entropy, sampled_cross_entropy

ITEMS = 12_086
POSITIONS = 16_384
GROWN = 4  # times as many positions
MANY = 1_000_000
STEP_POSITIONS = 1_024
NEGATIVES = 1_024


def inputs(positions: int, items: int, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, dimensions, generator=generator).requires_grad_()
    matrix = torch.randn(items, dimensions, generator=generator).mul_(0.3).requires_grad_()
    return states, matrix, torch.randint(items, (positions,), generator=generator)


def plain(states: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(states @ matrix.T, targets)


def sampled(states: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
    return sampled_cross_entropy(states, matrix, targets, torch.randint(len(matrix), (NEGATIVES,)))


FORMS = {"ours": catalogue_cross_entropy, "plain": plain, "sampled": sampled}


def forget_peak() -> None:
    """Begin the count of the largest memory anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run one form in this process: a loss and its gradients, with `--step` an optimizer's step as well."""
    torch.set_num_threads(given.threads)
    function = FORMS[given.side]
    function(*inputs(8, 64, given.dimensions)).backward()
    states, matrix, targets = inputs(given.positions, given.items, given.dimensions)
    forget_peak()
    before, seconds, loss = peak_mb(), [], torch.zeros(())
    optimizer = torch.optim.AdamW([matrix], fused=True) if given.step else None
    for _ in range(given.repeats):
        states.grad = matrix.grad = None
        began = time.perf_counter()
        loss = function(states, matrix, targets)
        loss.backward()
        if optimizer:
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    assert states.grad is not None and matrix.grad is not None
    return {
        "seconds": min(seconds),
        "added_mb": peak_mb() - before,
        "peak_mb": peak_mb(),
        "loss": loss.item(),
        "gradient": matrix.grad.norm().item() + states.grad.norm().item(),
    }


def one(form: str, positions: int, items: int, given: argparse.Namespace, repeats: int, step: bool) -> list[str]:
    sizes = ("--positions", positions, "--items", items, "--dimensions", given.dimensions)
    return own(__file__, form, *sizes, "--repeats", repeats, "--threads", given.threads, *(["--step"] if step else []))


def results(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    about = {"command": "python benchmarks/mme_sid_softmax.py", **facts(1, given.threads), "repeats": given.repeats}
    yield "mme_sid_softmax", exact(given, about)
    yield "mme_sid_softmax_million", million(given, about)


def exact(given: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    positions, items = given.positions, given.items
    sides = {
        "plain": one("plain", positions, items, given, given.repeats, False),
        "ours": one("ours", positions, items, given, given.repeats, False),
        "grown": one("ours", positions * GROWN, items, given, 1, False),
    }
    found = medians(in_turn(sides, 1, given.threads))
    a, b, grown = found["ours"], found["plain"], found["grown"]
    difference, gradient = abs(a["loss"] - b["loss"]), abs(a["gradient"] / b["gradient"] - 1)
    assert difference < 1e-4 and gradient < 1e-4, (a, b)
    logits = positions * items * 4 / 1e6
    return result_of(
        f"Softmax over {items:,} items at {positions:,} positions, forward and backward: chunks against plain",
        "seconds",
        Side(a["seconds"], a["added_mb"]),
        Side(b["seconds"], b["added_mb"]),
        higher_is_better=False,
        finding=f"{a['seconds']:.2f} s and {a['added_mb']:,.0f} MB beside its inputs against "
        f"{b['seconds']:.2f} s and {b['added_mb']:,.0f} MB, {given.dimensions} dimensions; losses equal to "
        f"{difference:.0e}. With {GROWN} times the positions ours adds {grown['added_mb']:,.0f} MB, where all "
        f"logits would be {GROWN * logits:,.0f} MB each time that they are held",
        **about,
        added_mb_at_positions={positions: round(a["added_mb"], 1), positions * GROWN: round(grown["added_mb"], 1)},
        logits_mb_at_positions={positions: round(logits, 1), positions * GROWN: round(GROWN * logits, 1)},
    )


def million(given: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    sides = {
        "sampled": one("sampled", STEP_POSITIONS, given.many, given, given.repeats, True),
        "exact": one("ours", STEP_POSITIONS, given.many, given, 1, True),
    }
    found = medians(in_turn(sides, 1, given.threads))
    a, b = found["sampled"], found["exact"]
    return result_of(
        f"A step over {given.many:,} items, {STEP_POSITIONS:,} positions: softmax sampled against exact",
        "seconds",
        Side(a["seconds"], a["peak_mb"]),
        Side(b["seconds"], b["peak_mb"]),
        higher_is_better=False,
        finding=f"{a['seconds']:.2f} s with {NEGATIVES:,} shared negatives against {b['seconds']:.1f} s, forward, "
        f"backward and AdamW on all {given.many:,} x {given.dimensions} weights; the whole process needs "
        f"{a['peak_mb']:,.0f} MB against {b['peak_mb']:,.0f} MB (the table with its gradient and AdamW's two moments "
        f"is {4 * given.many * given.dimensions * 4 / 1e6:,.0f} MB of that)",
        **about,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--positions", type=int, default=POSITIONS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--many", type=int, default=MANY, help="items of the second comparison")
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--step", action="store_true", help=argparse.SUPPRESS)
    one_side_or_all(parser, dict.fromkeys(FORMS, measure), results)


if __name__ == "__main__":
    main()
