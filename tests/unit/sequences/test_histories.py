"""Histories: training parts, queries, and which items a ranking excludes."""

import numpy as np
import polars as pl
import pytest

from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.core.errors import InputError
from sidflow.sequences.histories import Histories, load_histories, load_histories_for_ranking


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def histories():
    SEQUENCES.write(
        pl.DataFrame(
            {"user_id": [0, 1, 2], "items": [[1, 2, 1, 4], [4, 3, 1], []], "timestamps": [[1, 2, 3, 4], [1, 2, 3], []],
             "train_end": [2, 1, 0]}
        )
    )  # fmt: skip
    QUERIES.write(
        pl.DataFrame(
            {"query_id": [0, 1, 2], "user_id": [0, 0, 1], "part": ["valid", "test", "test"], "history_end": [2, 3, 2]}
        )
    )
    TARGETS.write(pl.DataFrame({"query_id": [0, 1, 2], "item_id": [1, 4, 1], "tied": [False] * 3}))
    return load_histories()


def test_histories_and_training_parts(histories):
    assert (histories.user_count, histories.query_count) == (3, 3)
    assert histories.training_items(0).tolist() == [1, 2]
    assert histories.history(1).tolist() == [1, 2, 1]
    users, items = histories.training_events()
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 4)]
    assert histories.training_counts(5).tolist() == [0, 1, 1, 0, 1]
    assert histories.query_valid.tolist() == [True, False, False]


def test_numbers_have_the_types_that_are_written_down(histories):
    assert histories.items.dtype == np.int32 and histories.query_valid.dtype == bool
    for part in ("offsets", "train_end", "query_user", "query_end", "targets"):
        assert getattr(histories, part).dtype == np.int64
    assert histories.targets.tolist() == [1, 4, 1]
    assert [part.dtype for part in histories.training_events()] == [np.int64] * 2
    assert histories.seen(6).dtype == histories.excluded(6).dtype == bool
    assert histories._replace(exclude_history=False).excluded(6).dtype == bool


def test_seen_is_the_history_as_a_set(histories):
    assert histories.seen(5).toarray().astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert histories.seen(5, np.array([2])).toarray().astype(int).tolist() == [[0, 0, 0, 1, 1]]


def test_params_decide_whether_ranking_excludes_histories(histories, tmp_path):
    assert histories.excluded(5).toarray().tolist() == histories.seen(5).toarray().tolist()
    (tmp_path / "params.yaml").write_text("rank: {exclude_history: false}\n")
    free = load_histories_for_ranking()
    assert free.excluded(5).shape == (3, 5)
    assert free.excluded(5).nnz == 0
    assert free.excluded(5, np.array([2])).shape == (1, 5)
    assert free.before_test().excluded(5).nnz == 0
    (tmp_path / "params.yaml").write_text("rank: {exclude_history: 'no'}\n")
    with pytest.raises(InputError, match=r"rank\.exclude_history: expected true or false; found 'no'"):
        load_histories_for_ranking()


def test_a_second_fit_trains_up_to_the_first_test_target_or_through_the_last_validation_target():
    """Users with both targets, with two test targets, with validation targets alone, and with none."""
    made = Histories(
        items=np.arange(20, dtype=np.int32),
        offsets=np.array([0, 5, 10, 15, 20]),
        train_end=np.array([3, 3, 2, 5]),
        query_user=np.array([0, 0, 1, 1, 2, 2]),
        query_end=np.array([3, 4, 3, 4, 2, 3]),
        query_valid=np.array([True, False, False, False, True, True]),
        targets=np.array([3, 4, 8, 9, 12, 13]),
    )
    second = made.before_test()
    assert second.train_end.tolist() == [4, 3, 4, 5]
    assert (second.query_user.tolist(), second.query_end.tolist()) == ([0, 1, 1], [4, 3, 4])
    assert second.targets.tolist() == [4, 8, 9] and not second.query_valid.any()
    assert made.train_end.tolist() == [3, 3, 2, 5]  # as it was
