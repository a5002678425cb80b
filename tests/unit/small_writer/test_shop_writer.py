"""The committed writer: its size, its hash, what it gets right about products that it never saw, and its batches."""

import hashlib
import json
from pathlib import Path

import pytest

from sidflow.core.runtime import Runtime
from sidflow.models import batching
from sidflow.models.params import ModelParams
from sidflow.semantics.params import TransformersParams, default_prompts
from sidflow.semantics.requests import read_prompt
from sidflow.semantics.transformers_writer import TransformersWriter
from sidflow.small_writer.lessons import catalogue_lessons, examples
from sidflow.small_writer.measure import accuracy
from sidflow.small_writer.params import TrainWriterParams

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "models/shop-writer"
UNSEEN = 977  # seed of a catalogue that is neither trained on nor described


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_weights_are_small_and_those_that_are_recorded():
    weights = (FOLDER / "model.safetensors").read_bytes()
    record = json.loads((FOLDER / "writer.json").read_text())
    assert len(weights) <= 8_000_000
    assert hashlib.sha256(weights).hexdigest() == record["sha256"]
    assert record["sha256"] in (FOLDER / "README.md").read_text()
    assert UNSEEN not in {*record["catalogue_seeds"], record["held_out_seed"]}


def test_it_names_what_pictures_of_an_unseen_catalogue_show():
    figures = accuracy(FOLDER, TrainWriterParams(), UNSEEN, 240, Runtime(device="cpu"))
    floors = {"category": 0.9, "colour": 0.88, "style": 0.7, "pattern": 0.8}
    for name, floor in floors.items():
        assert figures[f"image_{name}_items"] > 220
        assert figures[f"image_{name}_accuracy"] >= floor, name
    assert figures["text_category_accuracy"] >= 0.9


def test_the_size_of_a_batch_changes_no_answer(monkeypatch):
    generation = TransformersParams(
        backend="transformers", model=ModelParams(kind="path", path=str(FOLDER)), max_tokens=64
    )
    prompts = {view: read_prompt(name, view) for view, name in default_prompts().items()}
    lessons = catalogue_lessons(Path("presets/grammar.yaml"), UNSEEN, 24)
    requests = {str(row): one.request for row, one in enumerate(examples(lessons, prompts))}
    texts = []
    for size in (5, 64):
        monkeypatch.setattr(batching, "BATCH_REQUESTS", size)
        writer = TransformersWriter(generation, Runtime(device="cpu"))
        texts.append({one.key: one.text for batch in writer.respond(requests) for one in batch})
    assert texts[0] == texts[1]
    assert len(set(texts[0].values())) > 24
