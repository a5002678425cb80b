"""New items get IDs from frozen codebooks; old items keep theirs."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import EMBEDDING, MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.cli.app import app
from sidflow.core.errors import InputError
from sidflow.features.modality import ModalityParams, make_modality
from sidflow.semantic_ids.assign import assign_ids, read_frozen_ids, semantic_id_table
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.gate import AssignParams, FrozenIds, assign_and_audit
from sidflow.serving.new_items import assign_new_ids

LARGE = np.array([[10, 10], [10, -10], [-10, 10], [-10, -10]], dtype=np.float32)
VALUES = (LARGE[:, None, :] + LARGE[None, :, :] / 10).reshape(16, 2)


def catalogue(keys):
    fields = {"title": "", "description": "", "brand": "", "categories": [], "attributes": [], "in_core": True}
    rows = [{"item_id": row, "item_key": key, **fields} for row, key in enumerate(keys)]
    schema = {
        "item_id": pl.Int32,
        "categories": pl.List(pl.String),
        "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
    }
    return pl.DataFrame(rows, schema_overrides=schema)


@pytest.fixture
def old(tmp_path, monkeypatch):
    """An earlier run of eight items, k0 to k7, in a folder beside the workspace."""
    (tmp_path / "earlier").mkdir()
    (tmp_path / "now").mkdir()
    monkeypatch.chdir(tmp_path / "earlier")
    arrays = {
        "codebooks.text": np.stack([LARGE, LARGE / 10]),
        "mean.text": np.zeros(2, dtype=np.float32),
        "scale.text": np.ones(1, dtype=np.float32),
    }
    QUANTIZER.write(arrays, {"modalities": {"text": {"codes": [4, 4], "items": 8}}, "order": ["text"]})
    codec = Codec(QUANTIZER.read(), "text")
    values = np.concatenate([VALUES[:7], VALUES[:1] + 0.01])  # k7 shares the codes of k0: suffix 1
    SEMANTIC_IDS.write(semantic_id_table({"text": assign_ids(codec, values, np.ones(8, dtype=bool))}, 2))
    ITEMS.write(catalogue([f"k{i}" for i in range(8)]))
    write_modality(values, ModalityParams(source=Path("x"), normalise="none"))
    monkeypatch.chdir(tmp_path / "now")
    return tmp_path / "earlier" / "artifacts"


def write_modality(values, settings):
    """Write the modality `text` as its stage does."""
    made = make_modality(values, np.ones(len(values), dtype=bool), len(values), settings)
    metadata = {"params": settings.model_dump(mode="json"), "width": made.transform.width}
    MODALITY.write({"values": made.values, "present": made.present, **made.transform.arrays()}, metadata, name="text")
    return made


def workspace():
    """The catalogue has grown, and dense ids have moved: new items first, old ones reversed, one absent."""
    keys = ["a0", "a1", *(f"k{i}" for i in reversed(range(8)))]
    values = np.concatenate([VALUES[:1] - 0.01, VALUES[9:10], VALUES[7::-1] + 0.3]).astype(np.float32)
    present = np.ones(10, dtype=bool)
    present[3] = False
    ITEMS.write(catalogue(keys))
    EMBEDDING.write({"values": values * present[:, None], "present": present}, {}, name="text")
    Path("params.yaml").write_text("modality: {text: {source: artifacts/embeddings/text.safetensors}}\n")
    return keys, values * present[:, None], present


def run(*arguments):
    return CliRunner().invoke(app, ["assign-new", *map(str, arguments)])


def as_rows(frame):
    return {
        key: (list(codes), suffix) for key, codes, suffix in frame.select("item_key", "codes", "suffix").iter_rows()
    }


def test_frozen_ids_stay_and_new_items_get_the_nearest(old, tmp_path):
    workspace()
    done = run(old, "--out", "ids.parquet")
    assert done.exit_code == 0, done.output
    assert "text: 2 new items, 8 with an ID already" in done.output
    found = pl.read_parquet("ids.parquet")
    before, after = as_rows(read_frozen_ids(old)), as_rows(found)
    assert {key: after[key] for key in before} == before
    assert after["a0"] == ([0, 0], 2) and after["a1"] == ([2, 1], 0)  # k0 and k7 have suffixes 0 and 1
    assert found.filter("new")["item_key"].to_list() == ["a0", "a1"]


def test_new_items_are_projected_as_those_that_were_quantized(old):
    """The rows have a third dimension that is not quantized."""
    arrays, metadata = QUANTIZER.read_from(old / "quantizer/quantizer.safetensors")
    projection = {"projection.text": np.eye(3, 2, dtype=np.float32)}
    path = QUANTIZER.write(arrays | projection, {key: metadata[key] for key in ("modalities", "order")})
    (old / "quantizer/quantizer.safetensors").write_bytes(path.read_bytes())
    wide = np.concatenate([VALUES[9:10], [[100.0]]], 1).astype(np.float32)
    write_modality(wide, ModalityParams(source=Path("x"), normalise="none"))
    (old / "modalities/text.safetensors").write_bytes(MODALITY.at(name="text").read_bytes())
    frame = pl.DataFrame({"item_key": ["a1"], "vector": wide.tolist()})
    narrow = pl.DataFrame({"item_key": ["a1"], "vector": VALUES[9:10].tolist()})
    row = assign_new_ids(old, {"text": frame}).filter("new").row(0, named=True)
    assert row["codes"] == Codec(QUANTIZER.read(), "text").quantize(VALUES[9:10].astype(float))[0].tolist()
    with pytest.raises(InputError, match="vectors of 3 dimensions, as the encoder of that run writes them; found 2"):
        assign_new_ids(old, {"text": narrow})


@pytest.mark.parametrize(
    "settings", [{"normalise": "scale"}, {"normalise": "length", "dim": 1}, {"normalise": "whiten"}]
)
def test_new_items_are_normalised_as_those_of_the_earlier_run(old, settings):
    """The codes of the earlier run's own items come out again, whatever other items stand beside them."""
    values = np.random.default_rng(3).normal([5, -2], [3, 1], (40, 2)).astype(np.float32)
    earlier = write_modality(values, ModalityParams(source=Path("x"), **settings))
    width = earlier.values.shape[1]
    arrays = {
        "codebooks.text": np.random.default_rng(4).normal(size=(2, 4, width)).astype(np.float32),
        "mean.text": np.zeros(width, dtype=np.float32),
        "scale.text": np.ones(1, dtype=np.float32),
    }
    path = QUANTIZER.write(arrays, {"modalities": {"text": {"codes": [4, 4], "items": 40}}, "order": ["text"]})
    (old / "quantizer/quantizer.safetensors").write_bytes(path.read_bytes())
    (old / "modalities/text.safetensors").write_bytes(MODALITY.at(name="text").read_bytes())
    known = Codec(QUANTIZER.read(), "text").quantize(earlier.values.astype(float))
    others = np.full((3, 2), 90, dtype=np.float32)
    keys = [f"new{i:02}" for i in range(43)]
    frame = pl.DataFrame({"item_key": keys, "vector": np.concatenate([values, others]).tolist()})
    ids = assign_new_ids(old, {"text": frame}).filter("new")
    assert ids["codes"].to_list()[:40] == known.tolist()
    grown = np.concatenate([values, others])
    frozen = ModalityParams(source=Path("x"), frozen_from=old / "modalities/text.safetensors", **settings)
    kept = make_modality(grown, np.ones(43, dtype=bool), 43, frozen)
    np.testing.assert_array_equal(kept.values[:40], earlier.values)
    refitted = make_modality(grown, np.ones(43, dtype=bool), 43, ModalityParams(source=Path("x"), **settings))
    assert np.abs(refitted.values[:40] - earlier.values).max() > 0.1


def test_vectors_may_come_from_a_file(old):
    pl.DataFrame({"item_key": ["b", "k1"], "vector": [[9.0, 9.2], [0.0, 0.0]]}).write_parquet("new.parquet")
    assert run(old, "--out", "ids.parquet", "--vectors", "text=new.parquet").exit_code == 0
    after = as_rows(pl.read_parquet("ids.parquet"))
    assert after["b"] == ([0, 3], 1) and after["k1"] == as_rows(read_frozen_ids(old))["k1"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0, 3.0]], "vectors of `text`: expected vectors of 2 dimensions"),
        ([[float("nan"), 1.0]], "finite vectors"),
        (["words"], "item_key and vector"),
    ],
)
def test_bad_vectors_are_one_line(old, vectors, message):
    pl.DataFrame({"item_key": ["b"] * len(vectors), "vector": vectors}).write_parquet("new.parquet")
    done = run(old, "--out", "ids.parquet", "--vectors", "text=new.parquet")
    assert done.exit_code == 2 and message in done.output and len(done.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["b", None], "text or a whole number as key (`item_key`), in every row; found null in row 2"),
        (["b", " b"], "one row per item; found items with several (1 affected), for example 'b'"),
    ],
)
def test_keys_of_vectors_are_keys(old, keys, message):
    pl.DataFrame({"item_key": keys, "vector": [[9.0, 9.2]] * 2}).write_parquet("new[1].parquet")
    done = run(old, "--out", "ids.parquet", "--vectors", "text=new[1].parquet")
    assert done.exit_code == 2 and message in done.output and len(done.output.splitlines()) == 1


@pytest.mark.parametrize(("keys", "found"), [(["b", None], "null in row 2"), ([" ", "b"], '" " in row 1')])
def test_keys_of_frames_are_keys(old, keys, found):
    frame = pl.DataFrame({"item_key": keys, "vector": [[9.0, 9.2]] * 2})
    with pytest.raises(InputError, match=f"^vectors of `text`: .*`item_key`.*found {found}"):
        assign_new_ids(old, {"text": frame})
    spaced = assign_new_ids(old, {"text": frame.with_columns(item_key=pl.Series([" k1", "b "]))})
    assert spaced.filter("new")["item_key"].to_list() == ["b"]


def test_an_item_stands_once_in_a_frame(old):
    frame = pl.DataFrame({"item_key": ["a", "b", "b "], "vector": [[9.0, 9.2]] * 3})
    with pytest.raises(InputError, match=r"^vectors of `text`: .*found items with several \(1 affected\).*'b'"):
        assign_new_ids(old, {"text": frame})


def test_a_modality_has_one_file(old):
    for key in ("a", "b"):
        pl.DataFrame({"item_key": [key], "vector": [[9.0, 9.2]]}).write_parquet(f"{key}.parquet")
    done = run(old, "--out", "ids.parquet", "--vectors", "text=a.parquet", "--vectors", "text=b.parquet")
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1
    assert "--vectors: expected one file for each modality; found 2 for text" in done.output


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64), pl.Array(pl.Float64, 2)])
def test_an_item_without_a_vector_is_named(old, dtype):
    frame = pl.DataFrame({"item_key": ["a", "b"], "vector": pl.Series([[9.0, 9.2], None], dtype=dtype)})
    with pytest.raises(InputError, match=r"expected finite vectors; .*for example 'b'"):
        assign_new_ids(old, {"text": frame})
    ids = assign_new_ids(old, {"text": frame.head(1)})
    assert as_rows(ids)["a"] == ([0, 3], 1)


def test_whole_floats_as_keys_of_vectors_are_integers(old):
    pl.DataFrame({"item_key": [7.0], "vector": [[9.0, 9.2]]}).write_parquet("new[1].parquet")
    pl.DataFrame({"item_key": [8.0], "vector": [[9.0, 9.2]]}).write_parquet("new1.parquet")
    assert run(old, "--out", "ids.parquet", "--vectors", "text=new[1].parquet").exit_code == 0
    assert pl.read_parquet("ids.parquet").filter("new")["item_key"].to_list() == ["7"]


def test_no_new_items_and_whole_numbers_as_keys(old):
    before = as_rows(read_frozen_ids(old))
    none = pl.DataFrame(schema={"item_key": pl.String, "vector": pl.Array(pl.Float32, 2)})
    assert as_rows(assign_new_ids(old, {"text": none})) == before
    numbered = pl.DataFrame({"item_key": [7], "vector": [[9.0, 9.2]]})
    assert as_rows(assign_new_ids(old, {"text": numbered})) == before | {"7": ([0, 3], 1)}
    with pytest.raises(InputError, match="the columns item_key and vector"):
        assign_new_ids(old, {"text": numbered.drop("item_key")})


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("text", "expected MODALITY=FILE; found text"),
        ("text=nowhere.parquet", "expected a Parquet file nowhere.parquet; found no such file"),
        ("text=.", "found a folder of that name"),
    ],
)
def test_a_missing_file_is_one_line(old, argument, said):
    done = run(old, "--out", "ids.parquet", "--vectors", argument)
    assert done.exit_code == 2 and said in done.output and len(done.output.splitlines()) == 1


def test_a_modality_that_the_quantizer_does_not_know_is_one_line(old):
    pl.DataFrame({"item_key": ["b"], "vector": [[9.0, 9.2]]}).write_parquet("new.parquet")
    done = run(old, "--out", "ids.parquet", "--vectors", "image=new.parquet")
    assert done.exit_code == 2 and "expected a modality of the quantizer: text; found image" in done.output


def test_an_earlier_run_that_is_not_there(tmp_path):
    done = run(tmp_path / "nowhere", "--out", tmp_path / "ids.parquet")
    assert done.exit_code == 2 and "no such file" in done.output


def test_the_stage_keeps_frozen_ids_too(old):
    keys, values, present = workspace()
    quantizer = QUANTIZER.read_from(old / "quantizer" / "quantizer.safetensors")
    content = {"text": {"values": values, "present": present}}
    result = assign_and_audit(quantizer, content, AssignParams(), None, None, FrozenIds(keys, read_frozen_ids(old)))
    now = result.table.join(
        pl.DataFrame({"item_id": range(10), "item_key": keys}, schema_overrides={"item_id": pl.Int32}), on="item_id"
    )
    before, after = as_rows(read_frozen_ids(old)), as_rows(now)
    assert {key: before[key] for key in after if key in before} == {key: after[key] for key in after if key in before}
    assert set(keys) - set(after) == {keys[3]} and after["a0"] == ([0, 0], 2)
    assert result.audit["items_text"] == 9
