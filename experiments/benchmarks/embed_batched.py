"""Encoding item texts in batches of similar length, against one text at a time, as the field's scripts do.

Run: python experiments/benchmarks/embed_batched.py --texts FILE

FILE is JSON lines with `title` and `description`; office-products/items.jsonl is one. `make pretrained` installs
MiniLM. Both sides encode the same texts (evenly spread, `--count` of them, cut at 256 tokens) on one thread, each in a
process of its own, in turn; the loading of the model is not counted, and no vector comes from a cache. One side is
`sidflow.features.text_model`, which also tokenises, pools and keeps every batch in the vector store; the other calls
tokenizer and model once a text, and pools likewise. The vectors have to agree within 1e-5. With `--titles` the texts
are titles alone.
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

ENCODER = read_yaml_mapping(ROOT / "presets/embedded-pretrained.yaml")["embed"]["encoders"]["meaning"]


def encoder() -> TransformerEncoder:
    """Return MiniLM; texts are cut, as the other side cuts them, and vectors are not centred."""
    return TransformerEncoder(**ENCODER | {"max_chunks": 1, "centre": False})


def texts(args: argparse.Namespace) -> list[str]:
    """Return some of the file's texts."""
    rows = [json.loads(line) for line in args.texts.read_text().splitlines()]
    chosen = np.unique(np.linspace(0, len(rows) - 1, args.count).round().astype(int))
    words = [(str(rows[row].get("title", "")), str(rows[row].get("description", ""))) for row in chosen]
    return [title if args.titles else f"{title}. {description}" for title, description in words]


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Encode all texts in batches."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SIDFLOW_CACHE"] = cache
        text_model.encode_texts(texts(args)[:1], encoder(), "warm", 1)  # the libraries are imported
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
        encoded = text_model.encode_texts(texts(args), encoder(), "ours", 1)
        seconds = time.perf_counter() - began - loading
    np.save(args.folder / "ours.npy", encoded.values)
    return {"seconds": seconds, "peak_mb": peak_memory_mb()}


@torch.inference_mode()
def theirs(args: argparse.Namespace) -> dict[str, float]:
    """Encode one text at a time."""
    torch.set_num_threads(1)
    folder = model_folder(encoder().model, "benchmark")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokenizer(texts(args)[0])
    began = time.perf_counter()
    rows = []
    for text in texts(args):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=encoder().max_tokens)
        states = model(**inputs).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(states.mean(0), dim=0))
    vectors = torch.stack(rows).numpy()
    seconds = time.perf_counter() - began
    np.save(args.folder / "theirs.npy", vectors)
    return {"seconds": seconds, "peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run both sides and compare their vectors."""
    with tempfile.TemporaryDirectory() as folder:
        more: tuple[object, ...] = ("--texts", args.texts.resolve(), "--count", args.count, "--folder", folder)
        more += ("--titles",) if args.titles else ()
        sides = {side: side_command(__file__, side, *more) for side in ("ours", "theirs")}
        figures = medians(run_in_turn(sides, args.rounds, 1))
        vectors = [np.load(Path(folder) / f"{side}.npy") for side in sides]
        largest = float(np.abs(vectors[0] - vectors[1]).max())
    assert largest < 1e-5, f"vectors differ by {largest}"
    count, what = len(vectors[0]), "titles" if args.titles else "titles with descriptions"
    a, b = figures["ours"], figures["theirs"]
    yield (
        "embed_batched_titles" if args.titles else "embed_batched",
        benchmark_record(
            f"Encoding {count:,} {what} by MiniLM, one thread: batches of similar length against one at a time",
            "texts/s",
            Measurement(count / a["seconds"], a["peak_mb"]),
            Measurement(count / b["seconds"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"{a['seconds']:.1f} s against {b['seconds']:.1f} s; vectors differ by {largest:.1e} at most",
            command="python experiments/benchmarks/embed_batched.py --texts office-products/items.jsonl"
            + " --titles" * args.titles,
            **run_conditions(args.rounds, 1),
        ),
    )


COUNT = 600


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--texts", type=Path, required=True, help="JSON lines with title and description")
    parser.add_argument("--count", type=int, default=COUNT, help="texts that are encoded")
    parser.add_argument("--titles", action="store_true", help="encode titles alone")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    run_side_or_all(parser, {"ours": ours, "theirs": theirs}, results)


if __name__ == "__main__":
    main()
