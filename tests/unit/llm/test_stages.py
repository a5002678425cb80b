"""Both stages as DVC runs them, on a tiny catalogue, and what they leave behind."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers.utils import logging

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.backbone import BACKBONE, MODEL_FOLDER
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import CURVES, FACTORS, SUMMARY
from sidflow.contracts.artifacts.mme_sid import ADAPTER, HEADS
from sidflow.contracts.errors import InputError
from sidflow.llm import adapter, backbones, inputs, windows
from sidflow.llm.model import MmeSid
from sidflow.llm.params import FinetuneParams
from sidflow.llm.serving import HistoryEncoder
from sidflow.training.weights import from_arrays

ROOT = Path(__file__).parents[3]
PARAMS = {
    "preset": "test",
    "seed": 4,
    "threads": 1,
    "modality": {name: {"source": "x"} for name in ("collaborative", "text", "image", "sound")},
    "backbone": {
        "kind": "scratch",
        "scratch": {
            "hidden": 16,
            "heads": 2,
            "layers": 1,
            "feedforward": 32,
            "vocabulary": 300,
            "block_tokens": 32,
            "loop": {"epochs": 1},
        },
    },
    "finetune": {"lora": {"rank": 2}, "batch_size": 16, "loop": {"epochs": 2, "patience": 0}},
}


BOTH = "from stages import backbone, finetune; backbone.main(); finetune.main()"


def run_apart(folder, hash_seed):
    """Run both stages in another interpreter with its own hash seed."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYTHONHASHSEED": str(hash_seed)}
    environment |= {"SIDFLOW_CACHE": str(folder / "cache"), "SIDFLOW_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", BOTH], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def hashes(folder):
    paths = [path for kind in ("backbone", "recommenders") for path in (folder / "artifacts" / kind).rglob("*")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny):
    from stages import backbone, finetune

    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SIDFLOW_CACHE", str(folder / "cache"))
        patch.setenv("SIDFLOW_DEVICE", "cpu")
        tiny.write(folder, PARAMS)
        backbone.main()
        finetune.main()
    return folder


@pytest.fixture
def inside(ran, monkeypatch):
    monkeypatch.chdir(ran)
    return ran


def test_another_process_and_hash_seed_give_the_same_bytes(ran, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path, PARAMS)
    run_apart(tmp_path, 2)
    assert hashes(tmp_path) == hashes(ran)
    assert not list((ran / "cache").rglob("*.safetensors"))  # the checkpoints are gone


def test_no_file_names_this_machine(inside):
    for path in (inside / "artifacts").rglob("*.json"):
        assert str(inside) not in path.read_text()
        assert str(ROOT) not in path.read_text()


def test_everything_is_there_and_readable(inside):
    about = BACKBONE.read()
    assert (about["kind"], about["family"], about["hidden_size"]) == ("scratch", "llama", 16)
    assert {path.name for path in ADAPTER.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert (MODEL_FOLDER / "model.safetensors").stat().st_mode & 0o777 == BACKBONE.at().stat().st_mode & 0o777
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "gate_proj", "up_proj"]
    assert all("lora" in name for name in load_file(ADAPTER / "adapter_model.safetensors"))
    factors = FACTORS.read(model="mme_sid").arrays
    assert factors["query_states"].shape == (120, 16)
    assert factors["item_matrix"].shape == (12, 16)
    assert ITEM_TABLE.read(model="mme_sid").arrays["values"].shape == (14, 16)
    assert len(CURVES.read(model="mme_sid")) == 2
    summary = SUMMARY.read(model="mme_sid")
    assert summary["modalities"] == ["collaborative", "text", "image"]  # nothing has sound
    assert sum(summary["part_weights"].values()) == pytest.approx(1, abs=1e-4)
    assert set(summary["forgetting"]["text"]) == {"tau_quantized", "tau_finetuned", "queries"}


def test_the_saved_model_loads_back_to_identical_scores(inside):
    settings = params.load("finetune", FinetuneParams)
    past = histories.load()
    known = inputs.load(list(PARAMS["modality"]), (), past.training_counts(12))
    model, tokenizer = backbones.load(BACKBONE.read())
    torch.manual_seed(123)
    bare = settings.model_copy(update={"lora": settings.lora.model_copy(update={"enabled": False})})
    again = MmeSid(backbones.Backbone(model, tokenizer), known, windows.cut(past, settings.max_length), bare)
    again.reader.model = adapter.load(model, ADAPTER)
    heads = HEADS.read().arrays
    from_arrays(again.item_tokens, heads, "item_tokens.")
    from_arrays(again.fusion, heads, "fusion.")
    again.eval()
    factors = FACTORS.read(model="mme_sid").arrays
    with torch.no_grad():
        states = again.query_states(past, np.arange(past.queries)).numpy()
        matrix = again.fusion.item_matrix().numpy()
    np.testing.assert_array_equal(matrix, factors["item_matrix"])
    np.testing.assert_allclose(states @ matrix.T, factors["query_states"] @ factors["item_matrix"].T, atol=1e-6)


def test_new_histories_are_encoded_as_queries_were(inside):
    past = histories.load()
    expected = FACTORS.read(model="mme_sid").arrays["query_states"]
    encoder = HistoryEncoder()
    found = encoder.states([past.history(query).tolist() for query in (0, 70)])
    np.testing.assert_allclose(found, expected[[0, 70]], atol=1e-5)
    assert encoder.states([[13]]).shape == (1, 16)  # an item outside the core is understood too
    for wrong in ([], [14], [-1]):
        with pytest.raises(InputError, match=r"item ids in \[0, 14\)"):
            encoder.states([wrong])


def test_loading_prints_nothing(inside, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        HistoryEncoder()
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()  # as before


def test_modalities_that_are_not_there_are_told(inside):
    counts = np.arange(12)
    assert list(inputs.load(["text", "image"], ["image"], counts).modalities) == ["text"]
    with pytest.raises(InputError, match=r"names out of.*pictures"):
        inputs.load(["text"], ["pictures"], counts)
    with pytest.raises(InputError, match="at least one modality"):
        inputs.load(["text", "sound"], ["text"], counts)
