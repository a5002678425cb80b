"""Every published form, written by hand in small, read back; what is wrong is told in one line."""

import gzip
import json

import polars as pl
import pytest

from sidflow.catalog.ingest import ingest, read_source
from sidflow.catalog.params import IngestParams
from sidflow.core.errors import InputError


def params(path, source, **rest):
    return IngestParams.model_validate(
        {"source": source, "path": str(path), "min_user_events": 1, "min_item_events": 1, **rest}
    )


def histories(catalog):
    joined = catalog.interactions.join(catalog.users, on="user_id").join(catalog.items, on="item_id")
    joined = joined.sort("user_id", "position")
    return {key[0]: rows["item_key"].to_list() for key, rows in joined.group_by("user_key", maintain_order=True)}


def write_lines(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.mark.parametrize("form", ["letter", "lines", "jsonl"])
def test_sequences_of_every_form_say_the_same(tmp_path, form):
    wanted = {"7": ["30", "4", "30"], "12": ["4"]}
    if form == "letter":
        (tmp_path / "Toys.inter.json").write_text(json.dumps({"7": [30, 4, 30], "12": [4]}))
        (tmp_path / "Toys.item.json").write_text(json.dumps({"4": {"title": "A &amp; B", "categories": "x, y"}}))
    elif form == "lines":
        (tmp_path / "Toys.txt").write_text("7 30 4 30\n12 4\n\n")
        (tmp_path / "README.txt").write_text("about")
    else:
        write_lines(tmp_path / "sequences.jsonl", [{"user": 7, "items": [30, 4, 30]}, {"user": 12, "items": [4]}])
        write_lines(tmp_path / "items.jsonl", [{"item": 4, "title": "A & B"}, {"item": 99, "title": "lonely"}])
    catalog = ingest(params(tmp_path, "sequences"))
    assert histories(catalog) == wanted
    assert catalog.report["timestamps_known"] == 0
    assert catalog.interactions["timestamp"].to_list() == catalog.interactions["position"].to_list()
    if form != "lines":
        assert catalog.items["title"].to_list()[0] == "A & B"
    if form == "letter":
        assert catalog.items["categories"].to_list()[0] == ["x", "y"]
    if form == "jsonl":
        assert catalog.items["in_core"].to_list() == [True, True, False]


def test_words_that_are_no_mapping_are_told(tmp_path):
    (tmp_path / "Toys.inter.json").write_text('{"7": [30, 4]}')
    (tmp_path / "Toys.item.json").write_text('[{"item": 4, "title": "A"}]')
    with pytest.raises(InputError, match=r"Toys\.item\.json: expected \{item: \{title"):
        read_source(params(tmp_path, "sequences"))


def test_the_three_amazon_forms_say_the_same(tmp_path):
    old = [{"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 100, "reviewText": "t\nu"}]
    old.append({"reviewerID": "A", "asin": "W", "overall": 1.0, "unixReviewTime": 90})
    new = [
        {"user_id": row["reviewerID"], "parent_asin": row["asin"], "asin": "variant", "rating": row["overall"]}
        | {"timestamp": row["unixReviewTime"] * 1000 + 7}
        for row in old
    ]
    meta = {"asin": "X", "title": "Soap", "description": "d", "categories": [["Beauty", "Bath"]], "brand": "B"}
    for name, reviews in (("2014", old), ("2018", old), ("2023", new)):
        folder = tmp_path / name
        folder.mkdir()
        ending = ".json.gz" if name == "2014" else ".jsonl"
        write_lines(folder / f"Beauty{ending}", reviews)
        if name == "2014":
            (folder / "meta_Beauty.json").write_text(repr(meta) + "\n")
        elif name == "2018":
            write_lines(folder / "meta_Beauty.json.gz", [meta | {"categories": None, "category": ["Beauty", "Bath"]}])
        else:
            write_lines(folder / "meta_Beauty.jsonl", [meta | {"parent_asin": "X", "categories": ["Beauty", "Bath"]}])
        catalog = ingest(params(folder, "amazon"))
        assert histories(catalog) == {"A": ["W", "X"]}, name
        assert catalog.interactions["timestamp"].to_list() == [90, 100]
        soap = catalog.items.filter(pl.col("item_key") == "X").row(0, named=True)
        assert (soap["title"], soap["brand"], soap["categories"]) == ("Soap", "B", ["Beauty", "Bath"])
        liked = ingest(params(folder, "amazon", amazon={"min_rating": 4}))
        assert histories(liked) == {"A": ["X"]}


def test_broken_review_lines_are_counted(tmp_path):
    good = {"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 1}
    (tmp_path / "Beauty.json").write_text(json.dumps(good) + "\n{broken\n" + json.dumps(good | {"asin": "Y"}))
    catalog = ingest(params(tmp_path, "amazon"))
    assert catalog.report["reviews_bad_lines"] == 1
    assert catalog.report["interactions"] == 2


def test_separators_inside_a_review_do_not_end_its_line(tmp_path):
    row = {"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 1, "reviewText": "a\u2028b\u2029c\u0085d"}
    line = json.dumps(row, ensure_ascii=False)
    (tmp_path / "Beauty.json").write_text(line + "\n{broken\n" + line.replace('"X"', '"Y"'), encoding="utf-8")
    catalog = ingest(params(tmp_path, "amazon"))
    assert (catalog.report["reviews_bad_lines"], catalog.report["interactions"]) == (1, 2)


def test_python_literals_of_metadata_run_no_code(tmp_path):
    write_lines(tmp_path / "B.json", [{"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 1}])
    evil = "{'asin': 'X', 'title': __import__('pathlib').Path('%s').touch()}" % (tmp_path / "ran")
    (tmp_path / "meta_B.json").write_text(evil + "\n{'asin': 'X', 'title': 'fine'}\n")
    catalog = ingest(params(tmp_path, "amazon"))
    assert not (tmp_path / "ran").exists()
    assert catalog.report["metadata_bad_lines"] == 1
    assert catalog.items["title"].to_list() == ["fine"]


def test_movielens(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,4.0,50\n1,9,1.0,40\n2,10,5.0,60\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n9,"Net, The (1995)",Action|Crime\n10,Heat (1995),(no genres listed)\n'
    )
    write_lines(
        tmp_path / "details.jsonl", [{"movieId": 9, "plot": "A net.", "director": "N/A", "language": "English"}]
    )
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters/10.jpg").write_bytes(b"broken")
    catalog = ingest(params(tmp_path, "movielens"))
    assert histories(catalog) == {"1": ["9", "10"], "2": ["10"]}
    net = catalog.items.row(0, named=True)
    assert (net["title"], net["description"], net["categories"]) == ("The Net", "A net.", ["Action", "Crime"])
    assert {one["name"]: one["value"] for one in net["attributes"]} == {"language": "English", "year": "1995"}
    assert catalog.items["categories"].to_list()[1] == []
    assert catalog.report["pictures_broken"] == 1
    shown = ingest(params(tmp_path, "movielens", movielens={"require_poster": True}, outside_core="seen"))
    assert histories(shown) == {"1": ["10"], "2": ["10"]}
    assert shown.items["item_key"].to_list() == ["10"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_with_a_column_mapping(tmp_path, suffix):
    events = pl.DataFrame({"who": ["b", "a", "b"], "what": ["x", "y", "y"], "at": [3000, 2000, 1000]})
    items = pl.DataFrame({"what": ["y", "x"], "name": ["<i>Why</i>", None], "kind": ["a|b", ""]})
    for name, frame in (("interactions", events), ("items", items)):
        path = tmp_path / f"{name}.{suffix}"
        frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    mapping = {"user": "who", "item": "what", "timestamp": "at", "timestamp_unit": "ms", "title": "name"}
    catalog = ingest(params(tmp_path, "files", files=mapping | {"categories": "kind"}))
    assert histories(catalog) == {"a": ["y"], "b": ["y", "x"]}
    assert catalog.interactions["timestamp"].to_list() == [2, 1, 3]
    assert catalog.items["title"].to_list() == ["", "Why"]
    assert catalog.items["categories"].to_list() == [[], ["a", "b"]]
    blind = ingest(params(tmp_path, "files", files=mapping | {"categories": "kind", "timestamp": ""}))
    assert histories(blind) == {"a": ["y"], "b": ["x", "y"]}
    assert blind.report["timestamps_known"] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("who,what,at\na,x,1\n", "column `user_id`"),
        ("user_id,item_id,timestamp\na,x,1\n,y,2\n", "row 2"),
        ("user_id,item_id,timestamp\na,x,soon\n", "soon"),
        ("user_id,item_id,timestamp\na,x,1\na,y,soon\na,z,3\n", "1 affected.*row 2: soon"),
        ("user_id,item_id,timestamp\na,x,1\na,y,1600000000000\n", "row 2: 1600000000000.*timestamp_unit"),
        ("user_id,item_id,timestamp\na,x,1\na,y,99999999999999999999\n", "years 1970 to 2099"),
        ("user_id,item_id,timestamp\na,x,1\na,y,2,3\n", "3 fields in every row.*4 fields in row 2"),
        ('user_id,item_id,timestamp\na,"x,1\na,y,2\n', "quoted fields that are closed.*row 1"),
    ],
)
def test_bad_tables_are_told_by_name(tmp_path, text, says):
    (tmp_path / "interactions.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_source(params(tmp_path, "files"))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("user_id", [1.0, float("nan")], "whole number.*NaN in row 2"),
        ("item_id", [[1], [2]], r"text or a whole number.*List\(Int64\)"),
        ("timestamp", [True, False], "a number, date or ISO time"),
        ("timestamp", pl.Series([1, 2**63], dtype=pl.UInt64), "years 1970 to 2099"),
    ],
)
def test_columns_of_other_kinds_are_told_by_name(tmp_path, column, values, says):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": ["x", "y"], "timestamp": [1, 2]})
    frame.with_columns(pl.Series(column, values)).write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(InputError, match=says):
        read_source(params(tmp_path, "files"))


def test_keys_that_were_saved_as_whole_floats_are_integers(tmp_path):
    frame = pl.DataFrame({"user_id": [1.0, 2.0], "item_id": [7.0, 8.0], "timestamp": [1.5, 2.0]})
    frame.write_parquet(tmp_path / "interactions.parquet")
    assert histories(ingest(params(tmp_path, "files"))) == {"1": ["7"], "2": ["8"]}


def test_keys_of_the_item_table_are_those_of_events(tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [7, 8], "timestamp": [1, 2]})
    frame.write_parquet(tmp_path / "interactions.parquet")
    items = pl.DataFrame({"item_id": [7.0, 8.0], "title": ["Seven", "Eight"]})
    items.write_parquet(tmp_path / "items.parquet")
    catalog = ingest(params(tmp_path, "files", files={"title": "title"}))
    assert catalog.items["item_key"].to_list() == ["7", "8"]
    assert catalog.items["title"].to_list() == ["Seven", "Eight"]
    for bad, says in ((None, "in every row.*null in row 2"), (8.5, "whole number.*8.5 in row 2")):
        items.with_columns(pl.Series("item_id", [7.0, bad])).write_parquet(tmp_path / "items.parquet")
        with pytest.raises(InputError, match=says):
            read_source(params(tmp_path, "files"))


def test_iso_times_are_seconds_utc(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\na,x,2020-01-01T00:00:01Z\n")
    assert ingest(params(tmp_path, "files")).interactions["timestamp"].to_list() == [1577836801]


def test_sequences_under_two_usual_names_are_an_error_that_names_both(tmp_path):
    (tmp_path / "Toys.txt").write_text("7 30 4\n")
    write_lines(tmp_path / "sequences.jsonl", [{"user": 7, "items": [4, 30]}])
    with pytest.raises(InputError, match=r"\['Toys.txt', 'sequences.jsonl'\].*ingest\.sequences\.sequences"):
        read_source(params(tmp_path, "sequences"))
    catalog = ingest(params(tmp_path, "sequences", sequences={"sequences": "Toys.txt"}))
    assert histories(catalog) == {"7": ["30", "4"]}
    (tmp_path / "Toys.item.json").write_text('{"4": {"title": "A"}}')
    write_lines(tmp_path / "items.jsonl", [{"item": 4, "title": "B"}])
    with pytest.raises(InputError, match=r"\['Toys.item.json', 'items.jsonl'\].*ingest\.sequences\.items"):
        read_source(params(tmp_path, "sequences", sequences={"sequences": "Toys.txt"}))


@pytest.mark.parametrize(
    ("source", "own", "says"),
    [
        ("files", {"items": "product.csv"}, r"one file `product\.csv` of items; found none.*ingest\.files\.items"),
        ("files", {"images": "pics"}, "a folder `pics` of pictures.*no such folder"),
        ("files", {"images": "empty"}, "a folder `empty` of pictures.*found none in it"),
        ("files", {"interactions": ""}, r"the name of the file of interactions.*ingest\.files\.interactions"),
        ("files", {"interactions": "**.csv"}, "a pattern of file names"),
        ("amazon", {"metadata": "product*"}, r"files `product\*` of metadata; found none"),
        ("amazon", {"images": "pics"}, "a folder `pics`"),
        ("sequences", {"images": "pics"}, "a folder `pics`"),
        ("movielens", {"posters": "pics"}, "a folder `pics`"),
        ("movielens", {"details": "plots.jsonl"}, r"a file plots\.jsonl \(ingest\.movielens\.details names it\)"),
    ],
)
def test_what_a_user_names_must_be_there(tmp_path, source, own, says):
    write_raw(tmp_path)
    with pytest.raises(InputError, match=says):
        read_source(params(tmp_path, source, **{source: own}))


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("files", {}),
        ("files", {"items": "", "images": ""}),
        ("amazon", {"metadata": "", "images": ""}),
        ("sequences", {"items": "", "images": ""}),
        ("movielens", {"details": "", "posters": ""}),
    ],
)
def test_what_nobody_names_may_be_absent(tmp_path, source, own):
    write_raw(tmp_path)
    assert read_source(params(tmp_path, source, **{source: own})).events.height == 1


def write_raw(folder):
    """Write one event in the form of each source, and an empty folder."""
    (folder / "empty").mkdir()
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\na,x,1\n")
    write_lines(folder / "B.json", [{"reviewerID": "A", "asin": "X", "overall": 5.0, "unixReviewTime": 1}])
    (folder / "s.txt").write_text("1 2\n")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,4.0,50\n")
    (folder / "movies.csv").write_text("movieId,title,genres\n10,Heat (1995),Crime\n")


def test_an_absent_path_and_an_empty_core_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="preset apply"):
        read_source(params(tmp_path / "absent", "sequences"))
    (tmp_path / "s.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match="min_user_events"):
        ingest(params(tmp_path, "sequences", min_user_events=9))


def test_the_core_comes_first_and_ids_follow_keys(tmp_path):
    (tmp_path / "s.txt").write_text("2 100 20 3\n10 100 20 5\n1 20 100 20\n")
    catalog = ingest(params(tmp_path, "sequences", min_item_events=2))
    assert catalog.users["user_key"].to_list() == ["1", "2", "10"]
    assert catalog.items["item_key"].to_list() == ["20", "100", "3", "5"]
    assert catalog.items["in_core"].to_list() == [True, True, False, False]
    assert histories(catalog)["10"] == ["100", "20"]


def test_dropping_items_makes_new_neighbours_which_are_dropped_too(tmp_path):
    (tmp_path / "s.txt").write_text("1 8 9 8 7\n2 8 7\n3 7 8\n")
    catalog = ingest(params(tmp_path, "sequences", min_item_events=2, repeats="drop_consecutive"))
    assert histories(catalog)["1"] == ["8", "7"]
