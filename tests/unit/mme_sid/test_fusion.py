"""Frequency-aware fusion: rows of core items, and rows of cold items from their modalities alone."""

import numpy as np
import pytest
import torch

from sidflow.backbones.models import Backbone
from sidflow.mme_sid.fit import score_prior
from sidflow.mme_sid.fusion import FrequencyAwareFusion, cold_rows, relative_frequency
from sidflow.mme_sid.item_tokens import ItemInputs, ItemTokens, ModalityInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import AnchoringParams, FinetuneLoop, FinetuneParams
from sidflow.sequences import histories
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit


def shaken(module):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def unfolded(fusion, inputs, state, item):
    """Eqs. 17 and 18 as they are written, for one state and one item."""
    parts, weights = [state @ fusion.table[item]], [0]
    for column, (name, modality) in enumerate(inputs.modalities.items(), 1):
        if modality.present[item]:
            layer = fusion.project[name]
            parts.append(state @ (layer.weight @ torch.from_numpy(modality.raw[item]) + layer.bias))
            weights.append(column)
    logs = np.log(inputs.counts + 1)
    frequency = (logs[item] - logs.min()) / (logs.max() - logs.min())
    logits = fusion.weigh(torch.tensor([frequency], dtype=torch.float32))[weights] / fusion.temperature
    return (torch.softmax(logits, 0) * torch.stack(parts)).sum()


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.001])  # the last is the public code's
def test_the_folded_score_equals_the_unfolded_one(tiny, temperature):
    inputs = tiny.inputs()
    fusion = shaken(FrequencyAwareFusion(inputs, tiny.hidden, FinetuneParams(temperature=temperature)))
    states = torch.randn(4, tiny.hidden, generator=torch.Generator().manual_seed(1)) / 6
    folded = states @ fusion.item_matrix().T
    expected = torch.stack(
        [torch.stack([unfolded(fusion, inputs, state, item) for item in range(12)]) for state in states]
    )
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-5)


def test_modalities_may_have_any_name(tiny):
    inputs = tiny.inputs()
    renamed = inputs._replace(
        modalities=dict(zip(["values", "type", "sound-2"], inputs.modalities.values(), strict=True))
    )
    made = []
    for given in (inputs, renamed):
        fusion = shaken(FrequencyAwareFusion(given, tiny.hidden, FinetuneParams()))
        tokens = shaken(ItemTokens(given.modalities, tiny.hidden, FinetuneParams())).eval()
        made.append((fusion.item_matrix(), fusion.rows_of(torch.arange(5)), tokens(torch.arange(14))))
        made[-1] += (torch.from_numpy(cold_rows(fusion, given).values),)
    torch.testing.assert_close(made[1], made[0])


def test_rows_of_some_items_are_those_of_the_matrix(tiny):
    fusion = shaken(FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams())).double()
    items = torch.tensor([7, 1, 11, 5])
    torch.testing.assert_close(fusion.rows_of(items), fusion.item_matrix()[items], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(fusion.part_weights(items), fusion.part_weights()[items], rtol=0, atol=0)


def test_what_artifacts_hold_is_not_saved_with_the_weights(tiny):
    fusion = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams())
    assert set(fusion.state_dict()) == {name for name, _ in fusion.named_parameters()}


def test_weights_are_the_items_own_and_skip_what_is_missing(tiny):
    fusion = shaken(FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams()))
    weights = fusion.part_weights()
    torch.testing.assert_close(weights.sum(1), torch.ones(12))
    assert weights[1, 2] == weights[5, 2] == 0  # no text there
    assert weights[2, 2] > 0
    assert weights.std(0).max() > 0.01


def test_under_bf16_parts_weigh_what_they_do_without_it(tiny):
    """Validation is under autocast, what is written is not: at the paper's temperature rounding would make others."""
    fusion = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams(temperature=0.001))
    assert fusion.weigh is not None
    with torch.no_grad():
        for parameter in fusion.weigh[2].parameters():
            parameter.copy_(0.003 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    weights = fusion.part_weights()
    assert ((weights > 0.01) & (weights < 0.99)).any()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fusion.part_weights(), weights)


def test_without_frequency_awareness_parts_weigh_the_same(tiny):
    weights = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams(part_weights="equal")).part_weights()
    torch.testing.assert_close(weights[0], torch.full((4,), 0.25))
    torch.testing.assert_close(weights[1], torch.tensor([1 / 3, 1 / 3, 0, 1 / 3]))


def test_parts_of_weight_one_are_added(tiny):
    inputs = tiny.inputs()
    fusion = shaken(FrequencyAwareFusion(inputs, tiny.hidden, FinetuneParams(part_weights="one")))
    for item in (0, 1):
        expected = fusion.table[item]
        for name, modality in inputs.modalities.items():
            if modality.present[item]:
                layer = fusion.project[name]
                expected = expected + layer.weight @ torch.from_numpy(modality.raw[item]) + layer.bias
        torch.testing.assert_close(fusion.item_matrix()[item], expected)
    cold, name = cold_rows(fusion, inputs), "text"
    torch.testing.assert_close(fusion.part_weights(torch.tensor([1])), torch.tensor([[1.0, 1.0, 0.0, 1.0]]))
    total = torch.zeros(tiny.hidden)
    for name, modality in inputs.modalities.items():
        if modality.present[12]:
            total = total + fusion.project[name](torch.from_numpy(modality.raw[12]))
    torch.testing.assert_close(torch.from_numpy(cold.values[0]), total.detach())


def test_frequency_is_the_min_max_of_the_logarithm():
    assert relative_frequency(np.array([0, 1, 3])).tolist() == pytest.approx([0, 0.5, 1])
    assert relative_frequency(np.array([4, 4])).tolist() == [0, 0]


def test_raw_rows_get_no_gradient_and_every_part_of_the_score_does(tiny):
    fusion = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams())
    fusion.item_matrix().square().sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())
    assert not fusion.raw_text.requires_grad


def test_cold_dropout_scores_items_as_if_nobody_had_had_them(tiny):
    inputs = tiny.inputs()
    raw, present = inputs.modalities["collaborative"].raw.copy(), np.ones(14, dtype=bool)
    raw[12:], present[12:] = 0, False  # as it is: nobody has had what is outside the core
    inputs.modalities["collaborative"] = inputs.modalities["collaborative"]._replace(raw=raw, present=present)
    fusion = shaken(FrequencyAwareFusion(inputs, tiny.hidden, FinetuneParams(cold_dropout=0.5)))
    torch.manual_seed(0)
    weights, usual = fusion.part_weights(), fusion.eval().part_weights()
    torch.testing.assert_close(
        usual, shaken(FrequencyAwareFusion(inputs, tiny.hidden, FinetuneParams())).part_weights()
    )
    torch.testing.assert_close(weights.sum(1), torch.ones(12))
    dropped = (weights[:, :2] == 0).all(1)
    assert 2 <= int(dropped.sum()) <= 10
    torch.testing.assert_close(weights[~dropped], usual[~dropped])
    alone = fusion.weights_at(torch.zeros(12, 1), fusion.usable & torch.tensor([False, False, True, True]))
    torch.testing.assert_close(weights[dropped], alone[dropped])


def with_random_fusion(model):
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
def cold_row_by_hand(fusion, inputs, item):
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
    return with_random_fusion(MmeSid(backbone, inputs, tiny.histories(), params)), prior


def test_a_row_is_the_formula_without_the_learned_table(tiny, tokenizer):
    inputs = tiny.inputs()
    model, _ = build(tiny, tokenizer, inputs)
    found = cold_rows(model.fusion, inputs)
    assert found.present.tolist() == [True, True]
    assert found.values.dtype == np.float32
    for row, item in enumerate((12, 13)):  # 13 has no text
        np.testing.assert_allclose(found.values[row], cold_row_by_hand(model.fusion, inputs, item), atol=1e-5)
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
