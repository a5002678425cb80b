"""Known cuts by hand, properties for all, and a lint that stops what would lie."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.core.errors import InputError
from sidflow.sequences.cuts import cut_as_published, cut_by_samples, cut_by_time, leave_last_n
from sidflow.sequences.histories import Histories
from sidflow.sequences.lint import check_figures, measure_split
from sidflow.sequences.split import (
    SplitParams,
    cut_sequences,
    draw_held_out_items,
    split_interactions,
    without_last_events,
)


def interactions(sequences, seconds=None):
    rows = [
        (user, position, item, seconds[user][position] if seconds else position)
        for user, items in enumerate(sequences)
        for position, item in enumerate(items)
    ]
    schema = {"user_id": pl.Int32, "position": pl.Int32, "item_id": pl.Int32, "timestamp": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _histories(made):
    """Return what the stages after `split` would read."""
    lengths = made.sequences["items"].list.len().to_numpy().astype(np.int64)
    flat = made.sequences["items"].explode(empty_as_null=False).to_numpy()
    return Histories(
        flat,
        np.concatenate([[0], np.cumsum(lengths)]),
        made.sequences["train_end"].to_numpy().astype(np.int64),
        made.queries["user_id"].to_numpy(),
        made.queries["history_end"].to_numpy(),
        (made.queries["part"] == "valid").to_numpy(),
        made.targets["item_id"].to_numpy(),
        test_start=made.sequences["test_start"].to_numpy() if "test_start" in made.sequences.columns else None,
    )


def test_leave_one_out_by_hand():
    made = split_interactions(interactions([[3, 1, 2, 0], [0, 1, 2]]), 2, SplitParams(), no_repeats=True)
    assert made.sequences["items"].to_list() == [[3, 1, 2, 0], [0, 1, 2]]
    assert made.sequences["train_end"].to_list() == [2, 1]
    assert made.queries["user_id"].to_list() == [0, 0, 1, 1]
    assert made.queries["part"].to_list() == ["valid", "test", "valid", "test"]
    assert made.queries["history_end"].to_list() == [2, 3, 1, 2]
    assert made.targets["item_id"].to_list() == [2, 0, 1, 2]
    assert made.report["timestamps_known"] == 0
    assert made.report["targets_cold_test"] == made.report["targets_cold_valid"] == 1


def test_short_users_keep_training_first_then_test_then_valid():
    cuts = leave_last_n(np.array([1, 2, 3, 6]), n=2, min_history=1)
    assert cuts.train_end.tolist() == [1, 1, 1, 2]
    assert cuts.query_user.tolist() == [1, 2, 2, 3, 3, 3, 3]
    assert cuts.query_end.tolist() == [1, 1, 2, 2, 3, 4, 5]
    assert cuts.query_valid.tolist() == [False, False, False, True, True, False, False]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 4), st.integers(1, 4))
def test_parts_never_overlap_and_cover_what_is_left(lengths, n, min_history):
    sizes = np.array(lengths)
    cuts = leave_last_n(sizes, n, min_history)
    for user, length in enumerate(lengths):
        mine = cuts.query_user == user
        ends = cuts.query_end[mine].tolist()
        assert ends == list(range(cuts.train_end[user], length))
        assert cuts.train_end[user] >= min(min_history, length)
        valid = cuts.query_valid[mine].tolist()
        assert valid == sorted(valid, reverse=True)
        assert sum(valid) <= n
        assert len(valid) - sum(valid) <= n


def test_global_time_by_hand():
    lengths = np.array([4, 3, 3])
    seconds = np.array([0, 10, 80, 90, 20, 30, 40, 85, 95, 96])
    cuts = cut_by_time(lengths, seconds, valid_share=0.2, test_share=0.2, min_history=1, max_queries=1)
    assert cuts.cut_seconds == (85, 95)
    assert cuts.train_end.tolist() == [3, 3, 0]
    assert list(zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True)) == [(0, 3, True), (2, 1, False)]


def test_sample_ratio_by_hand():
    """Ten samples: user 0 has four, user 1 three, user 2 two, user 3 one; user 4 has one event and none."""
    lengths = np.array([5, 4, 3, 2, 1])
    seconds = np.array([0, 10, 20, 50, 90, 5, 15, 50, 60, 1, 70, 95, 96, 97, 2])
    # by time: u0 10, u1 15, u0 20, u0 50, u1 50, u1 60, u2 70, u0 90 | u2 95 | u3 97
    cuts = cut_by_samples(lengths, seconds, valid_share=0.1, test_share=0.1, min_history=1)
    assert cuts.train_end.tolist() == [5, 4, 2, 0, 0]
    assert list(zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True)) == [(2, 2, True), (3, 1, False)]
    # 6 : 2 : 2; of the two samples at 50 the one of user 0 is first
    cuts = cut_by_samples(lengths, seconds, valid_share=0.2, test_share=0.2, min_history=1)
    assert cuts.train_end.tolist() == [4, 4, 0, 0, 0]
    queries = [(0, 4, True), (2, 1, True), (2, 2, False), (3, 1, False)]
    assert list(zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True)) == queries
    assert len(cut_by_samples(lengths, seconds, 0.2, 0.2, min_history=2).query_user) == 2


def test_sample_ratio_gives_every_later_sample_of_a_user_a_query():
    draw = np.random.default_rng(0)
    sequences = [draw.permutation(9)[: draw.integers(2, 9)].tolist() for _ in range(40)]
    seconds = [sorted(draw.integers(0, 500, len(items)).tolist()) for items in sequences]
    params = SplitParams(method="sample_ratio")
    made = split_interactions(interactions(sequences, seconds), 40, params, no_repeats=True)
    samples = sum(len(items) - 1 for items in sequences)
    assert made.report["queries_test"] == samples - int(samples * 0.9)
    assert made.report["queries_valid"] == int(samples * 0.9) - int(samples * 0.8)
    trained = np.maximum(made.sequences["train_end"].to_numpy().astype(np.int64) - 1, 0).sum()
    assert trained == int(samples * 0.8)
    histories = _histories(made)
    ends = np.array([seconds[user][end] for user, end in zip(histories.query_user, histories.query_end, strict=True)])
    assert ends[histories.query_valid].max() <= ends[~histories.query_valid].min()
    refitted = np.maximum(histories.before_test().train_end - 1, 0).sum()  # samples of the second fit
    assert refitted == int(samples * 0.9)
    with pytest.raises(InputError, match="real timestamps for `sample_ratio`"):
        split_interactions(interactions(sequences), 40, params, no_repeats=True)


def test_published_parts_by_hand():
    """User 1 has no training target, user 2 a context that no row has as a target, user 3 an empty history."""
    parts = [None, "train", "train", "valid", "test", "test"]
    parts += [None, None, "valid", "test"]
    parts += [None, None, "train", None, "test"]
    parts += ["test", "test"]
    cuts = cut_as_published(np.array([6, 4, 5, 2]), parts, min_history=1)
    assert cuts.train_end.tolist() == [3, 0, 3, 0]
    queries = [(0, 3, True), (0, 4, False), (0, 5, False), (1, 2, True), (1, 3, False), (2, 4, False), (3, 1, False)]
    assert list(zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True)) == queries
    assert len(cut_as_published(np.array([6, 4, 5, 2]), parts, min_history=4).query_user) == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([None, "valid", "test", "test"], "each of the published parts train, valid and test; found none in train"),
        ([None, "train", "train", "test"], "found none in valid"),
        (
            [None, "train", "valid", "test", "train"],
            r"after those of a later one \(1 affected\).*user_id 0, position 4: train",
        ),
        (
            [None, "train", "test", "valid", "train test"],
            r"several parts \(1 affected\).*user_id 0, position 4: train test",
        ),
    ],
)
def test_published_parts_that_leak_are_refused(parts, message):
    frame = interactions([list(range(len(parts))), [0, 1]])
    frame = frame.with_columns(part=pl.Series([*parts, None, "train" if "train" in parts else "test"]))
    with pytest.raises(InputError, match=message):
        split_interactions(frame, 2, SplitParams(method="published"), no_repeats=False)


def test_published_parts_of_a_source_without_any_are_refused():
    with pytest.raises(InputError, match=r"brings its split along; found events without a part.*minionerec"):
        split_interactions(interactions([[0, 1, 2]]), 1, SplitParams(method="published"), no_repeats=False)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=12), min_size=4, max_size=15), st.integers(1, 3))
def test_global_time_never_trains_on_the_future(seconds, most):
    ordered = [sorted(times) for times in seconds]
    flat = np.array([second for times in ordered for second in times])
    lengths = np.array([len(times) for times in ordered])
    try:
        cuts = cut_by_time(lengths, flat, 0.2, 0.2, 1, most)
    except InputError:
        return
    first_valid, first_test = cuts.cut_seconds or (0, 0)
    for user, times in enumerate(ordered):
        assert all(second < first_valid for second in times[: cuts.train_end[user]])
        assert all(second >= first_valid for second in times[cuts.train_end[user] :])
    for user, end, valid in zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True):
        assert (first_valid <= ordered[user][end] < first_test) if valid else (ordered[user][end] >= first_test)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=12), min_size=4, max_size=15),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_a_second_fit_sees_nothing_after_the_test_cut(seconds, most, min_history):
    ordered = [sorted(times) for times in seconds]
    by_time = SplitParams(
        method="global_time", valid_share=0.2, test_share=0.2, queries_per_user=most, min_history=min_history
    )
    try:
        frame = interactions([list(range(len(times))) for times in ordered], ordered)
        made = split_interactions(frame, len(ordered), by_time, no_repeats=False)
    except InputError:
        return
    refit = _histories(made).before_test()
    cut_sequences = made.report["cut_test_seconds"]
    for user, times in enumerate(ordered):
        assert all(second < cut_sequences for second in times[: refit.train_end[user]])
    test = made.queries.filter(pl.col("part") == "test")
    for user, end in test.select("user_id", "history_end").iter_rows():
        assert sum(second < cut_sequences for second in ordered[user]) >= min_history
        assert end < sum(second < cut_sequences for second in ordered[user]) + most


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=9), min_size=6, max_size=15, unique_by=tuple),
    st.integers(1, 5),
    st.sampled_from(["sample_ratio", "published"]),
    st.sampled_from([0.0, 0.3]),
)
def test_a_second_fit_sees_no_event_of_the_test_part_too_early_to_be_a_target(seconds, min_history, method, held_out):
    ordered = [sorted(times) for times in seconds]
    frame = interactions([[100 * user + i for i in range(len(t))] for user, t in enumerate(ordered)], ordered)
    lengths, params = np.array([len(times) for times in ordered]), SplitParams(valid_share=0.2, test_share=0.4)
    cuts = cut_by_samples(lengths, frame["timestamp"].to_numpy(), params.valid_share, params.test_share, min_history=1)
    part = np.full(len(frame), "train", dtype=object)
    for user, end, valid in zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True):
        part[lengths[:user].sum() + end] = "valid" if valid else "test"
    tested = set(frame["item_id"].to_numpy()[part == "test"])  # each item is bought once
    chosen = params.model_copy(update={"method": method, "min_history": min_history, "held_out_items": held_out})
    try:
        made = split_interactions(
            frame.with_columns(pl.Series("part", list(part))), len(ordered), chosen, no_repeats=False
        )
    except InputError:
        return
    refit = _histories(made).before_test()
    trained = {int(item) for user in range(len(ordered)) for item in refit.training_items(user)}
    assert not trained & tested


def test_where_the_test_part_starts_is_kept_where_queries_do_not_show_it():
    """User 0's first test event has one event before it; two are asked for."""
    frame = interactions([[0, 1, 2, 3], [4, 5, 6, 7, 8]], [[0, 90, 91, 92], [1, 2, 3, 4, 5]])
    params = SplitParams(method="sample_ratio", valid_share=0.15, test_share=0.4, min_history=2)
    made = split_interactions(frame, 2, params, no_repeats=False)
    assert made.sequences["test_start"].to_list() == [1, 5]
    assert made.queries.filter(pl.col("part") == "test").select("user_id", "history_end").rows() == [(0, 2), (0, 3)]
    assert _histories(made).before_test().train_end.tolist() == [1, 5]
    whole = split_interactions(frame, 2, params.model_copy(update={"min_history": 1}), no_repeats=False)
    assert "test_start" not in whole.sequences.columns


def test_time_needs_a_clock():
    frame = interactions([[0, 1, 2, 3]] * 5)
    with pytest.raises(InputError, match="real timestamps"):
        split_interactions(frame, 5, SplitParams(method="global_time"), no_repeats=False)


def test_ties_history_cold_and_duplicates_are_counted():
    sequences = [[0, 1, 2, 0], [0, 1, 2, 0], [1, 0, 4, 5]]
    seconds = [[10, 20, 30, 30], [10, 20, 30, 40], [1, 2, 3, 4]]
    made = split_interactions(interactions(sequences, seconds), 3, SplitParams(), no_repeats=False)
    assert made.report["duplicated_sequences"] == 1
    assert made.report["targets_in_history_test"] == 2
    assert made.report["targets_tied_test"] == 1
    assert made.report["targets_cold_test"] == 1
    assert made.report["test_targets_before_last_training"] == 1  # second 4 is before the others' 20, 30 and 40 after
    assert made.targets["tied"].to_list() == [True, True, False, False, False, False]


def test_a_target_is_tied_with_the_event_after_it_too():
    """A hash decides which of the two is the target."""
    sequences = [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4]]
    seconds = [[1, 2, 6, 9, 9, 11], [1, 7, 9, 10]]
    params = SplitParams(method="global_time", valid_share=0.3, test_share=0.4)
    made = split_interactions(interactions(sequences, seconds), 2, params, no_repeats=False)
    assert made.targets["item_id"].to_list() == [2, 3, 2, 3]
    assert made.targets["tied"].to_list() == [False, True, False, False]  # 3 and 4 of the first user share a second
    assert (made.report["targets_tied_valid"], made.report["targets_tied_test"]) == (0, 1)
    last = split_interactions(interactions([[0, 1, 2]], [[4, 5, 5]]), 1, SplitParams(), no_repeats=False)
    assert last.targets["tied"].to_list() == [True, True]


@pytest.mark.parametrize("lengths", [(1, 3), (3, 1)])
def test_events_of_two_users_are_not_tied(lengths):
    sequences = [list(range(3)), *([0] * length for length in lengths), list(range(3))]
    seconds = [[7, 8, 9], *([9] * length for length in lengths), [9, 10, 11]]
    made = split_interactions(interactions(sequences, seconds), 4, SplitParams(), no_repeats=False)
    of_user = made.queries["user_id"].is_in([0, 3])
    assert not made.targets.filter(of_user)["tied"].any()


def _leaks(sequences, **params):
    made = split_interactions(interactions(sequences), len(sequences), SplitParams(**params), no_repeats=False)
    return made.report["sequences_in_training_valid"], made.report["sequences_in_training_test"]


def test_a_sequence_that_begins_anothers_training_part_is_counted():
    longer = [0, 1, 2, 3, 4, 5]  # trained on: 0 1 2 3
    assert _leaks([longer, [0, 1, 2, 3]]) == (1, 1)  # validation is 0 1 -> 2, the test 0 1 2 -> 3: as a training part
    assert _leaks([longer, [0, 1, 2, 9]]) == (1, 0)
    assert _leaks([longer, [0, 1, 2, 3, 4]]) == (1, 0)  # 4 is the longer one's validation target
    assert _leaks([longer, longer]) == (0, 0)  # counted as duplicated_sequences
    assert _leaks([longer, longer, [0, 1, 2]]) == (1, 1)  # once, however often it is trained on


def test_what_only_looks_like_a_beginning_is_not_counted():
    assert _leaks([[9, 0, 1, 2, 3, 4, 5], [0, 1, 2]]) == (0, 0)  # in the middle
    assert _leaks([[0, 1, 2, 3, 4], [1, 0, 2]]) == (0, 0)  # in another order
    assert _leaks([[0, 0, 0, 0, 0], [0, 1, 0]]) == (0, 0)
    assert _leaks([[1, 11, 1, 5, 5], [11, 1, 1]]) == (0, 0)
    assert _leaks([[3, 1, 4, 1, 5, 9]]) == (0, 0)  # one's own beginning is no leak


@settings(max_examples=80)
@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=7), min_size=1, max_size=12), st.integers(1, 2))
def test_leaks_equal_a_loop_over_pairs_of_users(sequences, n):
    cuts = leave_last_n(np.array([len(items) for items in sequences]), n, 1)
    by_hand = [0, 0]
    for user, end, valid in zip(cuts.query_user, cuts.query_end, cuts.query_valid, strict=True):
        asked = sequences[user][: end + 1]
        by_hand[0 if valid else 1] += any(
            items[: cuts.train_end[other]][: len(asked)] == asked
            for other, items in enumerate(sequences)
            if other != user
        )
    try:
        assert _leaks(sequences, method="leave_last_n", n=n) == tuple(by_hand)
    except InputError:  # nobody has a validation query
        assert not cuts.query_valid.any()


def test_a_repeat_that_ingest_ruled_out_is_fatal():
    with pytest.raises(InputError, match="in their own history"):
        split_interactions(interactions([[0, 1, 2, 0]]), 1, SplitParams(), no_repeats=True)


def test_the_future_in_training_is_fatal():
    with pytest.raises(InputError, match="later events"):
        check_figures(
            {"targets_in_history_valid": 0, "targets_in_history_test": 0, "future_events_in_training": 3},
            no_repeats=False,
        )


def test_future_in_training_is_found():
    lengths, seconds = np.array([3, 3]), np.array([1, 2, 3, 1, 2, 9])
    good = cut_by_time(lengths, seconds, 0.3, 0.2, 1, 1)
    bad = good._replace(train_end=np.array([3, 3]))
    figures, _ = measure_split(np.arange(6), seconds, np.array([0, 3]), bad, has_timestamps=True)
    assert figures["future_events_in_training"] > 0


@pytest.mark.parametrize(("length", "part"), [(2, "valid"), (1, "valid")])
def test_nobody_to_ask_is_refused(length, part):
    times = np.tile(np.arange(length), 2)
    with pytest.raises(InputError, match=f"queries in the part `{part}`; found none: no user has enough events"):
        cut_sequences(np.array([length] * 2), times, SplitParams(), has_timestamps=False)


def test_a_test_part_without_anybody_to_ask_is_refused():
    """One user ends before the test part; the other's only event, in it, has no history."""
    params = SplitParams(method="global_time")
    with pytest.raises(InputError, match="queries in the part `test`; found none"):
        cut_sequences(np.array([9, 1]), np.arange(10), params, has_timestamps=True)


def test_queries_are_numbered_by_user_then_position():
    made = split_interactions(
        interactions([[0, 1, 2, 3, 4]] * 3), 3, SplitParams(method="leave_last_n", n=2), no_repeats=False
    )
    keys = list(zip(made.queries["user_id"], made.queries["history_end"], strict=True))
    assert keys == sorted(keys)
    assert made.queries["query_id"].to_list() == list(range(12))


def hold_out(monkeypatch, items):
    """Hold out these items, whatever the draw."""
    monkeypatch.setattr(
        "sidflow.sequences.split.draw_held_out_items", lambda count, _: np.isin(np.arange(count), items)
    )
    return SplitParams(held_out_items=0.5)


def test_held_out_items_are_test_targets_alone(monkeypatch):
    """7 is held out. A user loses it as validation target, as first event, and altogether; one is asked for it."""
    sequences = [[1, 7, 2, 3, 7], [1, 2, 7, 3], [7, 1, 2, 3], [7, 7, 1], [7, 7, 7]]
    params = hold_out(monkeypatch, [7])
    made = split_interactions(interactions(sequences), 5, params, no_repeats=False)
    assert made.sequences["items"].to_list() == [[1, 2, 3, 7], [1, 2, 3], [1, 2, 3], [1], [7]]
    assert made.sequences["timestamps"].to_list() == [[0, 2, 3, 4], [0, 1, 3], [1, 2, 3], [2], [2]]
    assert made.sequences["train_end"].to_list() == [2, 2, 1, 0, 0]
    asked = zip(made.queries["user_id"], made.queries["part"], made.queries["history_end"], strict=True)
    assert list(asked) == [(0, "valid", 2), (0, "test", 3), (1, "test", 2), (2, "valid", 1), (2, "test", 2)]
    assert made.targets["item_id"].to_list() == [3, 7, 3, 2, 3]
    assert made.report["held_out_items"] == 1
    assert made.report["held_out_events"] == 7
    whole = split_interactions(interactions(sequences), 5, SplitParams(), no_repeats=False)
    assert set(whole.report) < set(made.report)  # beside all other figures
    assert made.queries["position"].to_list() == [3, 4, 3, 2, 3]


def test_users_whose_events_are_all_dropped_are_no_duplicates_of_one_another(monkeypatch):
    monkeypatch.setattr("sidflow.sequences.split.draw_held_out_items", lambda items, params: np.arange(items) == 0)
    sequences = [[0], [0], [1, 2, 3, 4], [1, 2, 3, 4]]
    made = split_interactions(interactions(sequences), 4, SplitParams(held_out_items=0.2), no_repeats=False)
    assert made.sequences["items"].list.len().to_list() == [0, 0, 4, 4]
    assert made.report["duplicated_sequences"] == 1


def test_held_out_items_that_leave_nobody_to_ask_are_refused(monkeypatch):
    params = hold_out(monkeypatch, [0, 1, 2])
    with pytest.raises(InputError, match=r"found none.*held_out_items"):
        split_interactions(interactions([[0, 1, 2], [2, 1, 0]]), 2, params, no_repeats=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=9), min_size=6, max_size=20),
    st.floats(0.05, 0.6),
    st.integers(0, 9),
    st.sampled_from(["leave_one_out", "leave_last_n"]),
    st.integers(1, 2),
)
def test_no_history_holds_a_held_out_item_before_the_test(sequences, share, seed, method, min_history):
    params = SplitParams(held_out_items=share, held_out_seed=seed, method=method, n=2, min_history=min_history)
    held_out = draw_held_out_items(20, params)
    plain = params.model_copy(update={"held_out_items": 0.0})
    try:
        made = split_interactions(interactions(sequences), len(sequences), params, no_repeats=False)
        whole = split_interactions(interactions(sequences), len(sequences), plain, no_repeats=False)
    except InputError:
        return
    histories, before = _histories(made), _histories(whole)
    for user in range(len(sequences)):
        assert not held_out[histories.training_items(user)].any()
        assert not held_out[histories.before_test().training_items(user)].any()
        assert list(histories.training_items(user)) == [i for i in before.training_items(user) if not held_out[i]]
    valid = histories.query_valid
    assert not held_out[histories.targets[valid]].any()
    asked = {(u, t) for u, t, v in zip(histories.query_user, histories.targets, valid, strict=True) if not v}
    assert asked <= {
        (u, t) for u, t, v in zip(before.query_user, before.targets, before.query_valid, strict=True) if not v
    }
    assert (histories.query_end >= min_history).all()


def test_the_draw_of_held_out_items_depends_on_params_alone():
    params = SplitParams(held_out_items=0.3)
    assert 0.25 < draw_held_out_items(4000, params).mean() < 0.35
    np.testing.assert_array_equal(draw_held_out_items(4000, params)[:100], draw_held_out_items(100, params))
    other = params.model_copy(update={"held_out_seed": 1})
    assert (draw_held_out_items(4000, params) != draw_held_out_items(4000, other)).any()
    assert not draw_held_out_items(4000, SplitParams()).any()


@pytest.mark.parametrize(
    ("count", "left"),
    [(0, [[3, 1, 2, 0], [0, 1, 2], [1]]), (1, [[3, 1, 2], [0, 1], [1]]), (5, [[3], [0], [1]])],
)
def test_last_events_are_left_out_and_first_ones_stay(count, left):
    made = without_last_events(interactions([[3, 1, 2, 0], [0, 1, 2], [1]]), count)
    assert made.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list() == left


@given(st.lists(st.integers(4, 9), min_size=1, max_size=10))
def test_without_the_last_event_the_test_asks_what_validation_asked(lengths):
    events = interactions([list(range(length)) for length in lengths])
    whole = split_interactions(events, len(lengths), SplitParams(), no_repeats=True)
    shorter = split_interactions(events, len(lengths), SplitParams(without_last=1), no_repeats=True)
    validated = whole.queries.join(whole.targets, on="query_id").filter(part="valid")
    tested = shorter.queries.join(shorter.targets, on="query_id").filter(part="test")
    for column in ("user_id", "history_end", "item_id"):
        assert validated[column].to_list() == tested[column].to_list()
    assert shorter.sequences["train_end"].to_list() == [end - 1 for end in whole.sequences["train_end"].to_list()]


def test_published_parts_are_left_out_with_their_events():
    events = interactions([[3, 1, 2, 0], [0, 1, 2, 3]])
    events = events.with_columns(pl.Series("part", ["train", "valid", "test", "test"] * 2))
    made = split_interactions(events, 2, SplitParams(method="published", without_last=1), no_repeats=True)
    assert made.queries["part"].to_list() == ["valid", "test"] * 2
    assert made.sequences["items"].to_list() == [[3, 1, 2], [0, 1, 2]]
