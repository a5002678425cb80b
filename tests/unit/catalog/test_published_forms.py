"""RecBole's atomic files and MiniOneRec's published histories; separators and folders that are not as named."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sidflow.catalog.ingest import ingest, read_source
from sidflow.catalog.params import IngestParams
from sidflow.core.errors import InputError
from sidflow.sequences.split import SplitParams, split_interactions


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def _read(folder: Path, source: str, **settings: object):
    return read_source(IngestParams.model_validate({"source": source, "path": str(folder), source: settings}))


def _events(catalog) -> list[tuple]:
    return [
        (str(user), str(item), time) for user, item, time in catalog.events.select("user", "item", "timestamp").rows()
    ]


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def test_recboles_atomic_files_are_read_by_their_header(tmp_path) -> None:
    _write(
        tmp_path,
        {
            "ml.inter": INTER + "7\t10\t5\t978300760\n7\t20\t2\t978302109.0\n8\t10\t4\t978301968\n",
            "ml.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '10\tToy Story\t1995\tAnimation Comedy\n20\tHeat "x"\t1995\tAction\n',
        },
    )
    catalog = _read(tmp_path, "recbole")
    assert _events(catalog) == [("7", "10", 978300760), ("7", "20", 978302109), ("8", "10", 978301968)]
    first, second = catalog.items.sort("item_key").iter_rows(named=True)
    assert (first["title"], first["categories"]) == ("Toy Story", ["Animation", "Comedy"])
    assert first["attributes"] == [{"name": "release_year", "value": "1995"}]
    assert second["title"] == 'Heat "x"'
    rated = _read(tmp_path, "recbole", min_rating=4)
    assert [item for _, item, _ in _events(rated)] == ["10", "10"]
    assert rated.dropped["ratings_too_low"] == 1
    assert not _read(tmp_path, "recbole", timestamp="").has_timestamps


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("token", ["Science Fiction", "Drama, old"], [["Science Fiction"], ["Drama, old"]]),
        ("token_seq", ["Animation Comedy", "Action"], [["Animation", "Comedy"], ["Action"]]),
        ("token_seq", ["Science Fiction", "Drama, Film Noir"], [["Science Fiction"], ["Drama", "Film Noir"]]),
        ("token_seq", ["", "Drama"], [[], ["Drama"]]),
    ],
)
def test_the_type_of_categories_and_their_whole_column_say_where_they_are_split(tmp_path, kind, values, wanted) -> None:
    rows = "".join(f"{item}\t{value}\tA\n" for item, value in zip((10, 20), values, strict=True))
    head = f"item_id:token\tgenre:{kind}\ttitle:token_seq\n"
    _write(tmp_path, {"a.inter": INTER + "7\t10\t5\t978300760\n", "a.item": head + rows})
    items = _read(tmp_path, "recbole").items.sort("item_key")
    assert items["categories"].to_list() == wanted


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (
            {"a.inter": INTER, "a.item": "item_id:token\ttitle:token\ttitle:token_seq\n10\tA\tB\n"},
            {},
            r"a\.item: expected fields with different names; found `title` as title:token, title:token_seq",
        ),
        ({"a.inter": "user_id\titem_id\ttimestamp\n1\t2\t3\n"}, {}, r"name:type between tabs.*found `user_id`.*files"),
        ({"a.inter": "user_id:token,item_id:token\n1,2\n"}, {}, r"expected tabs between the columns.*found commas"),
        (
            {"a.inter": "user_id:token\titem_id_list:token_seq\titem_id:token\n1\t2 3\t4\n"},
            {"timestamp": "", "item": "item_id_list"},
            "a field `item_id_list` with one value.*histories in one field",
        ),
        ({"a.inter": INTER + "1\t2\t3\t978300760\n"}, {"user": "session_id"}, "a field `session_id` with one value"),
        ({"a.inter": INTER + "1\t2\tx\t978300760\n"}, {"min_rating": 3}, "a number in `rating`.*row 1: x"),
        ({"a.csv": "x"}, {}, "one file `\\*.inter` of interactions; found none"),
        ({"a.inter": INTER, "b.inter": INTER}, {}, r"found \['a.inter', 'b.inter'\]"),
    ],
)
def test_other_files_than_recboles_are_refused(files, settings, message, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        _read(_write(tmp_path, files), "recbole", **settings)


HEAD = "user_id,history_item_title,item_title,history_item_id,item_id,history_item_sid,item_sid\n"


def _row(user: str, history: list[int], item: int) -> str:
    titles = [f"Item, {key}" for key in history]
    return f'{user},"{titles}","Item, {item}","{history}",{item},"[]",<a_1>\n'


def test_minionerecs_rows_are_joined_to_one_sequence_a_user(tmp_path) -> None:
    _write(
        tmp_path,
        {
            "train/Office.csv": HEAD + _row("A", [1], 2) + _row("A", [1, 2], 3) + _row("B", [5], 6),
            "valid/Office.csv": HEAD + _row("A", [2, 3], 4),  # of a long history only the last items
            "test/Office.csv": HEAD + _row("A", [3, 4], 3) + _row("B", [5], 6) + _row("C", [1, 2], 1),
            "info/Office.txt": "<a_1><b_2>\tBlue pen\t1\n<a_1><b_3>\tRed\tpen\t2\n<a_1>\tNever seen\t99\n",
        },
    )
    catalog = _read(tmp_path, "minionerec")
    assert [(user, item) for user, item, _ in _events(catalog)] == [
        *(("A", item) for item in "12343"),
        ("B", "5"),
        ("B", "6"),
        *(("C", item) for item in "121"),
    ]
    assert not catalog.has_timestamps
    parts = [None, "train", "train", "valid", "test", None, "train test", None, None, "test"]
    assert catalog.events["part"].to_list() == parts
    assert catalog.dropped["rows_repeated"] == 1
    titles = dict(catalog.items.select("item_key", "title").iter_rows())
    assert titles == {
        "1": "Blue pen",
        "2": "Red pen",
        "99": "Never seen",
        "3": "Item, 3",
        "4": "Item, 4",
        "6": "Item, 6",
    }


def _publish(folder: Path, sequences: list[list[int]], seconds: list[list[int]]) -> Path:
    """Write histories as MiniOneRec does: windows of ten items, all users' rows in the order of time, cut 8:1:1."""
    rows = [
        (seconds[user][end], f"A{user}", items[max(end - 10, 0) : end], items[end])
        for user, items in enumerate(sequences)
        for end in range(1, len(items))
    ]
    rows.sort(key=lambda row: row[0])
    lines = [_row(*row[1:]) for row in rows]
    bounds = [0, int(len(lines) * 0.8), int(len(lines) * 0.9), len(lines)]
    parts = {
        f"{part}/Office_5_2016.csv": HEAD + "".join(lines[start:end])
        for part, start, end in zip(("train", "valid", "test"), bounds, bounds[1:], strict=False)
    }
    return _write(folder, parts)


def _ingested(folder: Path, **changes: object):
    settings = {"min_user_events": 1, "min_item_events": 1, "sorted_sequences": "accept"}
    return ingest(IngestParams.model_validate(settings | {"source": "minionerec", "path": str(folder), **changes}))


def test_minionerecs_parts_are_the_split_that_its_protocol_gives_with_a_clock(tmp_path) -> None:
    """Users with up to 25 events, repeats among them, so that published windows lose the start of histories."""
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, 30, draw.integers(2, 26)).tolist() for _ in range(40)]
    seconds = [np.sort(draw.choice(10_000, len(items), replace=False)).tolist() for items in sequences]
    catalog = _ingested(_publish(tmp_path, sequences, seconds))
    users = [int(key[1:]) for key in catalog.users["user_key"]]
    made = split_interactions(catalog.interactions, 40, SplitParams(method="published"), no_repeats=False)
    times = [second for user in users for second in seconds[user]]
    with_clock = catalog.interactions.drop("part").with_columns(timestamp=pl.Series(times))
    expected = split_interactions(with_clock, 40, SplitParams(method="sample_ratio"), no_repeats=False)
    assert made.sequences["items"].to_list() == expected.sequences["items"].to_list()
    assert made.sequences["train_end"].to_list() == expected.sequences["train_end"].to_list()
    assert made.queries.equals(expected.queries)
    assert made.targets["item_id"].equals(expected.targets["item_id"])
    samples = sum(len(items) - 1 for items in sequences)
    assert made.report["queries_test"] == samples - int(samples * 0.9)
    assert catalog.report["published_targets"] == samples
    assert (catalog.report["published_targets_left_out"], catalog.warnings) == (0, [])


def test_published_targets_outside_of_the_core_are_counted_with_what_to_do(tmp_path) -> None:
    folder = _publish(tmp_path, [[1, 2, 3, 4], [1, 2, 3, 9], [1, 2, 3]], [[1, 2, 3, 4], [1, 2, 3, 9], [5, 6, 7]])
    catalog = _ingested(folder, min_item_events=2)
    assert (catalog.report["published_targets"], catalog.report["published_targets_left_out"]) == (8, 2)
    [warning] = [line for line in catalog.warnings if "published" in line]
    assert warning.startswith("2 of the 8 published targets are not in the catalogue")
    assert "ingest.min_item_events: 1" in warning


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"train.csv": HEAD + _row("A", [1], 2) + _row("A", [7], 8)}, {}, "another history of user A in row 2"),
        ({"train.csv": "user_id,item_id\nA,1\n"}, {}, "expected the columns user_id, history_item_id, item_id"),
        ({"train.csv": HEAD + 'A,[],x,"__import__(1)",2,[],s\n'}, {}, r"a list like \[1, 2\].*row 1"),
        ({"train/a.csv": HEAD, "train/b.csv": HEAD}, {}, "one CSV file of train.*ingest.minionerec.name"),
        ({"other.csv": HEAD}, {}, "CSV files `\\*.csv` in the folders train, valid, test"),
        (
            {"train.csv": HEAD + _row("A", [1], 2), "info.txt": "no tabs\n"},
            {},
            "separated by tabs; found 1 fields in line 1",
        ),
        (
            {"train.csv": HEAD + _row("A", [1], 2), "info.txt": "<a_1>\tPen\t1\r<a_2>\tInk\t2\r"},
            {},
            "a line feed; found carriage returns alone",
        ),
    ],
)
def test_other_files_than_minionerecs_are_refused(files, settings, message, tmp_path) -> None:
    with pytest.raises(InputError, match=message):
        _read(_write(tmp_path, files), "minionerec", **settings)


@pytest.mark.parametrize(
    ("name", "header", "message"),
    [
        (
            "interactions.csv",
            "user_id;item_id;timestamp",
            "commas between the columns.*found semicolons.*save it with commas",
        ),
        ("interactions.csv", "user_id\titem_id\ttimestamp", "found tabs.*rename it to interactions.tsv"),
        ("interactions.tsv", "user_id,item_id,timestamp", "found commas.*rename it to interactions.csv"),
        ("interactions.csv", "user_id|item_id|timestamp", "found vertical bars"),
    ],
)
def test_a_wrong_separator_is_named(name, header, message, tmp_path) -> None:
    sign = header[len("user_id")]
    with pytest.raises(InputError, match=message):
        _read(_write(tmp_path, {name: f"{header}\n1{sign}2{sign}1700000000\n"}), "files")


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("files", "interactions.csv"),
        ("movielens", "ratings.csv"),
        ("recbole", "a.inter"),
        ("sequences", "x.inter.json"),
    ],
)
def test_a_folder_that_is_named_like_a_file_is_named(source, folder, tmp_path) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=f"{folder}: expected a file; found a folder of that name"):
        _read(tmp_path, source)
