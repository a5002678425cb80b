import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidflow.core.errors import InputError
from sidflow.core.files import project_path, project_root
from sidflow.core.tables import Table, Vector, dense_ids

THINGS = Table(
    name="things",
    version=2,
    path="artifacts/{kind}/things.parquet",
    columns={"thing_id": pa.int32(), "word": pa.string(), "vector": Vector(pa.float32()), "gap": pa.float32()},
    key=("thing_id",),
    nullable=frozenset({"gap"}),
    checks=(dense_ids("thing_id"),),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def things(ids=(1, 0)):
    count = len(ids)
    return pl.DataFrame(
        {
            "thing_id": list(ids),
            "word": ["w"] * count,
            "vector": np.arange(3 * count, dtype=np.float32).reshape(count, 3),
            "gap": [None] * count,
        }
    )


def test_rows_come_back_sorted_by_key_with_their_types():
    THINGS.write(things(), kind="a")
    frame = THINGS.read(kind="a")
    assert frame["thing_id"].to_list() == [0, 1]
    assert frame["vector"].to_numpy().tolist() == [[3, 4, 5], [0, 1, 2]]
    assert frame.schema["thing_id"] == pl.Int32
    footer = json.loads(pq.read_schema("artifacts/a/things.parquet").metadata[b"sidflow"])
    assert footer == {"schema": "things", "version": 2}


def test_same_rows_in_another_order_are_the_same_bytes():
    first = THINGS.write(things((0, 1)), kind="a").read_bytes()
    assert THINGS.write(things((0, 1))[::-1], kind="b").read_bytes() == first


def test_some_columns_only():
    THINGS.write(things(), kind="a")
    assert THINGS.read(columns=["word"], kind="a").columns == ["word"]


def test_an_empty_table_keeps_its_schema():
    THINGS.write(THINGS.empty(4), kind="a")
    assert THINGS.read(kind="a").schema["vector"] == pl.Array(pl.Float32, 4)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (things().drop("word"), "missing ['word']"),
        (things().with_columns(x=pl.lit(1)), "unknown ['x']"),
        (things((1, 1)), "repeated keys (2 affected), for example (1,)"),
        (things((1, 2)), "dense from 0; found gaps (2 affected), for example 1"),
        (things().with_columns(word=pl.lit(None, pl.String)), "no nulls in word; found nulls (2 affected)"),
        (things().with_columns(thing_id=pl.lit("x")), "columns that cast"),
        (things().with_columns(vector=pl.lit(1.0)), "fixed-size arrays"),
    ],
)
def test_what_breaks_the_contract_is_not_written(frame, complaint, tmp_path):
    with pytest.raises(InputError) as caught:
        THINGS.write(frame, kind="a")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_reading_checks_presence_schema_version_and_order(tmp_path):
    with pytest.raises(InputError, match=r"no such file\. Remedy: run `dvc repro`"):
        THINGS.read(kind="a")
    path = THINGS.write(things(), kind="a")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"sidflow": b'{"schema": "things", "version": 1}'}), path)
    with pytest.raises(InputError, match=r"version 2; found things version 1"):
        THINGS.read(kind="a")
    pq.write_table(table.take([1, 0]), path)
    with pytest.raises(InputError, match="sorted"):
        THINGS.read(kind="a")
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match="a Parquet file"):
        THINGS.read(kind="a")


def test_a_table_with_a_damaged_page_is_told():
    path = THINGS.write(things(range(1000)), kind="a")
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)  # within the first column's pages; the footer is whole
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"things\.parquet: expected a Parquet file; found .* Remedy: delete it"):
        THINGS.read(kind="a")


def test_a_project_root_moves_every_artifact_and_ends_with_its_block(tmp_path):
    relative = THINGS.at(kind="a")
    with project_root(tmp_path):
        assert THINGS.at(kind="a") == tmp_path / relative
        assert project_path("/absolute") == Path("/absolute")
    assert THINGS.at(kind="a") == relative
