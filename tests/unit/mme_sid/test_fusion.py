import numpy as np
import pytest
import torch

from sidflow.mme_sid.fusion import FrequencyAwareFusion, relative_frequency
from sidflow.mme_sid.item_tokens import ItemTokens
from sidflow.mme_sid.params import FinetuneParams


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


def test_rows_of_some_items_are_those_of_the_matrix(tiny):
    fusion = shaken(FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams())).double()
    items = torch.tensor([7, 1, 11, 5])
    torch.testing.assert_close(fusion.rows_of(items), fusion.item_matrix()[items], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(fusion.part_weights(items), fusion.part_weights()[items], rtol=0, atol=0)


def test_weights_are_the_items_own_and_skip_what_is_missing(tiny):
    fusion = shaken(FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams()))
    weights = fusion.part_weights()
    torch.testing.assert_close(weights.sum(1), torch.ones(12))
    assert weights[1, 2] == weights[5, 2] == 0  # no text there
    assert weights[2, 2] > 0
    assert weights.std(0).max() > 0.01


def test_without_frequency_awareness_parts_weigh_the_same(tiny):
    weights = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams(frequency_aware=False)).part_weights()
    torch.testing.assert_close(weights[0], torch.full((4,), 0.25))
    torch.testing.assert_close(weights[1], torch.tensor([1 / 3, 1 / 3, 0, 1 / 3]))


def test_frequency_is_the_min_max_of_the_logarithm():
    assert relative_frequency(np.array([0, 1, 3])).tolist() == pytest.approx([0, 0.5, 1])
    assert relative_frequency(np.array([4, 4])).tolist() == [0, 0]


def test_raw_rows_get_no_gradient_and_every_part_of_the_score_does(tiny):
    fusion = FrequencyAwareFusion(tiny.inputs(), tiny.hidden, FinetuneParams())
    fusion.item_matrix().square().sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())
    assert not fusion.raw_text.requires_grad


def test_a_code_vector_sum_is_what_the_codebooks_say(tiny):
    inputs = tiny.inputs()
    tokens = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams())
    own = inputs.modalities["image"]
    expected = own.codebooks[0][own.codes[:, 0]] + own.codebooks[1][own.codes[:, 1]]
    found = tokens.codes["image"].sums(torch.arange(14))
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


def test_codebooks_as_wide_as_the_model_are_used_as_they_are(tiny):
    inputs = tiny.inputs(code_dim=tiny.hidden)
    part = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams()).codes["image"]
    torch.testing.assert_close(part(torch.arange(14)), part.sums(torch.arange(14)))


def test_random_codebooks_share_scale_but_not_geometry(tiny):
    inputs = tiny.inputs()
    torch.manual_seed(0)
    part = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams(codebook_init="random")).codes["image"]
    books = torch.from_numpy(inputs.modalities["image"].codebooks)
    assert 0.7 < float(part.vectors.detach().std() / books.std()) < 1.4
    assert abs(float(torch.corrcoef(torch.stack([part.vectors.detach().flatten(), books.flatten()]))[0, 1])) < 0.4


def test_missing_values_become_the_learned_vector(tiny):
    tokens = ItemTokens(tiny.inputs().modalities, tiny.hidden, FinetuneParams())
    raw, codes = tokens.raw["text"], tokens.codes["text"]
    rows = torch.tensor([1, 5, 13])
    torch.testing.assert_close(raw(rows), raw.missing.expand(3, -1))
    torch.testing.assert_close(codes(rows), codes.missing.expand(3, -1))
    assert not torch.allclose(raw(torch.tensor([0]))[0], raw.missing)


def test_a_token_is_computed_once_per_item_and_equals_itself_alone(tiny):
    tokens = ItemTokens(tiny.inputs().modalities, tiny.hidden, FinetuneParams()).eval()
    items = torch.tensor([[3, 3, 7], [0, 13, 3]])
    found = tokens.of_sequences(items)
    torch.testing.assert_close(found[1, 1], tokens(torch.tensor([13]))[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[0, 0], found[1, 2])


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
