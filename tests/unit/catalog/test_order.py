"""Sequences in an order that is no time are refused; the order of time passes without a warning."""

import json

import numpy as np
import polars as pl
import pytest

from sidflow.catalog.ingest import build_catalog, read_source
from sidflow.catalog.order import MAX_EVENTS, Ascent, OrderedEvents, check_order, item_ranks, measure_order
from sidflow.catalog.params import IngestParams
from sidflow.core.errors import InputError

USERS, ITEMS, LENGTH = 60, 40, 6


def random_sequences(seed=0):
    """Return sequences of keys without order: the number at the end, the text and the row of a key disagree."""
    generator = np.random.default_rng(seed)
    return [[f"B{item}" for item in generator.permutation(ITEMS)[:LENGTH]] for _ in range(USERS)]


def ingest_sequences(folder, sequences, listed=(), **rest):
    lines = [json.dumps({"user": user, "items": items}) for user, items in enumerate(sequences)]
    (folder / "sequences.jsonl").write_text("\n".join(lines))
    if listed:
        (folder / "items.jsonl").write_text("\n".join(json.dumps({"item": key, "title": key}) for key in listed))
    params = {"source": "sequences", "path": str(folder), "min_user_events": 1, "min_item_events": 1, **rest}
    return catalog_of(params)


def catalog_of(params):
    params = IngestParams.model_validate(params)
    return build_catalog(read_source(params), params)


def first_appearances(sequences):
    return {key: place for place, key in enumerate(dict.fromkeys(key for items in sequences for key in items))}


def test_a_random_order_passes_without_a_warning_and_its_shares_are_those_of_chance(tmp_path):
    catalog = ingest_sequences(tmp_path, random_sequences())
    assert catalog.warnings == []
    assert catalog.report["pairs_count"] == USERS * (LENGTH - 1)
    assert catalog.report["last_pairs_count"] == USERS
    for name in ("pairs_ascending_key", "pairs_ascending_key_shuffled", "pairs_ascending_popularity"):
        assert 0.4 < catalog.report[name] < 0.6


@pytest.mark.parametrize(
    ("order", "descending", "says"),
    [
        ("key", False, "ascend by item key,"),
        ("key", True, "descend by item key,"),
        ("number", False, "ascend by number at the end of the item key"),
        ("first", False, "ascend by first appearance of the item among the events"),
        ("listed", False, "ascend by row of the item in the file of items"),
        ("listed", True, "descend by row of the item in the file of items"),
        ("popularity", False, "ascend by number of events of the item"),
        ("popularity", True, "descend by number of events of the item"),
    ],
)
def test_sorted_sequences_are_refused(tmp_path, order, descending, says):
    sequences = random_sequences()
    listed = list(np.random.default_rng(3).permutation([f"B{item}" for item in range(ITEMS)]))
    counts = pl.Series([key for items in sequences for key in items]).value_counts()
    value = {
        "key": lambda key: key,
        "number": lambda key: int(key[1:]),
        "first": first_appearances(sequences).__getitem__,
        "listed": listed.index,
        "popularity": dict(counts.iter_rows()).__getitem__,
    }[order]
    ordered = [sorted(items, key=value, reverse=descending) for items in sequences]
    with pytest.raises(InputError, match="expected sequences in the order of time") as error:
        ingest_sequences(tmp_path, ordered, listed if order == "listed" else ())
    assert says in error.value.line()
    assert "ingest.sorted_sequences: accept" in error.value.remedy


def test_numbers_that_were_sorted_as_text_are_refused(tmp_path):
    ordered = [sorted(key[1:] for key in items) for items in random_sequences()]
    with pytest.raises(InputError, match="by item key, compared as text"):
        ingest_sequences(tmp_path, ordered)


def test_targets_alone_in_sorted_order_are_refused(tmp_path):
    ordered = [[*items[:-2], *sorted(items[-2:])] for items in random_sequences()]
    with pytest.raises(InputError, match=r"last two events of a user\) ascend by item key"):
        ingest_sequences(tmp_path, ordered)


def test_a_user_may_say_that_the_order_is_right(tmp_path):
    ordered = [sorted(items) for items in random_sequences()]
    catalog = ingest_sequences(tmp_path, ordered, sorted_sequences="accept")
    assert catalog.report["pairs_ascending_key"] == 1
    assert "ascend by item key" in catalog.warnings[0]


def test_mostly_sorted_sequences_are_a_warning(tmp_path):
    ordered = [sorted(items) if user % 8 else items for user, items in enumerate(random_sequences())]
    catalog = ingest_sequences(tmp_path, ordered)
    assert 0.85 < catalog.report["pairs_ascending_key"] < 0.99
    assert "by item key" in catalog.warnings[0]


def test_too_few_pairs_prove_nothing(tmp_path):
    assert ingest_sequences(tmp_path, [["a", "b", "c"], ["b", "c", "d"]]).warnings == []


def test_users_without_common_items_are_not_sorted_by_first_appearance(tmp_path):
    sequences = [[f"{user * 13 % 7}x{place * 5 % 8}y{user}" for place in range(8)] for user in range(12)]
    catalog = ingest_sequences(tmp_path, sequences)
    assert catalog.report["pairs_ascending_first_seen"] == catalog.report["pairs_ascending_first_seen_shuffled"] == 1
    assert catalog.warnings == []


@pytest.mark.parametrize("clock", [True, False])
def test_a_table_sorted_by_user_and_item_is_refused_where_its_rows_are_the_order(tmp_path, clock):
    rows = [(user, key) for user, items in enumerate(random_sequences()) for key in sorted(items)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    frame = frame.with_columns(timestamp=pl.int_range(pl.len()) + 1_600_000_000)
    frame.write_csv(tmp_path / "interactions.csv")
    files = {} if clock else {"timestamp": ""}
    params = {"source": "files", "path": str(tmp_path), "min_user_events": 1, "min_item_events": 1, "files": files}
    if clock:
        assert "ascend by item key" in catalog_of(params).warnings[0]
    else:
        with pytest.raises(InputError, match="ascend by item key"):
            catalog_of(params)


def test_a_file_sorted_by_key_within_a_day_is_in_no_order_of_its_own(tmp_path):
    rows = [
        (user, key, f"2020-01-{1 + place // 3:02}")
        for user, items in enumerate(random_sequences())
        for place, key in enumerate([*sorted(items[:3]), *sorted(items[3:])])
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(
        tmp_path / "interactions.csv"
    )
    catalog = catalog_of({"source": "files", "path": str(tmp_path), "min_user_events": 1, "min_item_events": 1})
    assert catalog.report["tied_pairs_count"] == USERS * 4
    assert 0.35 < catalog.report["tied_pairs_ascending_key"] < 0.65
    assert catalog.warnings == []


def test_large_data_is_measured_on_users_evenly_spread():
    users = MAX_EVENTS // 4 + 1
    user = np.repeat(np.arange(users), 5)
    item = np.tile(np.arange(5), users)
    row = np.arange(len(user))
    ascents = measure_order(OrderedEvents(user, item, row, row < 0), {"key": np.arange(5)})
    assert {(ascent.pairs, ascent.share) for ascent in ascents if ascent.order == "key"} == {
        ("pairs", 1.0),
        ("last_pairs", 1.0),
    }
    assert ascents[0].count == (users + 1) // 2 * 4


def test_orders_that_equal_that_of_keys_are_left_out():
    keys = [f"P{item:03}" for item in range(9)]
    assert item_ranks(keys, pl.Series(keys), np.arange(9)).keys() == {"key", "popularity"}
    assert "listed" in item_ranks(keys, pl.Series(keys[::-1]), np.arange(9))


def test_within_ties_a_warning_names_the_same_second():
    ascents = [Ascent("tied_pairs", "popularity", 100, 0.95, 0.5)]
    warnings = check_order(ascents, "data", clock=True, sorted_sequences="refuse")
    assert "same second) ascend by number of events" in warnings[0]
