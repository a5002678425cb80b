"""k-core against a plain reference, ties that ids cannot explain, repeats as promised."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.catalog.events import (
    dropped_repeats,
    encode_keys,
    event_order,
    k_core,
    repeat_rate,
    sort_keys,
    tie_hash,
    tied_with_previous,
)

EVENTS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6)), min_size=1, max_size=60)


def reference_core(events, min_user, min_item):
    left = list(events)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        stay = [(u, i) for u, i in left if users[u] >= min_user and items[i] >= min_item]
        if len(stay) == len(left):
            return left
        left = stay


@settings(max_examples=60)
@given(EVENTS, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_that_of_a_plain_loop(events, min_user, min_item):
    user, item = (np.array(column, dtype=np.int32) for column in zip(*events, strict=True))
    keep = k_core(user, item, min_user, min_item).keep
    assert [event for event, stays in zip(events, keep, strict=True) if stays] == reference_core(
        events, min_user, min_item
    )


def test_a_chain_falls_round_by_round():
    user = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    item = np.array([0, 1, 1, 2, 2, 3], dtype=np.int32)
    core = k_core(user, item, 2, 2)
    assert not core.keep.any()
    assert core.rounds == 3


@settings(max_examples=40)
@given(EVENTS, st.integers(0, 5), st.randoms())
def test_the_order_of_rows_in_the_file_does_not_matter(events, seed, random):
    rows = [(u, i, (u * i) % 3) for u, i in events]
    shuffled = random.sample(rows, len(rows))
    results = []
    for these in (rows, shuffled):
        user, item, second = (np.array(column) for column in zip(*these, strict=True))
        where = event_order(user, item, second, seed)
        results.append(list(zip(user[where], item[where], second[where], strict=True)))
    assert results[0] == results[1]
    times = [(user, second) for user, _, second in results[0]]
    assert times == sorted(times)


def test_equal_events_stay_in_the_order_of_their_rows():
    """Which sort the machine has must not decide which of them is kept."""
    generator = np.random.default_rng(0)
    user, item, second = (generator.integers(count, size=3_000) for count in (2, 3, 5))
    rows = event_order(user, item, second, 0)
    keys = np.stack([user, item, second], axis=1)[rows]
    equal = (keys[1:] == keys[:-1]).all(axis=1)
    assert equal.any() and (rows[1:] > rows[:-1])[equal].all()


def test_ties_follow_no_id_and_change_with_the_seed():
    users, size = 400, 6
    user = np.repeat(np.arange(users), size)
    item = np.tile(np.arange(size), users)
    second = np.zeros(users * size, dtype=np.int64)
    arranged = {seed: item[event_order(user, item, second, seed)].reshape(users, size) for seed in (1, 2)}
    assert (np.sort(arranged[1], axis=1) == np.arange(size)).all()
    position = np.arange(size)
    correlation = np.corrcoef(np.tile(position, users), arranged[1].ravel())[0, 1]
    assert abs(correlation) < 0.08
    assert 0.5 < (arranged[1] != arranged[2]).mean() < 1


def test_only_events_of_the_same_user_and_second_are_tied():
    user, second = np.array([0, 0, 0, 1]), np.array([5, 5, 6, 6])
    assert tied_with_previous(user, second).tolist() == [False, True, False, False]


@pytest.mark.parametrize(("repeats", "left"), [("keep", "aabca"), ("drop_consecutive", "abca"), ("first", "abc")])
def test_repeats(repeats, left):
    item = np.array(["abc".index(sign) for sign in "aabca"] + [0])
    user = np.array([0] * 5 + [1])
    drop = dropped_repeats(user, item, repeats)
    assert "".join("abc"[one] for one in item[:5][~drop[:5]]) == left
    assert drop.dtype == bool
    assert not drop[5]


def test_keys_sort_as_numbers_only_where_all_are():
    assert sort_keys(pl.Series(["10", "9", "2"])).to_list() == ["2", "9", "10"]
    assert sort_keys(pl.Series(["10", "9", "b"])).to_list() == ["10", "9", "b"]
    assert sort_keys(pl.Series([10, 9, 10])).to_list() == ["9", "10"]


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Int64])
def test_codes_are_ranks_of_keys_whatever_the_column_type(kind):
    coded = encode_keys(
        pl.Series(["30", "4", "30", "100"]).cast(pl.Int64 if kind == pl.Int64 else pl.String).cast(kind)
    )
    assert coded.keys == ["4", "30", "100"]
    assert coded.codes.tolist() == [1, 0, 1, 2]
    assert coded.codes.dtype == np.int32


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_codes_are_places_among_the_keys_of_another_table(kind):
    coded = encode_keys(pl.Series(["30", "4", "30"]).cast(kind), pl.Series(["2", "4", "9", "30", "b"]))
    assert coded.keys == ["2", "4", "9", "30", "b"]
    assert coded.codes.tolist() == [3, 1, 3]


def test_no_keys_have_no_codes():
    coded = encode_keys(pl.Series([], dtype=pl.Categorical), pl.Series(["a"]))
    assert (coded.keys, coded.codes.tolist()) == (["a"], [])


def test_times_too_far_apart_for_one_number_are_ordered_too():
    """User times span + time passes the largest int64 for the last user alone."""
    far = 2**62 - 1
    user, time = np.array([2, 0, 2, 1]), np.array([far, far, 0, 5])
    assert event_order(user, np.arange(4), time, 0).tolist() == [1, 3, 2, 0]


def test_the_repeat_rate_is_the_share_of_events_whose_item_the_user_has_had():
    """User 0 meets item 3 three times, user 1 item 1 twice; the events stand in no order."""
    user, item = np.array([0, 1, 0, 1, 0, 0, 1]), np.array([3, 3, 1, 1, 3, 3, 1])
    assert repeat_rate(user.astype(np.int32), item.astype(np.int32)) == 3 / 7
    assert repeat_rate(user[:3], item[:3]) == 0 == repeat_rate(user[:0], item[:0])
    many = np.array([2**31 - 1, 2**31 - 2, 2**31 - 1], dtype=np.int32)  # whose pairs need all of 64 bits
    assert repeat_rate(np.full(3, 2**31 - 1, dtype=np.int32), many) == 1 / 3


def test_times_before_1970_and_a_user_at_the_end_of_all_times_are_in_order():
    user, time = np.array([1, 0, 1, 0]), np.array([-10, 5, -3, -20])
    assert event_order(user, np.arange(4), time, 0).tolist() == [3, 1, 0, 2]
    assert event_order(np.array([1, 0]), np.arange(2), np.array([0, 9]), 0).tolist() == [1, 0]


def test_ties_are_in_the_order_of_a_hash_of_user_item_and_seed():
    """Splits made earlier depend on it. The hash is written out in Python's integers."""

    def mixed(value):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            value = (value ^ value >> shift) * factor % 2**64
        return value

    def hashed(user, item, seed):
        golden = 0x9E3779B97F4A7C15
        return mixed(((mixed((user + seed * golden + 0x632BE59BD9B4E019) % 2**64) ^ item) + golden) % 2**64)

    items = np.arange(8, dtype=np.int32)
    for user, seed in ((0, 42), (3, 42), (3, 7)):
        users = np.full(8, user, dtype=np.int32)
        order = event_order(users, items, np.zeros(8, dtype=np.int64), seed).tolist()
        assert order == sorted(range(8), key=lambda item: hashed(user, item, seed))
        assert tie_hash(users, items, seed).tolist() == [hashed(user, item, seed) for item in range(8)]
