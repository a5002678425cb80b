import numpy as np
from tests.unit.counting.cases import leave_one_out

from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import (
    NO_ITEM,
    HistorySlices,
    new_histories,
    recent_items,
    rows_and_positions,
    weighted_last_items,
)


def test_elements_of_rows_one_after_another_also_of_empty_ones():
    row, position = rows_and_positions(np.array([2, 0, 3]))
    assert row.tolist() == [0, 0, 2, 2, 2] and position.tolist() == [0, 1, 0, 1, 2]
    assert [part.tolist() for part in rows_and_positions(np.zeros(0, dtype=np.int64))] == [[], []]


def test_slices_give_their_events_and_last_items_also_where_there_are_none():
    slices = HistorySlices(np.array([7, 5, 6, 5], dtype=np.int32), np.array([1, 4, 0]), np.array([4, 4, 2]))
    row, item = slices.events()
    assert row.tolist() == [0, 0, 0, 2, 2] and item.tolist() == [5, 6, 5, 7, 5]
    assert slices.last_items(2).tolist() == [[5, 6], [NO_ITEM, NO_ITEM], [5, 7]]
    assert slices.rows(np.array([2, 0])).last_items(1).tolist() == [[5], [5]]
    nothing = new_histories([[]])
    assert nothing.last_items(2).tolist() == [[NO_ITEM, NO_ITEM]] and not len(nothing.events()[0])


def test_recent_items_by_hand():
    histories = leave_one_out([[4, 2, 4, 1, 0], [3, 1, 2]])
    weights = np.array([1, 0.5, 0.25, 0.125])  # more than a history has items
    matrix = recent_items(histories.query_slices(), weights, 5)
    assert matrix.dtype == np.float32 and matrix.has_canonical_format
    assert matrix.toarray().tolist() == [
        [0, 0, 0.5, 0, 1.25],  # 4 2 4: the last 4 counts 1, the first 1/4
        [0, 1, 0.25, 0, 0.625],  # 4 2 4 1
        [0, 0, 0, 1, 0],
        [0, 1, 0, 0.5, 0],
    ]
    assert recent_items(histories.query_slices(), weights[:1], 5).nnz == 4


def test_last_items_outside_the_core_have_no_weight():
    matrix = weighted_last_items(new_histories([[3, 9, 1, 1], [9]]).last_items(4), np.array([1, 0.5, 0.25, 0.125]), 4)
    assert matrix.toarray().tolist() == [[0, 1.5, 0, 0.125], [0, 0, 0, 0]]
    assert matrix.nnz == 3  # an item twice is two entries


def test_an_empty_history_has_no_recent_items():
    histories = Histories(
        np.array([1, 2], np.int32),
        np.array([0, 2]),
        np.array([0]),
        np.array([0, 0]),
        np.array([0, 1]),
        np.array([True, False]),
        np.array([1, 2]),
    )
    matrix = recent_items(histories.query_slices(), np.ones(2), 3)
    assert matrix.toarray().tolist() == [[0, 0, 0], [0, 1, 0]]
    assert recent_items(new_histories([[]]), np.ones(2), 3).nnz == 0
