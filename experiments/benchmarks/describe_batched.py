"""Batched generation of views against the one-item loop that scripts use: the same model, prompts and answers.

Run: python experiments/benchmarks/describe_batched.py     (`make pretrained` installs the model)

Each side runs in a process of its own and writes the text view of the same synthetic products with SmolLM2-135M,
through the writer `transformers`, greedy, on the CPU. Ours asks in batches, in fp32 and in bf16; the other side asks
for one item at a time, in fp32. Time is of the answers alone; all load the model before. Answers of fp32 are compared
word for word. Batches pay where tokens are written: what is an item's own in a question is read as slowly in a batch as
alone, so that the ratio rises with the length of the answers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

from side_by_side import (
    ROOT,
    Measurement,
    benchmark_parser,
    benchmark_record,
    peak_memory_mb,
    run_conditions,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.core.params import read_yaml_mapping
from sidflow.core.runtime import Runtime
from sidflow.semantics.params import TransformersParams
from sidflow.semantics.requests import Request, first_request, read_prompt, request_key
from sidflow.semantics.transformers_writer import TransformersWriter

DTYPES = {"bf16": "bf16", "fp32": "fp32", "loop": "fp32"}  # by side
NOUNS = ("mug", "lamp", "chair", "scarf", "kettle", "desk", "rug", "vase")
MATERIALS = ("clay", "steel", "oak", "wool", "glass", "bamboo")
USES = ("for the kitchen", "for the garden", "for small rooms", "for children")


def words(number: int) -> str:
    """Return what a shop might say about an item; lengths differ."""
    noun, material = NOUNS[number % len(NOUNS)], MATERIALS[number % len(MATERIALS)]
    lines = [f"title: {material.capitalize()} {noun} {number}", f"material: {material}"]
    lines += [f"description: A {noun} {use}, made of {material}." for use in USES[: 1 + number % len(USES)]]
    return "\n".join(lines)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Have one side write the views."""
    import torch

    os.chdir(ROOT)  # for the prompts
    torch.set_num_threads(args.threads)
    model = read_yaml_mapping(ROOT / "presets/parts/smollm2.yaml")["backbone"]
    named = {name: model[name] for name in ("kind", "package", "file", "sha256", "licence")}
    params = TransformersParams.model_validate(
        {"backend": "transformers", "model": named, "max_tokens": args.max_tokens, "dtype": DTYPES[args.side]}
    )
    writer = TransformersWriter(params, Runtime.model_validate({"device": "cpu"}))
    prompt = read_prompt("text-1", "text")
    requests: dict[str, Request] = {}
    for number in range(args.items):
        request = first_request(number, "text", prompt, words(number), None)
        requests[request_key(request, writer.model, writer.revision, params)] = request
    first = next(iter(requests.items()))
    short = first[1]._replace(prompt="One word: mug")
    list(writer.respond({first[0]: short}))  # loads the model
    groups = [{key: request} for key, request in requests.items()] if args.side == "loop" else [requests]
    began = time.perf_counter()
    answers = {one.key: one for group in groups for batch in writer.respond(group) for one in batch}
    seconds = time.perf_counter() - began
    assert answers.keys() == requests.keys()
    return {
        "rate": len(answers) / seconds,
        "tokens": sum(one.output_tokens for one in answers.values()),
        "peak_mb": peak_memory_mb(),
        "answers": {key: hashlib.sha256(one.text.encode()).hexdigest() for key, one in answers.items()},
    }


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    sizes = ("--items", args.items, "--max-tokens", args.max_tokens, "--threads", args.threads)
    sides = {side: side_command(__file__, side, *sizes) for side in DTYPES}
    figures = run_in_turn(sides, 1, args.threads)
    half, a, b = (figures[side][0] for side in DTYPES)
    same = sum(text == b["answers"][key] for key, text in a["answers"].items())
    yield (
        "describe_batched",
        benchmark_record(
            f"Text views of {args.items} items by SmolLM2-135M on the CPU: batches against one item at a time",
            "items/s",
            Measurement(a["rate"], a["peak_mb"]),
            Measurement(b["rate"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"in fp32, {a['tokens'] / args.items:.0f} tokens an answer, at most {args.max_tokens}; {same} of "
            f"{args.items} answers are the same, word for word. In bf16 {half['rate']:.2f} items/s, of other answers "
            f"of {half['tokens'] / args.items:.0f} tokens",
            command=f"python experiments/benchmarks/describe_batched.py --items {args.items} "
            f"--max-tokens {args.max_tokens}",
            items_per_second={side: round(figures[side][0]["rate"], 4) for side in DTYPES},
            tokens={side: figures[side][0]["tokens"] for side in DTYPES},
            **run_conditions(1, args.threads),
            same_answers=same,
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, threads=1)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=200)
    run_side_or_all(parser, dict.fromkeys(DTYPES, measure), results)


if __name__ == "__main__":
    main()
