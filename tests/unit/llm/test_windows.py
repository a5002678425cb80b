import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.contracts.histories import Histories
from sidflow.llm.windows import batches, cut, padded, places


def histories_of(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    none = np.zeros(0, dtype=np.int64)
    ends = np.array([max(0, length - 2) for length in lengths], dtype=np.int64)
    return Histories(np.arange(offsets[-1], dtype=np.int32), offsets, ends, none, none, none.astype(bool), none)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_every_training_target_stands_in_one_window_and_no_held_out_item_in_any(lengths, longest):
    past = histories_of(lengths)
    pieces = cut(past, longest)
    targets = [
        target
        for start, length in zip(pieces.start, pieces.length, strict=True)
        for target in pieces.items[start + 1 : start + length + 1].tolist()
    ]
    expected = [item for user in range(past.user_count) for item in past.training_items(user)[1:].tolist()]
    assert sorted(targets) == expected
    assert (pieces.length <= longest).all()


def test_batches_hold_every_row_once_with_little_padding():
    lengths = np.random.default_rng(0).integers(1, 51, 2000)
    found = batches(lengths, 32, torch.Generator().manual_seed(1))
    assert sorted(torch.cat(found).tolist()) == list(range(2000))
    places = sum(len(rows) * lengths[rows.numpy()].max() for rows in found)
    assert lengths.sum() / places > 0.95
    longest = [int(lengths[rows.numpy()].max()) for rows in found]
    assert longest != sorted(longest)
    again = batches(lengths, 32, torch.Generator().manual_seed(1))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_padding_is_on_the_right():
    items, real = padded(np.arange(10, 20), np.array([0, 4]), np.array([3, 1]))
    assert items.tolist() == [[10, 11, 12], [14, 0, 0]]
    assert real.tolist() == [[True, True, True], [True, False, False]]


def test_places_are_the_inputs_and_the_last_target_of_each_piece():
    found, real = places(np.array([3, 10]), np.array([1, 3]))
    assert found.tolist() == [[3, 4, 0, 0], [10, 11, 12, 13]]
    assert real.tolist() == [[True, True, False, False], [True] * 4]


def test_skipping_keeps_order_and_two_items_at_least_and_leaves_out_the_share():
    torch.manual_seed(0)
    start, length = np.arange(400) * 100, np.tile([1, 2, 40, 60], 100)
    found, real = places(start, length, 0.25)
    assert (real.sum(1) >= 2).all()
    assert found.shape == real.shape and not found[~real].any()
    for row in range(400):
        kept = found[row, real[row]]
        assert real[row, : len(kept)].all()
        assert (np.diff(kept) > 0).all()
        assert start[row] <= kept[0] and kept[-1] <= start[row] + length[row]
    long = length >= 40
    assert abs(real[long].sum() / (length[long] + 1).sum() - 0.75) < 0.02
    assert real[length == 1].sum(1).tolist() == [2] * 100
