"""Items that nobody has had get rows from their modalities, and those rows mean something."""

import numpy as np
import pytest
import torch

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.recommenders import COLD_ROWS, FACTORS, HEADS
from sidflow.backbones.models import Backbone
from sidflow.mme_sid.fit import score_prior
from sidflow.mme_sid.fusion import cold_rows
from sidflow.mme_sid.item_tokens import ItemInputs, ModalityInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import AnchoringParams, FinetuneLoop, FinetuneParams
from sidflow.mme_sid.serve import HistoryEncoder
from sidflow.ranking.scores import Scores
from sidflow.sequences import histories
from sidflow.sequences.histories import load_histories
from sidflow.serving.recommendations import recommend_after
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit


def shaken(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def without(inputs, item):
    """The same items, `item` with no modality at all."""
    changed = {}
    for name, modality in inputs.modalities.items():
        present = modality.present.copy()
        present[item] = False
        changed[name] = modality._replace(raw=modality.raw * present[:, None], present=present)
    return ItemInputs(changed, inputs.counts)


@torch.no_grad()
def by_hand(fusion, inputs, item):
    """The formula for one item outside the core, part by part."""
    parts, logits = [], []
    at_zero = fusion.weigh(torch.zeros(1)) / fusion.temperature
    for column, (name, modality) in enumerate(inputs.modalities.items(), 1):
        if modality.present[item]:
            layer = fusion.project[name]
            parts.append(layer.weight @ torch.from_numpy(modality.raw[item]) + layer.bias)
            logits.append(at_zero[column])
    return torch.softmax(torch.stack(logits), 0) @ torch.stack(parts)


def build(tiny, tokenizer, inputs, kind="none"):
    params = FinetuneParams(anchor=kind, anchoring=AnchoringParams(modalities=("text", "image")), temperature=0.5)
    backbone = Backbone(tiny.model("llama", len(tokenizer)), tokenizer)
    prior = score_prior(tiny.histories(), inputs, params)
    return shaken(MmeSid(backbone, inputs, tiny.histories(), params)), prior


def test_a_row_is_the_formula_without_the_learned_table(tiny, tokenizer):
    inputs = tiny.inputs()
    model, _ = build(tiny, tokenizer, inputs)
    found = cold_rows(model.fusion, inputs)
    assert found.present.tolist() == [True, True]
    assert found.values.dtype == np.float32
    for row, item in enumerate((12, 13)):  # 13 has no text
        np.testing.assert_allclose(found.values[row], by_hand(model.fusion, inputs, item), atol=1e-5)
    with torch.no_grad():
        model.fusion.table.add_(1)
    np.testing.assert_array_equal(cold_rows(model.fusion, inputs).values, found.values)


def test_an_item_without_modalities_has_no_row(tiny, tokenizer):
    inputs = without(tiny.inputs(), 12)
    for kind in ("none", "both"):
        model, prior = build(tiny, tokenizer, inputs, kind)
        found = cold_rows(model.fusion, inputs, prior)
        assert found.present.tolist() == [False, True]
        assert not found.values[0].any()
        assert np.isfinite(found.values).all()


def test_in_a_hybrid_the_items_content_stands_beside_its_row(tiny, tokenizer):
    inputs = tiny.inputs()
    plain = cold_rows(build(tiny, tokenizer, inputs)[0].fusion, inputs).values
    model, prior = build(tiny, tokenizer, inputs, "both")
    found = cold_rows(model.fusion, inputs, prior).values
    assert found.shape[1] == prior.item_matrix(model.item_matrix()).shape[1]
    np.testing.assert_allclose(found[:, : plain.shape[1]], plain, atol=1e-6)
    begin = plain.shape[1]
    for name in prior.content_raw:
        raw = inputs.modalities[name].raw[12:]
        expected = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9)
        np.testing.assert_allclose(found[:, begin : begin + raw.shape[1]], expected, atol=1e-6)
        assert expected[1].any() == (name != "text")  # 13 has no text
        begin += raw.shape[1]
    assert begin == found.shape[1]
    model, counts_alone = build(tiny, tokenizer, inputs, "cooccurrence")
    assert cold_rows(model.fusion, inputs, counts_alone).values.shape[1] == tiny.hidden


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


KINDS, PER_KIND, COLD = 6, 8, 24


def themed(seed=0, users=240, length=8):
    """A shop of `KINDS` kinds: rows show the kind, users stay within one; the last `COLD` items were never had."""
    draw = np.random.default_rng(seed)
    core = KINDS * PER_KIND
    kind = np.arange(core + COLD) % KINDS
    centre = draw.normal(size=(KINDS, 12))
    raw = (centre[kind] + 0.4 * draw.normal(size=(len(kind), 12))).astype(np.float32)
    raw /= np.linalg.norm(raw, axis=1, keepdims=True)
    likes = draw.integers(0, KINDS, users)
    rows = np.stack([draw.permutation(np.flatnonzero(kind[:core] == like))[:length] for like in likes])
    modality = ModalityInputs(
        raw, np.ones(len(kind), bool), kind[:, None] * np.ones(2, int), draw.normal(size=(2, 6, 8))
    )
    offsets = np.arange(users + 1, dtype=np.int64) * length
    ends = np.full(users, length - 2, dtype=np.int64)
    past = histories.Histories(
        rows.ravel().astype(np.int32),
        offsets,
        ends,
        np.arange(users),
        ends,
        np.ones(users, dtype=bool),
        rows[:, -2].astype(np.int64),
    )
    text = modality._replace(codebooks=modality.codebooks.astype(np.float32))
    return ItemInputs({"text": text}, past.training_counts(core)), past, kind, likes


def area(scores, wanted):
    """The chance that a wanted item stands before another."""
    good, bad = scores[wanted], scores[~wanted]
    return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())


def test_cold_items_of_the_users_kind_stand_before_other_cold_ones(tiny, tokenizer, monkeypatch, tmp_path):
    """Chance is 0.5; a model that learnt nothing of modalities stays there."""
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path))
    inputs, past, kind, likes = themed()
    device = prepare_training(3, 1)
    params = FinetuneParams(
        batch_size=32, loop=FinetuneLoop(epochs=2, patience=0, learning_rate=3e-3, warmup_steps=0, schedule="constant")
    )
    model = MmeSid(Backbone(tiny.model("llama", len(tokenizer)), tokenizer), inputs, past, params)
    fit("cold", MmeSidTask(model, past, params), params.loop, seed=3, device=device, checkpoint=Checkpoint("cold", {}))
    model.eval()
    states = model.query_states(past, np.arange(past.query_count)).numpy()
    scores = states @ cold_rows(model.fusion, inputs).values.T
    core = len(inputs.counts)
    areas = [area(row, kind[core:] == like) for row, like in zip(scores, likes, strict=True)]
    assert np.mean(areas) > 0.9
