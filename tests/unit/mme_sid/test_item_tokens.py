"""Item tokens: code vectors, missing parts, and one computation per item."""

import numpy as np
import torch

from sidflow.mme_sid.item_tokens import ItemTokens
from sidflow.mme_sid.params import FinetuneParams


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
