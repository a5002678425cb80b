"""Encoding item texts in batches, against the loop of the field's scripts: one item at a time, field after field.

Run: python experiments/benchmarks/embed_batched.py --texts FILE

FILE is JSON lines with `title` and `description`; office-products/items.jsonl is one. `make pretrained` installs
MiniLM. Both sides encode title and description of the same items (evenly spread, `--count` of them, cut at 256 tokens),
each in a process of its own with as many cores, in turn; the loading of the model is not counted. The other side is the
loop of LC-Rec's `data_process/amazon_text_emb.py`, which LETTER and others have too: a batch of one item, its fields
tokenised and encoded one after the other, on torch's own threads, in fp32. Ours is `sidflow.features.text_model`, in
fp32 and in bf16, which also keeps every vector in the vector store; no vector comes from it. In fp32 the vectors have
to agree within 1e-5; of bf16 the agreement of nearest neighbours is recorded. With `--titles` texts are titles alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import (
    ROOT,
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
from transformers import AutoModel, AutoTokenizer

from sidflow.core.params import read_yaml_mapping
from sidflow.features import text_model
from sidflow.features.params import TransformerEncoder
from sidflow.models.files import model_folder
from sidflow.models.loading import without_library_output

ENCODER = read_yaml_mapping(ROOT / "presets/parts/minilm.yaml")["embed"]["encoders"]["meaning"]
SIDES = ("fp32", "bf16", "loop")
NEIGHBOURS = 10


def encoder(dtype: str = "fp32") -> TransformerEncoder:
    """Return MiniLM; texts are cut, as the other side cuts them, and vectors are not centred."""
    return TransformerEncoder(**ENCODER | {"max_chunks": 1, "centre": False, "dtype": dtype})


def texts(args: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return the fields of some of the file's items."""
    rows = [json.loads(line) for line in args.texts.read_text().splitlines()]
    chosen = np.unique(np.linspace(0, len(rows) - 1, args.count).round().astype(int))
    fields = ("title",) if args.titles else ("title", "description")
    return [tuple(str(rows[row].get(field, "")) or " - " for field in fields) for row in chosen]


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Encode all fields in batches."""
    fields = [text for item in texts(args) for text in item]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SIDFLOW_CACHE"] = cache
        text_model.encode_texts(fields[:1], encoder(args.side), "warm", 1)  # the libraries are imported
        os.environ["SIDFLOW_CACHE"] = f"{cache}/empty"
        loading = 0.0
        load = text_model.TextModel.load

        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal loading
            began = time.perf_counter()
            model = load(*arguments, **options)
            loading += time.perf_counter() - began
            return model

        text_model.TextModel.load = timed  # type: ignore[method-assign]
        began = time.perf_counter()
        encoded = text_model.encode_texts(fields, encoder(args.side), "ours", 1)
        seconds = time.perf_counter() - began - loading
    np.save(args.folder / f"{args.side}.npy", encoded.values)
    return {"seconds": seconds, "peak_mb": peak_memory_mb()}


@torch.inference_mode()
def loop(args: argparse.Namespace) -> dict[str, float]:
    """Encode one item at a time, field after field."""
    folder = model_folder(encoder().model, "benchmark")
    with without_library_output():
        model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    items = texts(args)
    tokenizer(items[0][0])
    rows = []
    began = time.perf_counter()
    for item in items:
        for text in item:
            inputs = tokenizer(
                [text], return_tensors="pt", truncation=True, max_length=encoder().max_tokens, padding="longest"
            )
            states = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
            mask = inputs.attention_mask[..., None]
            rows.append((states * mask).sum(1) / mask.sum(1))
    vectors = torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()
    seconds = time.perf_counter() - began
    np.save(args.folder / "loop.npy", vectors)
    return {"seconds": seconds, "peak_mb": peak_memory_mb()}


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Return the positions of each vector's nearest others by cosine, [n, NEIGHBOURS]."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def shared_neighbours(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of nearest neighbours that both have."""
    pairs = zip(nearest(one), nearest(other), strict=True)
    return float(np.mean([len(set(a) & set(b)) for a, b in pairs])) / NEIGHBOURS


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run all sides and compare their vectors."""
    with tempfile.TemporaryDirectory() as folder:
        more: tuple[object, ...] = ("--texts", args.texts.resolve(), "--count", args.count, "--folder", folder)
        more += ("--titles",) if args.titles else ()
        sides = {side: side_command(__file__, side, *more) for side in SIDES}
        figures = medians(run_in_turn(sides, args.rounds, args.threads))
        exact, half, looped = (np.load(Path(folder) / f"{side}.npy") for side in SIDES)
    largest = float(np.abs(exact - looped).max())
    assert largest < 1e-5, f"vectors differ by {largest}"
    a, b, c = (figures[side] for side in SIDES)
    what = "titles" if args.titles else "titles and descriptions"
    count, shared = args.count, shared_neighbours(exact, half)
    yield (
        "embed_batched_titles" if args.titles else "embed_batched",
        benchmark_record(
            f"Encoding {what} of {count:,} items by MiniLM: batches in bf16 against LC-Rec's loop of one in fp32",
            "items/s",
            Measurement(count / b["seconds"], b["peak_mb"]),
            Measurement(count / c["seconds"], c["peak_mb"]),
            higher_is_better=True,
            finding=f"{b['seconds']:.1f} s in bf16 and {a['seconds']:.1f} s in fp32, against {c['seconds']:.1f} s: "
            f"{c['seconds'] / b['seconds']:.2f} and {c['seconds'] / a['seconds']:.2f} times as fast. In fp32 vectors "
            f"differ by {largest:.0e} at most; {shared:.1%} of the {NEIGHBOURS} nearest are the same in bf16, and the "
            f"smallest cosine to fp32 is {float((exact * half).sum(1).min()):.5f}",
            command="python experiments/benchmarks/embed_batched.py --texts office-products/items.jsonl"
            + " --titles" * args.titles,
            **run_conditions(args.rounds, args.threads),
            seconds={side: round(figures[side]["seconds"], 2) for side in SIDES},
            same_neighbours=round(shared, 4),
        ),
    )


COUNT = 200


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines with title and description")
    parser.add_argument("--count", type=int, default=COUNT, help="items that are encoded")
    parser.add_argument("--threads", type=int, default=2, help="of each side: torch's own of the loop, workers of ours")
    parser.add_argument("--titles", action="store_true", help="encode titles alone")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    run_side_or_all(parser, {"fp32": ours, "bf16": ours, "loop": loop}, results)


if __name__ == "__main__":
    main()
