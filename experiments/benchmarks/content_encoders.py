"""What is each encoder worth beside co-occurrence, and for items that nobody has had?

Run: python experiments/benchmarks/content_encoders.py --run office-products=FOLDER [--only text_256 meaning]
then: python -m experiments.tables docs/embeddings.md

FOLDER holds a project in which `dvc repro ingest split` has run on the preset. `make pretrained` installs the text
model; a model that is not installed is left out, and the output says so. Each row encodes the catalogue and fits the
recommender `cooccurrence_content` on it: its settings and the weight of the content are chosen on validation, the test
figure is of that choice. New items: a fifth of the core, drawn once, plays items that nobody has had. A query whose
target is among them is answered by the cosine to its last items alone, among those of the fifth that it has not had.
Differences are to TF-IDF with an SVD of 256, over users (paired bootstrap).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
from finished_run import add_run_option, folder_of, name_of
from scipy import sparse
from side_by_side import ROOT, benchmark_parser, commit, machine, write

from sidflow.artifacts.catalog import IMAGES, ITEMS, core_count
from sidflow.artifacts.features import SEMANTICS, SPARSE_EMBEDDING, Matrix, read_core_rows
from sidflow.core.errors import InputError
from sidflow.core.params import read_yaml_mapping
from sidflow.counting.cooccurrence import (
    ContentParams,
    choose_content,
    content_factors,
    recency_weights,
)
from sidflow.counting.search import METRIC, dense_ranks
from sidflow.evaluation.statistics import PairedBootstrap
from sidflow.features.encode import EncoderOutput, run_encoders
from sidflow.features.params import EmbedParams, SpaceParams
from sidflow.metrics.geometry import effective_rank, singular_values, unit_rows
from sidflow.metrics.ranking import metric_at_k
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.histories import Histories, load_histories

NEW_SHARE, SEED = 0.2, 0  # of the items that play new ones
MINILM = read_yaml_mapping(ROOT / "presets/parts/minilm.yaml")["embed"]["encoders"]["meaning"]
TUNED = MINILM | {"kind": "contrastive", "view_tokens": 48, "epochs": 3}  # 48: most views of a short text
BASE = "text_256"  # the row that the others are compared with
WIDTHS = (256, 512, 1024, 2048)


def settings() -> dict[str, dict[str, Any]]:
    """Return the encoders of every row, by the row's name; the last of each is what is measured."""
    meaning, plain = {"meaning": MINILM}, {"text": {"kind": "tfidf", "space": "s256"}}
    wide = {"text": {"kind": "tfidf_svd", "space": "s256"}}
    rows: dict[str, dict[str, Any]] = {
        f"text_{width}": {"text": {"kind": "tfidf_svd", "space": f"s{width}"}} for width in WIDTHS
    }
    rows["text_plain"] = plain
    rows["meaning"] = meaning
    rows["meaning_first_chunk"] = {"meaning": MINILM | {"max_chunks": 1}}
    rows["meaning_random"] = {"meaning": MINILM | {"model": MINILM["model"] | {"weights": "random"}}}
    rows["contrastive"] = {"contrastive": TUNED}
    side_by_side = {"kind": "concat", "parts": ["text", "contrastive"], "weights": [1.0, 1.0]}
    rows["text_256_and_contrastive_1"] = wide | {"contrastive": TUNED, "both": side_by_side}
    for weight in (0.5, 1.0):
        both = {"kind": "concat", "parts": ["text", "meaning"], "weights": [1.0, weight]}
        rows[f"text_256_and_meaning_{weight:g}"] = wide | meaning | {"both": both}
        rows[f"text_plain_and_meaning_{weight:g}"] = plain | meaning | {"both": both}
    rows["pictures"] = {"image": {"kind": "picture_descriptors"}}
    return rows


def encode(encoders: dict[str, Any]) -> EncoderOutput:
    """Return the output of the last of the encoders, on the catalogue of the working directory."""
    spaces = {f"s{width}": SpaceParams(dim=width) for width in WIDTHS}
    params = EmbedParams(spaces=spaces, encoders=encoders)
    *_, last = run_encoders(ITEMS.read(), IMAGES.read(), SEMANTICS.empty(), params, seed=42)
    return last


def content_rows(output: EncoderOutput, items: int) -> Matrix:
    """Return what `cooccurrence_content` would read of the output's file."""
    with tempfile.TemporaryDirectory() as folder:
        file = replace(output.file, path=f"{folder}/{{name}}.safetensors")
        rows = read_core_rows(file.write(output.arrays, output.metadata, name=output.name), items)
    return unit_rows(rows.values, rows.present)


def gains(scores: np.ndarray, histories: Histories, queries: np.ndarray, items: int, rivals: np.ndarray) -> np.ndarray:
    """Return nDCG@10 of each query among the items that are `rivals`, bool [n]."""
    masked = histories.excluded(items, queries)
    blocked = sparse.csr_matrix(np.broadcast_to(~rivals, (len(queries), items))) if not rivals.all() else masked
    masked = sparse.csr_matrix((masked + blocked) > 0)
    ranks = dense_ranks(scores, masked, histories.targets[queries])
    return metric_at_k(ranks, "ndcg", 10)


def new_items(items: int) -> np.ndarray:
    """Return which items play new ones, bool [n]."""
    return np.random.default_rng(SEED).random(items) < NEW_SHARE


def measure(content: Matrix | None, histories: Histories, items: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the figures of a row, and each test query's and each new item's nDCG@10."""
    settings = ContentParams(features="artifacts/embeddings/any.safetensors")
    if content is None:
        settings = settings.model_copy(update={"contents": (0.0,)})
    rows = np.zeros((items, 1), dtype=np.float32) if content is None else content
    choice = choose_content(histories, items, settings, rows)
    factors = content_factors(histories, training_events(histories, items), choice.setting, rows)
    test = np.flatnonzero(~histories.query_valid)
    everything = np.ones(items, dtype=bool)
    each = {"test": gains(factors.scores(test), histories, test, items, everything)}
    figures = {
        METRIC: max(trial[METRIC] for trial in choice.trials),
        "ndcg_at_10": float(each["test"].mean()),
        "content": choice.setting["content"],
    }
    if content is not None:
        new = new_items(items)
        asked = np.flatnonzero(new[histories.targets])
        scores = recency_weights(histories.query_slices(asked), items, choice.setting) @ content @ content.T
        scores = scores.toarray() if isinstance(scores, sparse.csr_matrix) else np.asarray(scores)
        each["new"] = gains(scores.astype(np.float32), histories, asked, items, new)
        figures |= {"new_items_ndcg_at_10": float(each["new"].mean()), "new_items_queries": len(asked)}
    return figures, each


def main() -> None:
    parser = benchmark_parser(__doc__)
    add_run_option(parser)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows to measure, by name")
    args: argparse.Namespace = parser.parse_args()
    name = name_of(args.run)
    os.chdir(folder_of(args.run))
    histories, items = load_histories(), core_count()
    each: dict[str, dict[str, np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    for row, encoders in {"none": {}, **settings()}.items():
        if args.only and row not in (*args.only, BASE):
            continue
        began = time.perf_counter()
        about: dict[str, Any] = {"row": row}
        try:
            output = encode(encoders) if encoders else None
        except InputError as error:
            print(f"{row} is left out: {error.line()}")
            continue
        if output is not None and not output.arrays["present"].any():
            print(f"{row} is left out: no item has it")
            continue
        content = None
        if output is not None:
            content = content_rows(output, items)
            about["seconds"] = round(time.perf_counter() - began, 1)  # of encoding; next to nothing from the cache
            about["width"] = int((content.shape or (0, 0))[1])
            if output.file is not SPARSE_EMBEDDING:
                about["effective_rank"] = round(effective_rank(singular_values(np.asarray(content))), 1)
        figures, each[row] = measure(content, histories, items)
        rows.append(about | {key: round(float(value), 5) for key, value in figures.items()})
        print(json.dumps(rows[-1]), flush=True)
    new = new_items(items)[histories.targets]
    users = {"test": histories.query_user[~histories.query_valid], "new": histories.query_user[new]}
    for row in rows:
        for part, own in each[row["row"]].items():
            if row["row"] != BASE and part in each.get(BASE, {}):
                interval = PairedBootstrap({"x": own - each[BASE][part]}, users[part], draws=2000, seed=SEED).interval(
                    "x"
                )
                row[f"{part}_difference"] = [round(float(x), 5) for x in (interval.mean, interval.low, interval.high)]
    command = f"python experiments/benchmarks/content_encoders.py --run {name}=FOLDER"
    command += f" --only {' '.join(args.only)}" if args.only else ""
    record = {"run": name, "rows": rows, "command": command, "machine": machine(1), "commit": commit()}
    write(f"content/{name}", record, args.dry, replace=args.replace)


if __name__ == "__main__":
    main()
