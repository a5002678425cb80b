"""What a trained writer gets right on a synthetic catalogue that it has not seen, through the code of `describe`."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sidflow.core.runtime import Runtime
from sidflow.models.files import file_hashes
from sidflow.models.params import ModelParams
from sidflow.semantics.answers import read_answer, view_text
from sidflow.semantics.audit import truth_figures
from sidflow.semantics.params import TransformersParams, View
from sidflow.semantics.requests import Prompt, read_prompt
from sidflow.semantics.transformers_writer import TransformersWriter
from sidflow.small_writer.lessons import VIEWS, catalogue_lessons, examples
from sidflow.small_writer.params import TrainWriterParams

ANSWER_TOKENS = 64


def accuracy(folder: Path, settings: TrainWriterParams, seed: int, items: int, runtime: Runtime) -> dict[str, float]:
    """Return what the writer in `folder` gets right about the catalogue of `seed`; failed answers count as wrong.

    Args:
        folder: a writer as `save_writer` leaves it.
        settings: name the grammar.
        seed: of a synthetic catalogue.
        items: its size.
        runtime: the device.
    """
    generation = TransformersParams(
        backend="transformers", model=ModelParams(kind="path", path=str(folder)), max_tokens=ANSWER_TOKENS
    )
    prompts: dict[View, Prompt] = {view: read_prompt(generation.prompts[view], view) for view in VIEWS}
    lessons = catalogue_lessons(Path(settings.grammar), seed, items)
    requests = {str(row): one.request for row, one in enumerate(examples(lessons, prompts))}
    writer = TransformersWriter(generation, runtime)
    rows = []
    for responses in writer.respond(requests):
        for response in responses:
            request = requests[response.key]
            answer = read_answer(response, request.view, prompts[request.view].template)
            text = "" if answer.failure else view_text(answer.fields, request.view)
            rows.append((request.item_id, request.view, text))
    writer.close()
    semantics = pl.DataFrame(rows, schema={"item_id": pl.Int32, "view": pl.String, "text": pl.String}, orient="row")
    columns = {name: [lesson.truth[name] for lesson in lessons] for name in lessons[0].truth}
    truth = pl.DataFrame({"item_id": pl.Series(range(len(lessons)), dtype=pl.Int32), **columns})
    return truth_figures(semantics, truth, VIEWS)


def record_of_writer(
    folder: Path, settings: TrainWriterParams, runtime: Runtime, *, seed: int, threads: int
) -> dict[str, object]:
    """Return what is recorded of a trained writer: seeds, the weights' hash, and its accuracy on unseen products."""
    figures = accuracy(folder, settings, settings.held_out_seed, settings.held_out_items, runtime)
    return {
        "kind": settings.kind,
        "seed": seed,
        "threads": threads,
        "catalogue_seeds": list(settings.seeds),
        "catalogue_items": settings.items,
        "held_out_seed": settings.held_out_seed,
        "held_out_items": settings.held_out_items,
        "sha256": file_hashes(folder)["model.safetensors"],
        "held_out": figures,
    }
