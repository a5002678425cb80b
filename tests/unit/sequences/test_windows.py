"""Windows, batches, item skipping and padding of sequences."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import (
    padding_mask,
    query_windows,
    recent_windows,
    seeded_batches,
    shuffled_batches,
    skip_items,
    sorted_batches,
    training_windows,
)


def histories_of(sequences, train_end=None):
    lengths = np.array([len(one) for one in sequences])
    ends = lengths if train_end is None else np.array(train_end)
    users = np.arange(len(sequences))
    return Histories(
        items=np.concatenate([np.asarray(one) for one in sequences]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=ends,
        query_user=users,
        query_end=ends,
        query_valid=np.ones(len(users), dtype=bool),
        targets=np.zeros(len(users), dtype=np.int64),
    )


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(2, 9))
@settings(max_examples=50)
def test_every_training_target_is_in_one_window_and_no_held_out_item_in_any(lengths, longest):
    first = np.cumsum([0, *lengths])
    ends = [max(0, length - 2) for length in lengths]
    past = histories_of([np.arange(a, b) for a, b in pairwise(first)], ends)
    windows = training_windows(past, longest, overlap=1)
    targets = [
        target
        for start, length in zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
        for target in windows.items[start + 1 : start + length].tolist()
    ]
    expected = [item for user in range(past.user_count) for item in past.training_items(user)[1:].tolist()]
    assert sorted(targets) == expected
    assert (windows.lengths <= longest).all() and (windows.lengths >= 2).all()


def test_windows_without_overlap_share_no_item():
    windows = training_windows(histories_of([np.arange(10), np.arange(10, 13)]), 4, overlap=0)
    items = torch.cat(
        [windows.items[start : start + n] for start, n in zip(windows.starts, windows.lengths, strict=True)]
    )
    assert windows.lengths.tolist() == [4, 4, 2, 3]
    assert sorted(items.tolist()) == list(range(13))


def test_padding_is_on_the_right():
    windows = recent_windows([[1, 2, 3], [5], []], 2)
    items, lengths = windows.padded(torch.tensor([0, 1, 2]))
    assert items.tolist() == [[2, 3], [5, 0], [0, 0]] and lengths.tolist() == [2, 1, 0]
    assert padding_mask(lengths, 2).tolist() == [[True, True], [True, False], [False, False]]


def test_no_rows_are_no_batch():
    items, lengths = recent_windows([[1, 2, 3], [5]], 2).padded(torch.zeros(0, dtype=torch.int64))
    assert items.shape == (0, 0) and lengths.shape == (0,)


def test_sorted_batches_hold_every_row_once_shortest_first():
    batches = sorted_batches(torch.tensor([3, 1, 2, 1]), 3)
    assert [rows.tolist() for rows in batches] == [[1, 3, 2], [0]]
    assert sorted_batches(torch.zeros(0, dtype=torch.int64), 3) == []


def test_seeds_are_of_the_generator_and_differ_between_batches():
    def seeds(start):
        batches = seeded_batches([torch.arange(2), torch.arange(2, 4)], torch.Generator().manual_seed(start))
        assert [batch.rows.tolist() for batch in batches] == [[0, 1], [2, 3]]
        return [batch.seed for batch in batches]

    assert seeds(1) == seeds(1) != seeds(2)
    assert len(set(seeds(1))) == 2


def test_windows_cover_every_target_once():
    sequences = [np.arange(100, 100 + n) for n in (1, 2, 5, 6, 7, 23)]
    windows = training_windows(histories_of(sequences), 6, overlap=1)
    targets = []
    for start, length in zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True):
        assert 2 <= length <= 6
        targets += range(start + 1, start + length)
    starts = np.concatenate([[0], np.cumsum([len(one) for one in sequences])])[:-1].tolist()
    assert sorted(targets) == [place for place in range(44) if place not in starts]


def test_windows_hold_training_items_only():
    windows = training_windows(histories_of([[1, 2, 3, 4], [5, 6, 7]], train_end=[2, 1]), 10, overlap=1)
    assert [row.tolist() for row in windows.padded(torch.tensor([0]))] == [[[1, 2]], [2]]
    assert len(windows.lengths) == 1


def test_skipping_keeps_order_and_two_items_at_least_and_leaves_out_the_share():
    torch.manual_seed(0)
    lengths = torch.tensor([2, 3, 40, 60]).repeat(100)
    columns, left = skip_items(lengths, 60, 0.25)
    kept = (columns + 1) * padding_mask(left, 60)
    assert (left >= 2).all() and (left <= lengths).all()
    assert (kept <= lengths[:, None]).all()
    assert (columns.sort(1).values == torch.arange(60)).all()
    for row, count in zip(kept, left.tolist(), strict=True):
        assert (row[:count] > 0).all() and (row[:count].diff() > 0).all()
    assert left[lengths == 2].tolist() == [2] * 100
    long = lengths >= 40
    assert abs(left[long].sum() / lengths[long].sum() - 0.75) < 0.02


def test_queries_keep_their_recent_items():
    windows = query_windows(histories_of([[1, 2, 3, 4], [5, 6]], train_end=[3, 1]), np.array([1, 0]), 2)
    items, lengths = windows.padded(torch.tensor([0, 1]))
    assert items.tolist() == [[5, 0], [2, 3]] and lengths.tolist() == [1, 2]


def test_batches_are_a_shuffle_with_little_padding():
    lengths = torch.randint(2, 60, (5000,), generator=torch.Generator().manual_seed(0))
    batches = shuffled_batches(lengths, 32, torch.Generator().manual_seed(1))
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(5000))
    padded = sum(int(lengths[rows].max()) * len(rows) for rows in batches)
    assert padded < 1.08 * int(lengths.sum())
    again = shuffled_batches(lengths, 32, torch.Generator().manual_seed(2))
    assert any(not torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    assert len(again) == len(batches)
