"""MME-SID at the size of Llama-3-8B on one GPU: tokens a second, peak memory, seconds an epoch, and the arithmetic.

Run: python experiments/benchmarks/mme_sid_gpu.py [--weights nf4] [--run amazon-beauty-mmesid=FOLDER]

No weights are needed: the backbone has Llama-3-8B's shape and random weights, built on the device (32 layers, hidden
4096, feed-forward 14336, 32 heads with 8 of keys and values, vocabulary 128256). LoRA of rank 8 on gate, up and down
projections, three modalities with codes as in the paper, bf16 arithmetic. Histories are those of a finished run, or
drawn: as many users, items and interactions as Amazon Beauty has. Training is the pipeline's own. `--steps 0` runs a
whole epoch; otherwise the epoch is taken up from its item tokens. The floor is 4 operations an item token and
parameter (2 forward, 2 backward through frozen weights) at the rate of a large bf16 product on the same device.
`--tiny` runs a small shape on the CPU, to see that the script works; it writes no result.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import mme_sid_common as common
import numpy as np
import torch
from finished_run import add_run_option, enter_run, name_of
from side_by_side import Measurement, benchmark_parser, benchmark_record, peak_memory_mb, run_conditions, write
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sidflow.artifacts.catalog import core_count
from sidflow.backbones.models import Backbone, load_backbone, record_of_folder
from sidflow.backbones.params import LoraParams
from sidflow.backbones.scratch import train_tokenizer
from sidflow.mme_sid.item_tokens import ItemInputs, ModalityInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneLoop, FinetuneParams
from sidflow.models.loading import without_library_output
from sidflow.sequences.histories import Histories, load_histories
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

SEED = 42
WARM_UP = 3  # steps
PUBLISHED_SECONDS = 110 * 60  # an epoch of Beauty on eight A100, as the public code's README says
GOAL_SECONDS = 60
PROMPT = FinetuneParams().prompt


class Size(NamedTuple):
    """How large everything is."""

    shape: dict[str, int]  # of the backbone
    users: int
    items: int
    events: int
    widths: dict[str, int]  # of the modalities' rows
    codes: tuple[int, int]  # levels, codes a level
    product: int  # rows and columns of the product that tells the device's rate


LLAMA = Size(
    {
        "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
    users=22_332, items=12_086, events=198_215,
    widths={"collaborative": 64, "text": 1280, "image": 1280}, codes=(4, 256), product=8192,
)  # fmt: skip
TINY = Size(
    {
        "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    users=60, items=40, events=540, widths={"collaborative": 6, "text": 10, "image": 8}, codes=(2, 5), product=256,
)  # fmt: skip


def random_histories(size: Size) -> Histories:
    """Return histories of at least five items, with a long tail, that come to `size.events`; the last two held out."""
    draw = np.random.default_rng(SEED)
    more = draw.geometric(size.users / (size.events - 4 * size.users), size.users)  # 1 or more, of the right mean
    lengths = 4 + np.minimum(more, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    none = np.zeros(0, dtype=np.int64)
    items = draw.integers(0, size.items, offsets[-1]).astype(np.int32)
    return Histories(items, offsets, lengths - 2, none, none, none.astype(bool), none)


def random_inputs(size: Size, histories: Histories, items: int) -> ItemInputs:
    """Return random rows, codes and codebooks as wide as the backbone."""
    draw = np.random.default_rng(SEED)
    levels, codes = size.codes
    hidden = size.shape["hidden_size"]
    modalities = {
        name: ModalityInputs(
            draw.standard_normal((items, width), dtype=np.float32),
            np.ones(items, dtype=bool),
            draw.integers(0, codes, (items, levels)),
            draw.standard_normal((levels, codes, hidden), dtype=np.float32),
        )
        for name, width in size.widths.items()
    }
    return ItemInputs(modalities, histories.training_counts(items))


def random_backbone(size: Size, weights: str, device: torch.device) -> Backbone:
    """Return a backbone with random weights; for nf4 saved as bf16 and loaded as the pipeline loads it."""
    tokenizer = train_tokenizer([PROMPT] * 50, size.shape["vocab_size"])
    config = LlamaConfig(**size.shape, rope_theta=500_000.0, max_position_embeddings=8192)  # type: ignore[call-arg]
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device, without_library_output():
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    if weights != "nf4":
        return Backbone(model.requires_grad_(False).eval(), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        torch.cuda.empty_cache()
        return load_backbone(record_of_folder("path", Path(folder), {"path": folder}), weights)


def matmul_rate(size: int, device: torch.device) -> float:
    """Return the operations a second of a large matrix product, the best of ten."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _synchronize(device)
        began = time.perf_counter()
        torch.matmul(one, other)
        _synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_epoch(args: argparse.Namespace, size: Size, device: torch.device) -> dict[str, Any]:
    """Train for some steps, or an epoch, and return what they cost."""
    histories, items = random_histories(size), size.items
    if args.run:
        with enter_run(args.run):
            histories, items = load_histories(), core_count()
    histories = histories._replace(query_user=histories.query_user[:0], query_end=histories.query_end[:0],
                                   query_valid=histories.query_valid[:0], targets=histories.targets[:0])  # fmt: skip
    rate = matmul_rate(size.product, device)
    backbone = random_backbone(size, args.weights, device)
    parameters = sum(size_of(p) for p in backbone.model.parameters())
    settings = FinetuneParams(
        batch_size=args.batch,
        start="plain",
        lora=LoraParams(rank=8, alpha=16, dropout=0.05, targets=("gate_proj", "up_proj", "down_proj")),
        loop=FinetuneLoop(epochs=1, patience=0, learning_rate=3e-4, warmup_steps=100, precision="bf16"),
    )
    model = MmeSid(backbone, random_inputs(size, histories, items), histories, settings).to(device)
    share = common.PartOfEpoch(MmeSidTask(model, histories, settings), args.steps and WARM_UP + args.steps)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ticks: list[float] = []

    def tick(_: int) -> None:
        _synchronize(device)
        ticks.append(time.perf_counter())

    fit("gpu", share, settings.loop, seed=SEED, device=device, on_step=tick)
    lengths = (model.windows.lengths - 1).numpy()
    tokens = sum(int(lengths[rows.numpy()].sum()) for rows in share.chosen[WARM_UP:])
    places = sum(len(rows) * int(lengths[rows.numpy()].max()) for rows in share.chosen[WARM_UP:])
    seconds = ticks[-1] - ticks[WARM_UP - 1]
    every = int(lengths.sum())
    memory = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else peak_memory_mb()
    return {
        "parameters": parameters,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "users": histories.user_count,
        "item_tokens_an_epoch": every,
        "item_tokens_timed": tokens,
        "share_of_padding": round(1 - tokens / places, 4),
        "steps_timed": len(share.chosen) - WARM_UP,
        "tokens_per_second": tokens / seconds,
        "epoch_seconds": seconds * every / tokens,
        "operations": 4.0 * every * parameters,
        "measured_operations_per_second": rate,
        "peak_mb": memory,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
    }


def size_of(parameter: Tensor) -> int:
    """Return how many weights a parameter stands for; 4-bit ones are packed in pairs."""
    return parameter.numel() * (2 if type(parameter).__name__ == "Params4bit" else 1)


def published_record(figures: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    floor = figures["operations"] / figures["measured_operations_per_second"]
    seconds = figures["epoch_seconds"]
    run = f" --run {name_of(args.run)}=FOLDER" if args.run else ""
    shape = "a tiny shape" if args.tiny else "the shape of Llama-3-8B"
    return benchmark_record(
        f"MME-SID in {shape} ({args.weights}), an epoch, one {figures['device']} against 8 A100",
        "seconds",
        Measurement(seconds, figures["peak_mb"]),
        Measurement(PUBLISHED_SECONDS),
        higher_is_better=False,
        finding=f"{seconds:.1f} s an epoch of {figures['item_tokens_an_epoch']:,} item tokens (published: "
        f"{PUBLISHED_SECONDS:,} s on eight A100; goal: {GOAL_SECONDS} s), "
        f"{figures['tokens_per_second']:,.0f} a second; "
        f"peak memory {figures['peak_mb']:,.0f} MB. Arithmetic: {figures['item_tokens_an_epoch']:,} x 4 x "
        f"{figures['parameters'] / 1e9:.2f}e9 parameters = {figures['operations']:.2e} operations; at the "
        f"{figures['measured_operations_per_second'] / 1e12:,.0f} TFLOP/s of a large product {floor:.1f} s, so that "
        f"{100 * floor / seconds:.0f}% of that rate is reached, heads and softmax not counted",
        command=f"python experiments/benchmarks/mme_sid_gpu.py --weights {args.weights} --batch {args.batch}{run}",
        floor_seconds=round(floor, 3),
        share_of_measured_rate=round(floor / seconds, 4),
        goal_seconds=GOAL_SECONDS,
        steps=args.steps,
        weights=args.weights,
        **figures,
        **run_conditions(1, torch.get_num_threads()),
    )


def missing_requirement(args: argparse.Namespace) -> str | None:
    """Return why this cannot run here."""
    if args.tiny:
        return "--tiny runs on the CPU, where nf4 is not" if args.weights == "nf4" else None
    if not torch.cuda.is_available():
        return "expected a CUDA device, found none that torch can use; remedy: run on a GPU, or --tiny for a look"
    if args.weights == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        return (
            "expected bitsandbytes for --weights nf4, found none; remedy: pip install bitsandbytes, or --weights bf16"
        )
    return None


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--weights", choices=["bf16", "nf4"], default="bf16", help="of the frozen backbone")
    add_run_option(parser, required=False, help="take the histories of a finished run; else they are drawn")
    parser.add_argument("--batch", type=int, default=256, help="histories a step")
    parser.add_argument("--steps", type=int, default=0, help="timed, after a warm-up; 0: all of an epoch")
    parser.add_argument("--tiny", action="store_true", help="a small shape on the CPU; no result is written")
    args = parser.parse_args()
    why = missing_requirement(args)
    if why:
        print(f"mme_sid_gpu: {why}", file=sys.stderr)
        sys.exit(2)
    if args.tiny:
        os.environ["SIDFLOW_DEVICE"] = "cpu"
        args.batch = min(args.batch, 8)
    device = prepare_training(SEED, torch.get_num_threads())
    figures = measure_epoch(args, TINY if args.tiny else LLAMA, device)
    write("mme_sid_gpu", published_record(figures, args), args.dry or args.tiny, replace=args.replace)


if __name__ == "__main__":
    main()
