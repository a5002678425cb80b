"""The writer's training: it overfits a handful of products through the stage, and resumes to the same bytes."""

import importlib.util
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sidflow.artifacts.writer import WRITER, WRITER_FOLDER
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.small_writer import fit as small_writer_fit
from sidflow.small_writer.measure import accuracy
from sidflow.small_writer.params import TrainWriterParams
from sidflow.training import loop as training_loop

ROOT = Path(__file__).parents[3]
LOOP = {"patience": 0, "learning_rate": 0.004, "warmup_steps": 5, "clip_norm": 1.0}
TINY = {
    "kind": "shop",
    "seeds": [31],
    "items": 24,
    "held_out_items": 24,
    "batch_size": 8,
    "tower_batch_size": 8,
    "sizes": {"picture_side": 48, "patch": 12, "vision_hidden": 64, "vision_layers": 1, "hidden": 64, "layers": 2},
    "tower_loop": {**LOOP, "epochs": 2},
    "loop": {**LOOP, "epochs": 2},
}


def run_stage(folder, monkeypatch, train_writer):
    folder.mkdir(exist_ok=True)
    for name in ("presets", "prompts"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    with Path("params.yaml").open("w") as file:
        YAML().dump({"preset": "t", "seed": 5, "threads": 1, "train_writer": train_writer}, file)
    spec = importlib.util.spec_from_file_location("stage_train_writer", ROOT / "stages/train_writer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
    return {path.name: path.read_bytes() for path in WRITER_FOLDER.iterdir()}


def test_without_training_the_folder_holds_its_record_alone(tmp_path, monkeypatch):
    files = run_stage(tmp_path / "a", monkeypatch, {"kind": "none"})
    assert set(files) == {"writer.json"}
    assert json.loads(files["writer.json"]) == {"kind": "none"}


def test_a_killed_training_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0")
    whole = run_stage(tmp_path / "a", monkeypatch, TINY)
    steps = {"taken": 0, "kill_at": 10}
    step = training_loop._Trainer.step

    def killed(self, *arguments):
        steps["taken"] += 1
        if steps["taken"] == steps["kill_at"]:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(training_loop._Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "b", monkeypatch, TINY)
    first = steps["taken"]
    resumed = run_stage(tmp_path / "b", monkeypatch, TINY)
    assert resumed == whole
    per_training = 2 * 3  # epochs, batches of the tower; the answers have more
    assert first == 10 > per_training  # the kill was in the second training


def test_it_overfits_a_handful_of_products(tmp_path, monkeypatch):
    loops = {"tower_loop": {**LOOP, "epochs": 25}, "loop": {**LOOP, "epochs": 40, "schedule": "cosine"}}
    monkeypatch.setattr(small_writer_fit, "SHIFT", 0)
    run_stage(tmp_path / "a", monkeypatch, TINY | loops)
    params = TrainWriterParams.model_validate(TINY)
    figures = accuracy(WRITER_FOLDER, params, 31, 24, Runtime(device="cpu"))
    for name in ("image_category", "image_colour", "joint_colour", "text_category"):
        assert figures[f"{name}_accuracy"] > 0.8, name
    record = WRITER.read()
    assert record["catalogue_seeds"] == [31]
    assert record["held_out"]["image_category_items"] > 0


def test_the_held_out_catalogue_is_another_one():
    with pytest.raises((InputError, ValueError), match="held_out_seed"):
        TrainWriterParams.model_validate({"seeds": [201]})
