"""New histories and cold items from the artifacts, and a merged checkpoint through transformers alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.recommenders import BACKBONE, COLD_ROWS, FACTORS, HEADS
from sidflow.core.errors import InputError
from sidflow.mme_sid.serve import SETTINGS, TABLES, HistoryEncoder, merge
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories
from sidflow.serving.recommendations import recommend_after


@pytest.mark.parametrize("model", ["mme_sid", "anchored"])
def test_saved_rows_are_those_of_the_saved_weights(inside, model):
    heads, found = HEADS.read(model=model).arrays, COLD_ROWS.read(model=model).arrays
    names = ["collaborative", "text", "image"]
    modalities = {name: MODALITY.read(name=name).arrays for name in names}
    hidden = heads["fusion.table"].shape[1]
    logits = np.maximum(heads["fusion.weigh.0.bias"], 0) @ heads["fusion.weigh.2.weight"].T
    logits += heads["fusion.weigh.2.bias"]
    for row, item in enumerate((12, 13)):
        total = weights = 0
        for column, name in enumerate(names, 1):
            if modalities[name]["present"][item]:
                projected = heads[f"fusion.project.{name}.weight"] @ modalities[name]["values"][item]
                total = total + np.exp(logits[column]) * (projected + heads[f"fusion.project.{name}.bias"])
                weights = weights + np.exp(logits[column])
        np.testing.assert_allclose(found["values"][row, :hidden], total / weights, atol=1e-5)


@pytest.mark.parametrize("model", ["mme_sid", "anchored"])
def test_factors_of_new_histories_hold_core_and_cold(inside, model):
    encoder, past = HistoryEncoder(model), load_histories()
    asked = [past.history(0).tolist(), [13, 2]]
    core = Scores(encoder.factors(asked), 2, 12).for_queries(slice(None))
    np.testing.assert_allclose(core, encoder.scores(asked), atol=1e-5)
    both = Scores(encoder.factors(asked, cold=True), 2, 14).for_queries(slice(None))
    np.testing.assert_array_equal(both[:, :12], core)
    np.testing.assert_allclose(both[:, 12:], encoder.states(asked) @ encoder.cold.values.T, atol=1e-5)
    assert FACTORS.read(model=model).arrays["item_matrix"].shape == encoder.item_matrix.shape


@pytest.mark.parametrize("model", ["mme_sid", "anchored"])
def test_what_is_recommended_is_what_scores_highest(inside, model):
    encoder, history = HistoryEncoder(model), [3, 13, 4]
    keys = [f"k{item:02d}" for item in history]
    scores = Scores(encoder.factors([history], cold=True), 1, 14).for_queries(slice(None))[0]
    scores[history] = -np.inf
    order = [item for item in np.argsort(-scores, kind="stable") if np.isfinite(scores[item])]
    found = recommend_after(keys, 20, model, include_cold=True)
    assert [one.item_key for one in found.items] == [f"k{item:02d}" for item in order]
    assert [one.item_key for one in found.items if one.cold] == ["k12"]  # 13 stands in the history
    assert [one.score for one in found.items] == pytest.approx(scores[order].tolist(), abs=1e-6)
    plain = recommend_after(keys, 20, model)
    assert [one.item_key for one in plain.items] == [f"k{item:02d}" for item in order if item < 12]


def test_transformers_alone_gives_the_same_scores(inside, tmp_path):
    merge("mme_sid", tmp_path / "out")
    settings, tables = json.loads((tmp_path / "out" / SETTINGS).read_text()), load_file(tmp_path / "out" / TABLES)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    past, factors = load_histories(), FACTORS.read(model="mme_sid").arrays
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


def test_a_recommender_of_another_backbone_is_refused(inside, tmp_path, monkeypatch):
    shutil.copytree(inside, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    record = BACKBONE.read()
    BACKBONE.write(record | {"files": dict.fromkeys(record["files"], "0" * 64)})
    for serve in (lambda: HistoryEncoder("mme_sid"), lambda: merge("mme_sid", tmp_path / "merged")):
        with pytest.raises(InputError, match=r"the model that finetune@mme_sid was trained on; found another one"):
            serve()


def test_nothing_is_overwritten(inside, tmp_path):
    (tmp_path / "kept").write_text("x")
    with pytest.raises(InputError, match="a new or an empty folder"):
        merge("mme_sid", tmp_path)
    assert (tmp_path / "kept").read_text() == "x"


def by_numpy(state, history, settings, tables):
    """Every core item's score as sidflow.json tells it in words."""
    anchor, back = settings["anchor"], list(reversed(history))[: settings["anchor"]["last"]]
    query = [anchor["own"] * state]
    for name, weights in anchor["content"].items():
        rows = tables[f"content.{name}"]
        query.append(sum(weight * rows[item] for weight, item in zip(weights, back, strict=False)))
    score = tables["item_matrix"] @ np.concatenate(query)
    told = anchor["cooccurrence"]
    if told is None:
        return score
    found = np.zeros(len(score))
    for weight, item in zip(told["recency"], back, strict=False):
        if item < len(score):
            entries = slice(*tables["relation_indptr"][item : item + 2])
            found[tables["relation_indices"][entries]] += weight * tables["relation_values"][entries]
    return score + told["weight"] * np.log1p(found / told["epsilon"])


def test_an_anchored_one_too(inside, tmp_path):
    merge("anchored", tmp_path / "out")
    settings, tables = json.loads((tmp_path / "out" / SETTINGS).read_text()), load_file(tmp_path / "out" / TABLES)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    past, encoder = load_histories(), HistoryEncoder("anchored")
    asked = [past.history(query).tolist() for query in (0, 70)] + [[3, 13, 5], [12]]  # 12 and 13 are outside the core
    expected = encoder.scores(asked)
    dense = encoder.states(asked) @ encoder.item_matrix.T
    assert np.abs(expected - dense)[:3].max() > 0.1  # co-occurrence has something to say
    for row, history in enumerate(asked):
        words = model.get_input_embeddings()(torch.tensor(settings["before"]))
        read = torch.cat([words, torch.from_numpy(tables["item_tokens"])[history[-settings["max_length"] :]]])[None]
        with torch.no_grad():
            state = model.model(inputs_embeds=read).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(by_numpy(state, history, settings, tables), expected[row], atol=1e-5)
    for name in ("own *", "content[modality]", "cooccurrence.epsilon", "relation_indptr", "cold_rows"):
        assert any(name in line for line in settings["scores"])
    np.testing.assert_array_equal(tables["cold_rows"], encoder.cold.values)
    assert tables["cold_present"].tolist() == [True, True]
