"""What beams run on against the modules of transformers: reserved keys and values, and the small Llama's own passes."""

import pytest
import torch
from tests.unit.generative.cases import Decoding
from transformers import DynamicCache

from sidflow.generative.causal import CausalIdModel
from sidflow.models.reserving_cache import reserving_cache


@pytest.mark.parametrize("room", [0, 3, 20])
def test_a_reserving_cache_holds_what_a_growing_one_does(room):
    ours, theirs = reserving_cache(room), DynamicCache()
    draw = torch.Generator().manual_seed(0)
    for count in (4, 2, 1, 5):  # beyond a room of 0 and of 3
        for layer in range(2):
            keys, values = torch.randn(2, 3, 2, count, 4, generator=draw)
            kept, expected = (cache.update(keys, values, layer) for cache in (ours, theirs))
            assert all(torch.equal(one, other) for one, other in zip(kept, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_reserving_cache_can_be_cut_after_it_had_no_room_left():
    ours, theirs = reserving_cache(2), DynamicCache()
    draw = torch.Generator().manual_seed(0)
    for count in (4, 5, -3, 2):  # the second is beyond the room; the third cuts
        keys, values = torch.randn(2, 3, 2, abs(count), 4, generator=draw)
        for cache in (ours, theirs):
            cache.crop(count) if count < 0 else cache.update(keys, values, 0)
    assert torch.equal(ours.layers[0].keys, theirs.layers[0].keys)
    assert torch.equal(ours.layers[0].values, theirs.layers[0].values)


@pytest.mark.parametrize("room", [0, 20])
def test_rows_of_a_reserving_cache_are_repeated_and_selected(room):
    ours, theirs = reserving_cache(room), DynamicCache()
    draw = torch.Generator().manual_seed(0)
    rows = 2
    for count, change in ((4, None), (2, ("batch_repeat_interleave", 3)), (3, ("batch_select_indices", [4, 0, 1]))):
        keys, values = torch.randn(2, rows, 2, count, 4, generator=draw)
        for cache in (ours, theirs):
            cache.update(keys, values, 0)
            if change:
                getattr(cache, change[0])(torch.tensor(change[1]) if isinstance(change[1], list) else change[1])
        rows = len(theirs.layers[0].keys)
        assert torch.equal(ours.layers[0].keys, theirs.layers[0].keys)
        assert torch.equal(ours.layers[0].values, theirs.layers[0].values)


@torch.no_grad()
def test_passes_of_beams_give_the_states_of_the_modules():
    case = Decoding("decoder")
    *_, tokens, lengths = case.arguments
    ours = case.model.read(tokens, lengths, room=7)
    theirs = CausalIdModel.read(case.model, tokens, lengths)
    torch.testing.assert_close(ours.state, theirs.state, atol=1e-5, rtol=1e-5)
    before = torch.zeros(3, 0, dtype=torch.long)
    for depth, count in ((0, 4), (1, 3)):
        added = torch.randint(3, 10, (3, count), generator=torch.Generator().manual_seed(depth))
        parent = torch.zeros(3, count, before.shape[1], dtype=torch.bool)
        parent[:, :, :1] = True  # each sees the first position of the level before
        itself = torch.eye(count, dtype=torch.bool).expand(3, -1, -1)
        visible = torch.cat([parent, itself], dim=2)
        both = [
            case.model.extend(prompt, added, torch.full((count,), depth), visible, keep=True)
            for prompt in (ours, theirs)
        ]
        torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
        before = torch.cat([before, added], dim=1)
