import numpy as np
from scipy.sparse import csr_matrix
from tests.unit.counting.cases import leave_one_out, random_sequences

from sidflow.counting.cooccurrence import cooccurrence_factors, cooccurrence_relation
from sidflow.hybrid.evidence import (
    at_candidates,
    count_cooccurrence,
    training_positions,
    user_folds,
)
from sidflow.hybrid.params import ScorePriorParams
from sidflow.sequences import cooccurrence
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.windows import training_windows

SETTINGS = ScorePriorParams(folds=3, window=4, decay=1.0, last=3, recency=1.0, backward=0.5, damping=0.25)


def positions_of(past, longest=50):
    windows = training_windows(past, longest + 1, overlap=1)
    bounds = zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
    last_event = np.concatenate([np.arange(start, start + length - 1) for start, length in bounds])
    return training_positions(past, last_event, last_event + 1)


def test_a_transition_that_one_user_alone_made_says_nothing_at_their_own_position():
    lines = [
        [0, 1, 9, 9],
        [2, 3, 4, 9, 9],
        [2, 3, 5, 9, 9],
        [6, 7, 9, 9],
        [8, 2, 9, 9],
    ]
    past = leave_one_out(lines)
    counts = count_cooccurrence(past, 10, SETTINGS)
    positions = positions_of(past)
    found = counts.evidence(positions.histories.last_items(SETTINGS.last), counts.fold[positions.user]).toarray()
    reached = {
        (int(user), int(target)): row[target]
        for user, target, row in zip(positions.user, positions.target, found, strict=True)
    }
    assert reached[0, 1] == 0
    assert reached[3, 7] == 0
    everybody = counts.evidence(np.array([[0, -1, -1], [6, -1, -1]]), counts.all_users).toarray()
    assert everybody[0, 1] > 0  # queries do see it
    assert everybody[1, 7] > 0


def test_no_users_own_training_part_reaches_their_own_positions(seed=3):
    past = leave_one_out(random_sequences(users=24, items=30, seed=seed))
    counts = count_cooccurrence(past, 30, SETTINGS)
    positions = positions_of(past)
    last = positions.histories.last_items(SETTINGS.last)
    found = counts.evidence(last, counts.fold[positions.user])
    everything = training_events(past, 30)
    for fold in range(SETTINGS.folds):
        others = counts.fold[everything.user] != fold
        kept = cooccurrence.Events(everything.user[others], everything.item[others], 30)
        setting = {"window": 4, "decay": 1.0, "backward": 0.5, "damping": 0.25}
        related = cooccurrence_relation(kept, setting)
        for row in np.flatnonzero(counts.fold[positions.user] == fold):
            seen = [item for item in last[row] if item >= 0]
            expected = sum(weight * related[item].toarray() for weight, item in zip(counts.recency, seen, strict=False))
            np.testing.assert_array_equal(found[row].toarray(), expected)


def test_queries_see_what_the_cooccurrence_recommender_sees():
    past = leave_one_out(random_sequences(users=24, items=30, seed=5))
    counts = count_cooccurrence(past, 30, SETTINGS)
    ends = past.query_slices()
    setting = {"window": 4, "decay": 1.0, "backward": 0.5, "damping": 0.25, "last": 3, "recency": 1.0}
    factored = cooccurrence_factors(past, training_events(past, 30), setting)
    expected = (factored.evidence @ factored.relation).toarray()
    found = counts.evidence(ends.last_items(3), counts.all_users)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.dtype == counts.relation().dtype == np.float32
    assert counts.recency.dtype == np.float32


def test_positions_of_short_windows_see_the_whole_part_before_them():
    past = leave_one_out([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3]])
    positions = positions_of(past, longest=2)
    told = sorted(zip(positions.user, positions.target, positions.histories.last_items(3).tolist(), strict=True))
    assert told == [(0, 1, [3, -1, -1]), (0, 1, [4, 1, 3]), (0, 4, [1, 3, -1]), (0, 5, [1, 4, 1])]


def test_what_the_history_holds_is_masked_but_for_the_target():
    past = leave_one_out([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3]])
    positions = positions_of(past)
    indptr, columns = positions.masked_items()
    rows = [set(columns[indptr[row] : indptr[row + 1]].tolist()) for row in range(len(positions.target))]
    assert positions.target.tolist() == [1, 4, 1, 5]
    assert rows == [{3}, {3, 1}, {3, 4}, {3, 1, 4}]


def test_entries_at_negatives_follow_that_of_the_target():
    found = csr_matrix(np.array([[0, 2, 0, 3], [4, 0, 5, 0], [0, 0, 0, 0]], dtype=np.float32))
    there = at_candidates(found, np.array([3, 1, 0]), np.array([2, 1, 1]))
    assert there.toarray().tolist() == [[3, 0, 2, 2], [0, 5, 0, 0], [0, 0, 0, 0]]


def test_folds_are_even_and_tell_neighbours_apart():
    fold = user_folds(np.arange(8000), 8)
    assert set(fold) == set(range(8))
    assert np.bincount(fold).min() > 900
    assert (fold[1:] == fold[:-1]).mean() < 0.2
    np.testing.assert_array_equal(fold[:100], user_folds(np.arange(100), 8))
    assert fold[:8].tolist() == [
        7,
        4,
        7,
        4,
        3,
        2,
        1,
        4,
    ]  # of every version: the counts of trained models depend on them


def test_only_the_strongest_neighbours_are_kept():
    past = leave_one_out(random_sequences(users=40, items=20, seed=7))
    all_of_them = count_cooccurrence(past, 20, SETTINGS).relation()
    few = count_cooccurrence(past, 20, SETTINGS.model_copy(update={"neighbours": 3})).relation()
    assert np.diff(few.indptr).max() == 3
    for row in range(20):
        best = np.sort(all_of_them[row].data)[::-1][:3]
        np.testing.assert_array_equal(np.sort(few[row].data)[::-1], best)


def test_a_position_sees_all_that_its_user_had_before_it_whatever_was_skipped():
    past = leave_one_out([[0, 1, 2, 3, 9, 9], [4, 5, 6, 9, 9]])
    found = training_positions(past, np.array([0, 2, 6]), np.array([2, 3, 8]))
    assert found.user.tolist() == [0, 0, 1]
    assert found.target.tolist() == [2, 3, 6]
    assert found.histories.last_items(3).tolist() == [[0, -1, -1], [2, 1, 0], [4, -1, -1]]
