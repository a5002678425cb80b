"""A merged checkpoint answers as the artifacts do, through transformers alone."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sidflow.contracts import histories
from sidflow.contracts.artifacts.factors import FACTORS
from sidflow.contracts.errors import InputError
from sidflow.llm.merging import SETTINGS, TABLES, merge


def test_transformers_alone_gives_the_same_scores(inside, tmp_path):
    merge("mme_sid", tmp_path / "out")
    settings, tables = json.loads((tmp_path / "out" / SETTINGS).read_text()), load_file(tmp_path / "out" / TABLES)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    past, factors = histories.load(), FACTORS.read(model="mme_sid").arrays
    for query in (0, 70):
        history = past.history(query)[-settings["max_length"] :]
        words = model.get_input_embeddings()(torch.tensor(settings["before"]))
        read = torch.cat([words, torch.from_numpy(tables["item_tokens"])[history]])[None]
        with torch.no_grad():
            state = model.model(inputs_embeds=read).last_hidden_state[0, -1].numpy()
        expected = factors["query_states"][query] @ factors["item_matrix"].T
        np.testing.assert_allclose(state @ tables["item_matrix"].T, expected, atol=1e-5)
    assert len(settings["item_keys"]) == len(tables["item_tokens"]) == 14
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("oldest first") != []
    assert {path.suffix for path in (tmp_path / "out").iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_is_overwritten(inside, tmp_path):
    (tmp_path / "kept").write_text("x")
    with pytest.raises(InputError, match="a new or an empty folder"):
        merge("mme_sid", tmp_path)
    assert (tmp_path / "kept").read_text() == "x"


def test_an_anchored_one_says_why_not(inside, tmp_path):
    with pytest.raises(InputError, match=r"inner products.*found anchor: both"):
        merge("anchored", tmp_path / "out")
    assert not (tmp_path / "out").exists()
