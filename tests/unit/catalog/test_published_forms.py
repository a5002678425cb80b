"""RecBole's atomic files and MiniOneRec's published histories; separators and folders that are not as named."""

from pathlib import Path

import pytest

from sidflow.catalog.ingest import read_source
from sidflow.catalog.params import IngestParams
from sidflow.core.errors import InputError


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
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
    ("files", "settings", "message"),
    [
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
    titles = dict(catalog.items.select("item_key", "title").iter_rows())
    assert titles == {
        "1": "Blue pen",
        "2": "Red pen",
        "99": "Never seen",
        "3": "Item, 3",
        "4": "Item, 4",
        "6": "Item, 6",
    }


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
