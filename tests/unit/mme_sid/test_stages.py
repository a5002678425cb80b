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

from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import (
    ANCHOR,
    BACKBONE,
    CURVES,
    FACTORS,
    HEADS,
    MODEL_FOLDER,
    SUMMARY,
    adapter_folder,
)
from sidflow.backbones.adapter import load_adapter
from sidflow.backbones.models import Backbone, load_backbone
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.mme_sid.fit import answer_queries, score_prior
from sidflow.mme_sid.item_tokens import load_item_inputs
from sidflow.mme_sid.model import MmeSid
from sidflow.mme_sid.params import FinetuneParams
from sidflow.mme_sid.serve import HistoryEncoder
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories
from sidflow.training.checkpoint import weights_from_arrays

MODELS = ["mme_sid", "anchored"]
ROOT = Path(__file__).parents[3]
BOTH = "from stages import backbone, finetune; backbone.main(); finetune.main('mme_sid'); finetune.main('anchored')"


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


def test_another_process_and_hash_seed_give_the_same_bytes(ran, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path, tiny.params)
    run_apart(tmp_path, 2)
    assert hashes(tmp_path) == hashes(ran)
    assert not list((ran / "cache").rglob("*.safetensors"))  # the checkpoints are gone


def test_no_file_names_this_machine(inside):
    for path in (inside / "artifacts").rglob("*.json"):
        assert str(inside) not in path.read_text()
        assert str(ROOT) not in path.read_text()


@pytest.mark.parametrize("model", MODELS)
def test_everything_is_there_and_readable(inside, model):
    about = BACKBONE.read()
    assert (about["kind"], about["family"], about["hidden_size"]) == ("scratch", "llama", 16)
    folder = adapter_folder(model)
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert (MODEL_FOLDER / "model.safetensors").stat().st_mode & 0o777 == BACKBONE.at().stat().st_mode & 0o777
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert all("lora" in name for name in load_file(folder / "adapter_model.safetensors"))
    width = 16 if model == "mme_sid" else 16 + 10  # the text rows' width
    factors = FACTORS.read(model=model).arrays
    assert factors["query_states"].shape == (120, width)
    assert factors["item_matrix"].shape == (12, width)
    assert ("query_indptr" in factors) == (model == "anchored") == ANCHOR.at(model=model).is_file()
    assert ITEM_TABLE.read(model=model).arrays["values"].shape == (14, 16)
    assert len(CURVES.read(model=model)) == 2
    summary = SUMMARY.read(model=model)
    assert summary["modalities"] == ["collaborative", "text", "image"]  # nothing has sound
    assert sum(summary["part_weights"].values()) == pytest.approx(1, abs=1e-4)
    assert set(summary["forgetting"]["text"]) == {"tau_quantized", "tau_finetuned", "queries"}


@pytest.mark.parametrize("model", MODELS)
def test_the_saved_model_loads_back_to_identical_scores(inside, model):
    settings = params.load_section(f"finetune.{model}", FinetuneParams)
    past = load_histories()
    known = load_item_inputs(list(params.load_param("modality")), (), past.training_counts(12))
    language_model, tokenizer = load_backbone(BACKBONE.read())
    torch.manual_seed(123)
    bare = settings.model_copy(update={"lora": settings.lora.model_copy(update={"enabled": False})})
    prior = score_prior(past, known, bare)
    again = MmeSid(Backbone(language_model, tokenizer), known, past, bare)
    again.backbone.model = load_adapter(language_model, adapter_folder(model), settings.lora)
    heads = HEADS.read(model=model).arrays
    weights_from_arrays(again.item_tokens, heads, "item_tokens.")
    weights_from_arrays(again.fusion, heads, "fusion.")
    if prior is not None:
        weights_from_arrays(prior, heads, "anchor.")
    again.eval()
    factors = FACTORS.read(model=model).arrays
    with torch.no_grad():
        answers = answer_queries(again, prior, past)
    assert answers.matrix is not None and answers.states is not None
    np.testing.assert_array_equal(answers.matrix, factors["item_matrix"])
    np.testing.assert_allclose(
        answers.states @ answers.matrix.T, factors["query_states"] @ factors["item_matrix"].T, atol=1e-6
    )


@pytest.mark.parametrize("model", MODELS)
def test_new_histories_are_encoded_as_queries_were(inside, model):
    past = load_histories()
    factors = FACTORS.read(model=model).arrays
    encoder = HistoryEncoder(model)
    asked = [past.history(query).tolist() for query in (0, 70)]
    np.testing.assert_allclose(encoder.states(asked), factors["query_states"][[0, 70]], atol=1e-5)
    expected = Scores(factors, past.query_count, 12).for_queries(np.array([0, 70]))
    np.testing.assert_allclose(encoder.scores(asked), expected, atol=1e-5)
    assert encoder.scores([[13]]).shape == (1, 12)  # an item outside the core is understood too
    for wrong in ([], [14], [-1]):
        with pytest.raises(InputError, match=r"item ids in \[0, 14\)"):
            encoder.states([wrong])


def test_loading_prints_nothing(inside, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        HistoryEncoder("anchored")
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()  # as before


def test_modalities_that_are_not_there_are_told(inside):
    counts = np.arange(12)
    assert list(load_item_inputs(["text", "image"], ["image"], counts).modalities) == ["text"]
    with pytest.raises(InputError, match=r"names out of.*pictures"):
        load_item_inputs(["text"], ["pictures"], counts)
    with pytest.raises(InputError, match="at least one modality"):
        load_item_inputs(["text", "sound"], ["text"], counts)
