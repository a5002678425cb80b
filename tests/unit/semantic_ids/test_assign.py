"""Frozen IDs are kept only beside the codebooks that gave them."""

import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.assign import (
    KeyedVectors,
    ModalityIds,
    assign_ids,
    assign_ids_beside_frozen,
    check_codebooks_are_frozen,
    keep_frozen_ids,
    read_frozen_ids,
    semantic_id_table,
)
from sidflow.semantic_ids.codec import Codec

MAIN = runpy.run_path(str(Path(__file__).parents[3] / "stages/assign.py"))["main"]


def write_quantizer(**codebooks):
    arrays = {f"codebooks.{name}": np.full((2, 4, 3), value, dtype=np.float32) for name, value in codebooks.items()}
    described = {name: {"codes": [4, 4], "items": 1} for name in codebooks}
    QUANTIZER.write(arrays, {"modalities": described, "order": list(codebooks)})
    return QUANTIZER.read()


def write_items(*keys):
    fields = {"title": "", "description": "", "brand": "", "categories": [], "attributes": [], "in_core": True}
    schema = {
        "item_id": pl.Int32,
        "categories": pl.List(pl.String),
        "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
    }
    rows = [{"item_id": item, "item_key": key, **fields} for item, key in enumerate(keys)]
    ITEMS.write(pl.DataFrame(rows, schema_overrides=schema))


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    for name in ("earlier", "now"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "earlier")
    write_quantizer(text=1.0, image=2.0)
    monkeypatch.chdir(tmp_path / "now")
    return tmp_path / "earlier/artifacts"


def test_the_same_codebooks_are_taken_and_others_refused(earlier):
    check_codebooks_are_frozen(write_quantizer(text=1.0, image=2.0), earlier)
    check_codebooks_are_frozen(write_quantizer(text=1.0), earlier)
    check_codebooks_are_frozen(write_quantizer(text=1.0, sound=5.0), earlier)  # a modality without frozen IDs
    with pytest.raises(InputError, match=r"others \(1 affected\), for example 'codebooks.image'.*frozen_from"):
        check_codebooks_are_frozen(write_quantizer(text=1.0, image=3.0), earlier)
    with pytest.raises(InputError, match="no such file"):
        check_codebooks_are_frozen(write_quantizer(text=1.0), earlier / "nowhere")


def test_the_stage_refuses_other_codebooks(earlier, capsys):
    write_quantizer(text=9.0)
    MODALITY.write({"values": np.zeros((1, 3), np.float32), "present": np.ones(1, bool)}, {}, name="text")
    write_items("k")
    Path("params.yaml").write_text(f"preset: p\nmodality: {{text: {{}}}}\nassign: {{frozen_ids_from: {earlier}}}\n")
    with pytest.raises(SystemExit):
        MAIN()
    assert "expected the codebooks of" in capsys.readouterr().err


@pytest.mark.parametrize("suffixes", [[0, 1, 2], [2, 0, 1], [1, 2, 0], [7, 3, 5]])
def test_a_new_item_gets_a_suffix_above_all_frozen_ones_whatever_their_order(suffixes):
    """Three items share codes 1-0; two new ones fall on the same codes, a third on codes of its own."""
    far, near = [10.0, -10.0], [1.0, -1.0]
    arrays = {
        "codebooks.text": np.array([[[first] for first in far], [[second] for second in near]], dtype=np.float32),
        "mean.text": np.zeros(1, dtype=np.float32),
        "scale.text": np.ones(1, dtype=np.float32),
    }
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [2, 2]}}, "order": ["text"]}), "text")
    keys = ["new 1", "old 0", "old 1", "new 2", "old 2", "apart"]
    values = np.array([[-9.0]] * 5 + [[11.0]], dtype=np.float32)
    frozen = pl.DataFrame(
        {"item_key": ["old 0", "old 1", "old 2"], "codes": [[1, 0]] * 3, "suffix": suffixes},
        schema_overrides={"codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
    )
    ids = assign_ids_beside_frozen(codec, KeyedVectors(keys, values, np.ones(6, dtype=bool)), frozen)
    assert ids["codes"].to_list() == [[1, 0]] * 5 + [[0, 0]]
    above = max(suffixes) + 1
    by_key = dict(zip(ids["item_key"], ids["suffix"], strict=True))
    assert by_key == {
        "old 0": suffixes[0],
        "old 1": suffixes[1],
        "old 2": suffixes[2],
        "new 1": above,
        "new 2": above + 1,
        "apart": 0,
    }


def test_frozen_ids_are_read_with_the_keys_of_their_own_run(earlier, monkeypatch):
    monkeypatch.chdir(earlier.parent)
    write_items("a", "b", "c")
    ids = pl.DataFrame(
        [(0, "text", [1, 2], 0), (2, "image", [3, 0], 0), (2, "text", [1, 2], 1)],
        schema={"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    SEMANTIC_IDS.write(ids)
    monkeypatch.chdir(earlier.parents[1] / "now")
    found = read_frozen_ids(earlier).select("item_key", "modality", "codes", "suffix").rows()
    assert found == [("a", "text", [1, 2], 0), ("c", "image", [3, 0], 0), ("c", "text", [1, 2], 1)]


def test_a_grown_catalogue_keeps_frozen_ids_and_new_items_get_the_nearest_codes():
    """Codes are the whole and the tenth part of a number; `b` has a frozen ID that is not its nearest."""
    codebooks = np.stack([np.arange(4), np.arange(4) / 10])[:, :, None].astype(np.float32)
    arrays = {"codebooks.text": codebooks, "mean.text": np.zeros(1, np.float32), "scale.text": np.ones(1, np.float32)}
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [4, 4]}}}), "text")
    frozen = pl.DataFrame(
        [("b", "text", [3, 3], 2), ("b", "image", [0, 0], 0)],
        schema={"item_key": pl.String, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    values = np.array([[2.1], [9.0], [1.2], [3.3]], dtype=np.float32)
    present = np.array([True, False, True, True])
    ids = keep_frozen_ids(codec, KeyedVectors(["a", "x", "b", "c"], values, present), frozen)
    assert ids.items.tolist() == [0, 2, 3]
    assert ids.nearest.tolist() == [[2, 1], [1, 2], [3, 3]]
    assert ids.codes.tolist() == [[2, 1], [3, 3], [3, 3]]
    assert ids.suffix.tolist() == [0, 2, 3]
    for codes in ([3, 4], [3, 3, 0]):
        other = frozen.with_columns(pl.Series("codes", [codes] * 2, dtype=pl.Array(pl.Int32, len(codes))))
        with pytest.raises(InputError, match=f"expected 2 codes below .*; found {len(codes)} codes up to {max(codes)}"):
            keep_frozen_ids(codec, KeyedVectors(["a", "x", "b", "c"], values, present), other)


def test_without_frozen_ids_and_without_items_there_are_no_codes():
    codebooks = np.stack([np.arange(4), np.arange(4) / 10])[:, :, None].astype(np.float32)
    arrays = {"codebooks.text": codebooks, "mean.text": np.zeros(1, np.float32), "scale.text": np.ones(1, np.float32)}
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [4, 4]}}}), "text")
    frozen = pl.DataFrame(
        [("b", "image", [0, 0], 0)],
        schema={"item_key": pl.String, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    values = np.array([[2.1], [9.0]], dtype=np.float32)
    ids = keep_frozen_ids(codec, KeyedVectors(["a", "b"], values, np.array([True, False])), frozen)
    assert (ids.items.tolist(), ids.codes.tolist(), ids.suffix.tolist()) == ([0], [[2, 1]], [0])
    none = keep_frozen_ids(codec, KeyedVectors(["a", "b"], values, np.zeros(2, dtype=bool)), frozen)
    assert len(none.items) == len(none.suffix) == 0
    assert none.codes.shape == none.nearest.shape == (0, 2)


def test_the_table_has_a_row_for_each_item_of_each_modality():
    def ids(items, codes):
        suffix = np.arange(len(items), dtype=np.int32)
        return ModalityIds(np.array(items, dtype=np.int64), np.zeros((len(items), 2)), np.array(codes), suffix)

    table = semantic_id_table({"text": ids([0, 2], [[5, 6], [7, 8]]), "image": ids([1], [[9, 0]])}, 2)
    assert dict(table.schema) == {
        "item_id": pl.Int32,
        "modality": pl.String,
        "codes": pl.Array(pl.Int32, 2),
        "suffix": pl.Int32,
    }
    assert table.rows() == [(0, "text", [5, 6], 0), (2, "text", [7, 8], 1), (1, "image", [9, 0], 0)]


def reassigned(values, codes_of_last=4, **changes):
    """Return the IDs of numbers whose first code is their tens and whose second is the whole number within."""
    codebooks = np.zeros((2, 4, 1), dtype=np.float32)
    codebooks[0, :, 0], codebooks[1, :, 0] = [0, 10, 20, 30], [0, 1, 2, 3]
    arrays = {"codebooks.text": codebooks, "mean.text": np.zeros(1, np.float32), "scale.text": np.ones(1, np.float32)}
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [4, codes_of_last]}}}), "text")
    rows = np.array(values, dtype=np.float32)[:, None]
    return assign_ids(codec, rows, np.ones(len(rows), dtype=bool), reassign=True, **changes)


def test_colliding_inputs_share_out_the_codes_that_no_other_item_has():
    """Below 10, code 3 is taken; 0.9, 1.05 and 1.2 get the free ones in their order, equal inputs the same one."""
    ids = reassigned([1.05, 3.0, 0.9, 12.0, 1.2, 0.9, 21.1, 21.1])
    assert ids.nearest.tolist() == [[0, 1], [0, 3], [0, 1], [1, 2], [0, 1], [0, 1], [2, 1], [2, 1]]
    assert ids.codes.tolist() == [[0, 1], [0, 3], [0, 0], [1, 2], [0, 2], [0, 0], [2, 1], [2, 1]]
    assert ids.suffix.tolist() == [0, 0, 0, 0, 0, 1, 0, 1]


def test_inputs_beyond_the_free_codes_keep_their_nearest_one():
    """Codes 0 and 2 are taken: of five inputs at code 1 or 3 the first two get those, in the order of items."""
    ids = reassigned([0.0, 1.2, 0.9, 2.0, 1.1, 1.3, 1.4])
    assert ids.nearest[:, 1].tolist() == [0, 1, 1, 2, 1, 1, 1]
    assert ids.codes[:, 1].tolist() == [0, 3, 1, 2, 1, 1, 1]
    assert ids.suffix.tolist() == [0, 0, 0, 0, 1, 2, 3]


def test_reassignment_happens_below_each_prefix_by_itself():
    ids = reassigned([10.9, 20.9, 11.1, 21.1, 30.9, 31.1, 32.0, 33.0, 30.0])
    assert ids.nearest[:, 1].tolist() == [1, 1, 1, 1, 1, 1, 2, 3, 0]
    codes = ids.codes[:, 1].tolist()
    assert codes[0] < codes[2] and codes[1] < codes[3]
    assert codes[4:] == [1, 1, 2, 3, 0]  # one free code for two inputs: the first has it, and it is the nearest of both
    assert ids.suffix.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]
