"""Encoders: what may see what."""

import pytest
import torch
from tests.unit.sequential.cases import CAUSAL, VARIANTS, encoder_of, table
from torch.nn import functional


@pytest.mark.parametrize(("name", "extra"), CAUSAL)
def test_a_future_item_does_not_change_a_past_state(name, extra):
    encoder = encoder_of(name, extra)
    items = torch.arange(8)[None]
    changed = items.clone()
    changed[0, 5] = 20
    lengths = torch.tensor([8])
    before, after = (encoder(functional.embedding(one, table()), lengths) for one in (items, changed))
    assert torch.equal(before[0, :5], after[0, :5])
    assert (before[0, 5:] - after[0, 5:]).abs().amax(1).min() > 1e-4  # but every later one sees it


def test_masked_items_are_read_both_ways():
    encoder = encoder_of("bert4rec", {})
    items = torch.arange(8)[None]
    changed = items.clone()
    changed[0, 5] = 20
    before, after = (encoder(functional.embedding(one, table()), torch.tensor([8])) for one in (items, changed))
    assert (before - after).abs().amax(2).min() > 1e-4


def test_a_masked_place_starts_as_what_stands_near_it():
    encoder = encoder_of("bert4rec", {"positions": "relative", "blocks": 1, "heads": 1})
    vectors = functional.embedding(torch.arange(8)[None], table())
    vectors[0, 4] = encoder.mask_vector
    state = encoder(vectors, torch.tensor([8]))[0, 4]
    near, far = (functional.cosine_similarity(state, vectors[0, [a, b]].sum(0), dim=0) for a, b in ((3, 5), (0, 7)))
    assert near > 0.7
    assert near > far + 0.3


def test_a_gated_block_written_out():
    """Source: LiGR (arXiv 2502.03417) for the gates, arXiv 2002.05202 for SwiGLU."""
    block = encoder_of("sasrec", {"block": "ligr", "heads": 1, "blocks": 1, "feedforward": 2}).blocks[0]
    x = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1))
    first, second = block.norms
    query, key, value = block.qkv_proj(first(x)).split(16, dim=2)
    logits = (query @ key.transpose(1, 2) / 4).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf)
    once = x + block.o_proj(logits.softmax(2) @ value) * block.sublayer_gates[0](x).sigmoid()
    opened = block.gate_proj(second(once))
    twice = (
        once
        + block.down_proj(opened * opened.sigmoid() * block.up_proj(second(once)))
        * block.sublayer_gates[1](once).sigmoid()
    )
    torch.testing.assert_close(block(x, None), twice)


def test_shut_gates_pass_the_input_on():
    block = encoder_of("sasrec", {"block": "ligr"}).blocks[0]
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    for gate in block.sublayer_gates:
        torch.nn.init.constant_(gate.bias, -200.0)
    assert torch.equal(block(x, None), x)


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_padding_is_never_read(name, extra):
    encoder = encoder_of(name, extra)
    vectors = functional.embedding(torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]]), table())
    lengths = torch.tensor([3, 6])
    rubbish = vectors.clone()
    rubbish[0, 3:] = 1e4
    expected, found = encoder(vectors, lengths), encoder(rubbish, lengths)
    assert torch.equal(expected[0, :3], found[0, :3])
    alone = encoder(vectors[:1, :3], lengths[:1])
    torch.testing.assert_close(alone[0], expected[0, :3], rtol=1e-4, atol=1e-5)
