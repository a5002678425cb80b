"""Parquet columns of every type, and damaged Parquet files: read right, or refused in one line without a traceback."""

import datetime
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.catalog.reading import readable_table
from sidflow.core.errors import InputError

START = 1_577_836_800  # 2020-01-01
EVENTS = {
    "user_id": pa.array(["u", "u", "v"]),
    "item_id": pa.array(["x", "y", "x"]),
    "timestamp": pa.array([START, START + 1, START + 2]),
}
ITEMS = {"item_id": pa.array(["x", "y", "z"]), "title": pa.array(["A", "B", "C"])}
SECONDS = pa.array([START, START + 1, START + 2])
NO_KEYS = {
    "binary": pa.array([b"a", b"b", b"c"]),
    "decimal": pa.array([1, 2, 3]).cast(pa.decimal128(20, 0)),
    "list": pa.array([["a"], ["b"], ["c"]]),
    "struct": pa.array([{"a": 1}, {"a": 2}, {"a": 3}]),
    "map": pa.array([[("k", 1)], [("l", 2)], [("m", 3)]], pa.map_(pa.string(), pa.int64())),
    "null": pa.nulls(3),
    "bool": pa.array([True, False, True]),
    "time of day": pa.array([datetime.time(1), datetime.time(2), datetime.time(3)]),
    "duration": pa.array([datetime.timedelta(1)] * 3),
    "date": pa.array([datetime.date(2020, 1, day) for day in (1, 2, 3)]),
    "short float": pa.array([2.0**24 + 2, 2.0**24 + 4, 1.0], pa.float32()),
}
KEYS = {
    "dictionary": (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y"]),
    "dictionary of numbers": (pa.array([7, 8, 7]).dictionary_encode(), ["7", "8"]),
    "large text": (pa.array(["x", "y", "x"], pa.large_string()), ["x", "y"]),
    "view": (pa.array(["x", "y", "x"], pa.string_view()), ["x", "y"]),
    "uint64": (pa.array([2**63, 5, 2**63], pa.uint64()), ["5", "9223372036854775808"]),
    "half float": (pa.array([1.0, 2.0, 1.0], pa.float16()), ["1", "2"]),
}


def ingest_files(folder, events=None, items=None, **files):
    pq.write_table(pa.table(EVENTS | (events or {})), folder / "interactions.parquet")
    if items:
        pq.write_table(pa.table(ITEMS | items), folder / "items.parquet")
    settings = {"source": "files", "path": str(folder), "min_user_events": 1, "min_item_events": 1, "files": files}
    return ingest(IngestParams.model_validate(settings))


@pytest.mark.parametrize("role", ["user_id", "item_id"])
@pytest.mark.parametrize("kind", NO_KEYS)
def test_a_column_that_holds_no_keys_is_refused(tmp_path, kind, role):
    with pytest.raises(InputError, match=f"interactions.parquet: expected text or a whole number as key .`{role}`"):
        ingest_files(tmp_path, {role: NO_KEYS[kind]})


@pytest.mark.parametrize("kind", KEYS)
def test_a_column_of_keys_is_read_in_each_type(tmp_path, kind):
    column, keys = KEYS[kind]
    assert ingest_files(tmp_path, {"item_id": column}).items["item_key"].to_list() == keys


@pytest.mark.parametrize("kind", sorted(NO_KEYS.keys() - {"date", "null", "short float"}))
def test_a_column_that_holds_no_times_is_refused(tmp_path, kind):
    with pytest.raises(InputError, match="a number, date or ISO time in every row of `timestamp`"):
        ingest_files(tmp_path, {"timestamp": NO_KEYS[kind]})


def test_floats_too_short_for_seconds_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a number that the column holds exactly.*floats of 64 bits"):
        ingest_files(tmp_path, {"timestamp": SECONDS.cast(pa.float32(), safe=False)})


@pytest.mark.parametrize("zone", ["+05:30", "UTC", "America/New_York", None])
def test_times_with_a_zone_are_seconds_utc(tmp_path, zone):
    catalog = ingest_files(tmp_path, {"timestamp": SECONDS.cast(pa.timestamp("s", zone))})
    assert catalog.interactions["timestamp"].to_list() == SECONDS.to_pylist()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10**7, 1, 2], pa.int32()).cast(pa.date32()),
        pa.array([2**62, 1, 2]).cast(pa.timestamp("ms")),
        pa.array([2**55, 1, 2]).cast(pa.timestamp("ms", "Europe/Berlin")),
    ],
    ids=["date", "time", "time with a zone"],
)
def test_dates_that_python_cannot_hold_are_refused(tmp_path, column):
    with pytest.raises(InputError, match=r"years 1970 to 2099.* since 1970"):
        ingest_files(tmp_path, {"timestamp": column})
    with pytest.raises(InputError, match="values that Python can hold"):
        ingest_files(tmp_path, items={"title": column})
    assert ingest_files(tmp_path, items={"unused": column}).items["title"].to_list() == ["A", "B", "C"]


def test_bytes_are_text_where_they_are_utf8(tmp_path):
    catalog = ingest_files(tmp_path, items={"title": pa.array(["é".encode(), None, b"C"])})
    assert catalog.items["title"].to_list() == ["é", "", "C"]
    with pytest.raises(InputError, match=r"items\.parquet: expected text in UTF-8 in column `title`.*row 2"):
        ingest_files(tmp_path, items={"title": pa.array([b"a", b"\xff", b"c"])})


class PanicException(BaseException):  # as pyo3 names and derives it
    pass


def test_a_panic_of_the_reader_is_an_error_of_one_line(tmp_path, capfd):
    path = tmp_path / "interactions.parquet"
    says = r"interactions\.parquet: expected a readable table.*found range out of bounds"
    with pytest.raises(InputError, match=says), readable_table(path):
        subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('thread panicked')"], check=True)
        raise PanicException("range out of bounds")
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "after\n"
    with pytest.raises(KeyboardInterrupt), readable_table(path):
        raise KeyboardInterrupt


@pytest.mark.parametrize("at", range(0, 90, 10))
def test_a_damaged_file_is_read_or_refused(tmp_path, at):
    ingest_files(tmp_path)
    path = tmp_path / "interactions.parquet"
    data = bytearray(path.read_bytes())
    for byte in range(len(data) * at // 100, len(data), 97):
        data[byte] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(InputError):
        ingest(IngestParams(source="files", path=str(tmp_path), min_user_events=1, min_item_events=1))


def test_damaged_vectors_are_refused(tmp_path):
    from sidflow.cli.serving import write_new_ids

    path = tmp_path / "new[1].parquet"
    pl.DataFrame({"item_key": ["a"], "vector": [[1.0]]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"new\[1\]\.parquet: expected a Parquet file with item_key and vector"):
        write_new_ids(tmp_path, tmp_path / "ids.parquet", [f"text={path}"])
