"""MMD in Gram form against the published form, forward and backward.

Run: python experiments/benchmarks/quantizer_mmd.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch
from side_by_side import (
    Measurement,
    benchmark_parser,
    benchmark_record,
    commit,
    machine,
    peak_memory_mb,
    run,
    run_side_or_all,
    side_command,
)
from torch import Tensor

from sidflow.training.losses import mmd

COMPARED = (256, 512)  # batch, dimensions: the published form makes tensors of (2 * 256)^2 * 512 = 0.54 GB here
GOAL = (1024, 4096)  # where it would make 68.7 GB each


def published(x: Tensor, y: Tensor) -> Tensor:
    """The formula as published: all differences of the pooled rows at once, (2b, 2b, d)."""
    b = len(x)
    pooled = torch.cat([x, y])
    distances = (pooled[None, :, :] - pooled[:, None, :]).square().sum(2)
    k = torch.exp(-distances / (distances.detach().sum() / (4 * b * b - 2 * b)))
    off = 1 - torch.eye(b)
    within = ((k[:b, :b] * off).sum() + (k[b:, b:] * off).sum()) / (b * (b - 1))
    return within - 2 * k[:b, b:].mean()


FORMS = {"ours": mmd, "published": published}


def inputs(b: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, d, generator=generator)
    return x, (x + 0.5 * torch.randn(b, d, generator=generator)).requires_grad_()


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run one form in this process; memory is what forward and backward add to the inputs, their gradients included."""
    function = FORMS[args.side]
    function(*inputs(4, 8)).backward()
    x, y = inputs(*args.size)
    before, seconds, value = peak_memory_mb(), [], 0.0
    for _ in range(args.repeats):
        y.grad = None
        began = time.perf_counter()
        loss = function(x, y)
        loss.backward()
        seconds.append(time.perf_counter() - began)
        value = loss.item()
    assert y.grad is not None
    return {
        "seconds": min(seconds),  # of the repeats: what else runs on the machine only ever adds
        "peak_mb": peak_memory_mb() - before,
        "value": value,
        "gradient": y.grad.norm().item(),
    }


def apart(form: str, size: tuple[int, int], repeats: int) -> dict[str, float]:
    return run(side_command(__file__, form, "--size", *size, "--repeats", repeats))


def results(_: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    theirs, ours, goal = apart("published", COMPARED, 5), apart("ours", COMPARED, 20), apart("ours", GOAL, 3)
    difference = abs(theirs["value"] - ours["value"])
    gradient = abs(theirs["gradient"] / ours["gradient"] - 1)
    assert difference < 1e-5 and gradient < 1e-4, (theirs, ours)
    yield (
        "quantizer_mmd",
        benchmark_record(
            f"MMD forward and backward, batch {COMPARED[0]} x {COMPARED[1]} dimensions: Gram form against the "
            "published form",
            "seconds",
            Measurement(ours["seconds"], ours["peak_mb"]),
            Measurement(theirs["seconds"], theirs["peak_mb"]),
            higher_is_better=False,
            finding=f"MMD forward and backward at batch {COMPARED[0]} x {COMPARED[1]} dimensions: Gram form against "
            f"the published form; values equal to {difference:.0e}. At batch {GOAL[0]} x {GOAL[1]} ours adds "
            f"{goal['peak_mb']:.0f} MB and takes {goal['seconds']:.3f} s",
            command="python experiments/benchmarks/quantizer_mmd.py",
            machine=machine(torch.get_num_threads()),
            commit=commit(),
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--size", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5, help=argparse.SUPPRESS)
    run_side_or_all(parser, dict.fromkeys(FORMS, measure), results)


if __name__ == "__main__":
    main()
