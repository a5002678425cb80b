"""MMD in Gram form against the published form, forward and backward. Run: python benchmarks/quantizer_mmd.py."""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from sidflow.losses.mmd import mmd

RESULT = Path("benchmarks/results/quantizer_mmd.json")
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


def inputs(b: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, d, generator=generator)
    return x, (x + 0.5 * torch.randn(b, d, generator=generator)).requires_grad_()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure(form: str, b: int, d: int, repeats: int) -> dict[str, float]:
    """Run one form in this process; memory is what forward and backward add to the inputs, their gradients included."""
    function = {"ours": mmd, "published": published}[form]
    function(*inputs(4, 8)).backward()
    x, y = inputs(b, d)
    before, seconds, value = peak_mb(), [], 0.0
    for _ in range(repeats):
        y.grad = None
        began = time.perf_counter()
        loss = function(x, y)
        loss.backward()
        seconds.append(time.perf_counter() - began)
        value = loss.item()
    assert y.grad is not None
    return {
        "seconds": min(seconds),  # of the repeats: what else runs on the machine only ever adds
        "peak_mb": peak_mb() - before,
        "value": value,
        "gradient": y.grad.norm().item(),
    }


def apart(form: str, size: tuple[int, int], repeats: int) -> dict[str, float]:
    """Measure in a process of its own, so that peaks do not mix."""
    arguments = [sys.executable, __file__, "--form", form, "--size", *map(str, size), "--repeats", str(repeats)]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--form")
    parser.add_argument("--size", nargs=2, type=int)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.form:
        print(json.dumps(measure(options.form, options.size[0], options.size[1], options.repeats)))
        return
    theirs, ours, goal = apart("published", COMPARED, 5), apart("ours", COMPARED, 20), apart("ours", GOAL, 3)
    difference = abs(theirs["value"] - ours["value"])
    gradient = abs(theirs["gradient"] / ours["gradient"] - 1)
    assert difference < 1e-5 and gradient < 1e-4, (theirs, ours)
    result = {
        "claim": f"MMD forward and backward, batch {COMPARED[0]} x {COMPARED[1]} dimensions: Gram form against the "
        "published form",
        "finding": f"MMD forward and backward at batch {COMPARED[0]} x {COMPARED[1]} dimensions: Gram form against "
        f"the published form; values equal to {difference:.0e}. At batch {GOAL[0]} x {GOAL[1]} ours adds "
        f"{goal['peak_mb']:.0f} MB and takes {goal['seconds']:.3f} s",
        "unit": "seconds",
        "ours": round(ours["seconds"], 5),
        "theirs": round(theirs["seconds"], 5),
        "ratio": round(theirs["seconds"] / ours["seconds"], 1),
        "peak_memory_ours": round(ours["peak_mb"], 1),
        "peak_memory_theirs": round(theirs["peak_mb"], 1),
        "command": "python benchmarks/quantizer_mmd.py",
        "machine": machine(),
        "commit": commit(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
