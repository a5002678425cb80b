"""The audit of embeddings, on rows whose figures are known."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import ItemRows
from sidflow.artifacts.item_content import ItemText
from sidflow.features.audit import AuditEmbeddingsParams, ItemInputs, audit_embeddings, encoder_inputs
from sidflow.features.params import EmbedParams
from sidflow.sequences.cooccurrence import Events

ALL = np.ones(4, dtype=bool)
AXES = np.eye(4, dtype=np.float32)
NOBODY = Events(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]), 4)  # 0 with 1, 2 with 3
MODEL = {"kind": "path", "path": "nowhere"}
ONE = AuditEmbeddingsParams(neighbours=1, gallery=2, gallery_neighbours=1)


def rows(values, present=ALL):
    return ItemRows(np.asarray(values, dtype=np.float32), np.asarray(present))


def audit(embeddings, inputs=None, events=NOBODY, params=ONE):
    distinct = {name: list(range(len(one.present))) for name, one in embeddings.items()}
    return audit_embeddings(embeddings, inputs or distinct, events, params)


def test_figures_of_vectors_whose_geometry_is_known():
    one_direction = [[1, 0], [3, 0], [1, 0], [3, 0]]
    found = audit({"axes": rows(AXES), "line": rows(one_direction)})["encoders"]
    assert found["axes"] == {
        "items": 4, "vectors": 4, "width": 4, "effective_rank": pytest.approx(4), "mean_cosine": pytest.approx(0),
        "duplicates": 0, "norm_spread": 0.0,
    }  # fmt: skip
    assert found["line"]["effective_rank"] == pytest.approx(1)
    assert found["line"]["mean_cosine"] == pytest.approx(1)
    assert found["line"]["norm_spread"] == pytest.approx(0.5)


def test_duplicates_are_items_with_equal_vectors_and_other_inputs():
    values = [[1, 0], [1, 0], [0, 1], [0, 1]]
    for kind in (rows(values), ItemRows(csr_matrix(np.asarray(values, dtype=np.float32)), ALL)):
        same = audit({"x": kind}, {"x": ["a", "a", "b", "b"]})["encoders"]["x"]
        other = audit({"x": kind}, {"x": ["a", "a", "b", "c"]})["encoders"]["x"]
        assert (same["duplicates"], other["duplicates"]) == (0, 2)


def test_absent_rows_count_nowhere():
    values = [[1, 0], [0, 1], [0, 0], [0, 0]]
    found = audit({"x": rows(values, [True, True, False, False])})["encoders"]["x"]
    assert (found["items"], found["duplicates"], found["norm_spread"]) == (2, 0, 0.0)
    assert found["mean_cosine"] == pytest.approx(0)


def test_agreement_is_the_share_of_nearest_items_in_common():
    pairs = rows([[1, 0.1], [1, 0], [0, 1], [0.1, 1]])  # 0 with 1, 2 with 3, as the users have it
    crossed = rows([[1, 0.1], [0, 1], [1, 0], [0.1, 1]])  # 0 with 2, 1 with 3
    found = audit({"pairs": pairs, "crossed": crossed})["agreement"]
    assert found["pairs"]["cooccurrence"] == found["cooccurrence"]["pairs"] == 1.0
    assert found["crossed"]["cooccurrence"] == found["crossed"]["pairs"] == 0.0


def test_sparse_rows_have_the_neighbours_of_dense_ones():
    values = np.abs(np.random.default_rng(0).standard_normal((30, 6))).astype(np.float32)
    present = np.arange(30) != 7
    two = {"dense": rows(values, present), "sparse": ItemRows(csr_matrix(values * present[:, None]), present)}
    params = AuditEmbeddingsParams(neighbours=5, gallery=3)
    found = audit(two, params=params, events=Events(np.array([0]), np.array([0]), 30))
    assert found["agreement"]["dense"]["sparse"] == 1.0
    figures = found["encoders"]
    assert figures["sparse"]["mean_cosine"] == pytest.approx(figures["dense"]["mean_cosine"], abs=1e-6)
    assert figures["sparse"]["norm_spread"] == pytest.approx(figures["dense"]["norm_spread"], abs=1e-5)
    assert figures["sparse"]["effective_rank"] is None
    for entry in found["gallery"]:
        assert entry["nearest"].get("dense") == entry["nearest"].get("sparse")


def test_the_gallery_has_core_items_and_their_nearest():
    found = audit({"x": rows([[1, 0.1], [1, 0], [0, 1], [0.1, 1]], [True, True, True, False])})
    assert [entry["item"] for entry in found["gallery"]] == [0, 3]
    assert found["gallery"][0]["nearest"] == {"x": [1], "cooccurrence": [1]}
    assert found["gallery"][1]["nearest"] == {"cooccurrence": [2]}


def test_units_count_one_by_one_and_agree_by_their_mean():
    units = rows(np.stack([AXES, AXES[::-1]], axis=1), np.ones((4, 2), dtype=bool))
    found = audit({"units": units, "axes": rows(AXES)})
    assert (found["encoders"]["units"]["items"], found["encoders"]["units"]["vectors"]) == (4, 8)
    assert found["agreement"]["units"]["axes"] is not None


def test_inputs_of_each_kind_of_encoder():
    texts = [ItemText("Lamp", "", (), (), ("It glows.",)), ItemText("", "", (), (), ())]
    documents = {"item": [("Lamp", "It glows."), ()], "view_keywords": [("red",), ("blue",)]}
    inputs = ItemInputs(texts, documents, {1: b"picture"})
    encoders = EmbedParams(
        encoders={
            "text": {"kind": "tfidf_svd", "space": "item"},
            "words": {"kind": "tfidf", "space": "item", "document": "view_keywords"},
            "units": {"kind": "tfidf_svd_units", "space": "item", "units": 1},
            "image": {"kind": "picture_descriptors"},
            "both": {"kind": "concat", "parts": ["words", "image"]},
            "tuned": {"kind": "contrastive", "model": MODEL},
            "joint": {"kind": "mllm", "model": MODEL},
        }
    ).encoders
    found = {name: encoder_inputs(encoder, encoders, inputs) for name, encoder in encoders.items()}
    assert found == {
        "text": ["Lamp. It glows", ""],
        "words": ["red", "blue"],
        "units": [("Lamp",), ()],
        "image": [None, b"picture"],
        "both": [("red", None), ("blue", b"picture")],
        "tuned": ["Lamp. It glows", ""],
        "joint": [("Lamp. It glows", None), ("", b"picture")],
    }


def test_nothing_to_audit_is_an_empty_audit():
    found = audit({})
    assert found["encoders"] == {}
    assert json.dumps(found)


def test_the_stage_reads_what_embed_wrote(tmp_path, monkeypatch):
    from tests.unit.features.test_encode import items_table, run, semantics_table

    from sidflow.artifacts.catalog import IMAGES, ITEMS
    from sidflow.artifacts.features import EMBED_REPORT, SEMANTICS

    monkeypatch.chdir(tmp_path)
    ITEMS.write(items_table())
    IMAGES.write(IMAGES.empty())
    SEMANTICS.write(semantics_table())
    Path("params.yaml").write_text(
        "preset: t\nseed: 1\nthreads: 1\naudit_embeddings: {neighbours: 2, gallery: 2}\n"
        "embed:\n  spaces: {item: {min_df: 1, dim: 4}}\n  encoders:\n"
        "    text: {kind: tfidf_svd, space: item, storage: fp16}\n    plain: {kind: tfidf, space: item}\n"
        "    units: {kind: tfidf_svd_units, space: item}\n    image: {kind: picture_descriptors}\n"
    )
    run("embed")
    stage = Path(__file__).parents[3] / "stages/audit_embeddings.py"
    spec = importlib.util.spec_from_file_location("audit_stage", stage)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_histories", lambda: None)
    monkeypatch.setattr(module, "training_events", lambda _, items: Events(np.array([0, 0]), np.array([0, 1]), items))
    module.main()
    found = EMBED_REPORT.read()
    assert {name: figures["items"] for name, figures in found["encoders"].items()} == {
        "text": 5, "plain": 5, "units": 5, "image": 0,
    }  # fmt: skip
    assert 0 < found["agreement"]["text"]["plain"] <= 1
    assert "image" not in found["agreement"]
    assert [entry["item"] for entry in found["gallery"]] == [0, 5]
