"""Parts side by side, sparse rows, and half precision: through the stage and what reads its files."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests.unit.features.test_encode import items_table, semantics_table
from tests.unit.features.test_text_model import quiet, saved
from tests.unit.mme_sid.conftest import tokenizer

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.features import EMBEDDING, SPARSE_EMBEDDING, ItemRows, read_core_rows, read_item_rows
from sidflow.core.errors import InputError
from sidflow.core.params import validate_params
from sidflow.features.concat import concatenate
from sidflow.features.encode import run_encoders
from sidflow.features.params import EmbedParams
from sidflow.models.files import file_hashes

__all__ = ["quiet", "tokenizer"]

A = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]], dtype=np.float32)
B = np.array([[0.0, 1.0, 0.0], [5.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
HAS_A, HAS_B = np.array([True, True, False, True]), np.array([True, True, True, False])


def cosines(rows):
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)) @ (rows / np.where(length > 0, length, 1)).T


@pytest.mark.parametrize("sparse", [False, True])
def test_cosines_are_the_weighted_mean_of_the_parts(sparse):
    first = ItemRows(csr_matrix(A) if sparse else A, HAS_A)
    values, present = concatenate([first, ItemRows(B, HAS_B)], [2.0, 1.0])
    assert isinstance(values, csr_matrix) == sparse
    dense = values.toarray() if sparse else values
    assert dense.dtype == np.float32
    assert present.tolist() == [True] * 4
    np.testing.assert_allclose((dense @ dense.T)[:2, :2], ((4 * cosines(A) + cosines(B)) / 5)[:2, :2], atol=1e-6)
    assert not dense[2, :2].any()
    assert not dense[3, 2:].any()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), [1, 1, np.sqrt(1 / 5), np.sqrt(4 / 5)], atol=1e-6)


def run(encoders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = EmbedParams(spaces={"item": {"min_df": 1, "dim": 4, "max_df": 1.0}}, encoders=encoders)
    return {
        one.name: one.file.write(one.arrays, one.metadata, name=one.name)
        for one in run_encoders(items_table(), IMAGES.empty(), semantics_table(), params, seed=0)
    }


PLAIN = {"kind": "tfidf", "space": "item"}
SVD = {"kind": "tfidf_svd", "space": "item"}


def test_plain_tfidf_is_the_product_that_the_svd_approximates(tmp_path, monkeypatch):
    paths = run({"plain": PLAIN, "full": SVD | {"space": "item"}}, tmp_path, monkeypatch)
    plain, full = read_item_rows(paths["plain"]), read_item_rows(paths["full"])
    assert isinstance(plain.values, csr_matrix)
    assert plain.present.tolist() == full.present.tolist() == [True] * 5 + [False]
    similar = (plain.values @ plain.values.T).toarray()
    np.testing.assert_allclose(np.diag(similar)[:5], 1, atol=1e-6)
    assert similar[0, 4] > similar[0, 1] > similar[0, 2]
    assert np.abs(similar - full.values @ full.values.T).max() < 0.5


def test_concat_reads_its_parts_wherever_they_stand_and_records_them(tmp_path, monkeypatch):
    both = {"kind": "concat", "parts": ["text", "plain"]}
    paths = run({"both": both, "plain": PLAIN, "text": SVD}, tmp_path, monkeypatch)
    found = SPARSE_EMBEDDING.read_from(paths["both"])
    assert found.metadata["parts"]["text"]["encoder"]["kind"] == "tfidf_svd"
    width = read_item_rows(paths["plain"]).values.shape[1] + read_item_rows(paths["text"]).values.shape[1]
    assert found.metadata["width"] == width
    rows = read_core_rows(paths["both"], 5)
    assert rows.values.shape == (5, width) and len(rows.present) == 5
    with pytest.raises(InputError, match="schema embedding version 1"):
        EMBEDDING.read_from(paths["both"])


def test_a_trained_part_is_recorded_with_its_model(tokenizer, tmp_path, monkeypatch):
    folder = saved("bert", tokenizer, tmp_path / "model")
    meaning = {"kind": "transformer", "model": {"kind": "path", "path": str(folder)}}
    both = {"kind": "concat", "parts": ["text", "meaning"]}
    paths = run({"text": SVD, "meaning": meaning, "both": both}, tmp_path, monkeypatch)
    found, own = (EMBEDDING.read_from(paths[name]).metadata for name in ("both", "meaning"))
    assert found["trained_weights"] is True
    assert found["parts"]["text"]["trained_weights"] is False
    assert own == found["parts"]["meaning"] | {"schema": "embedding", "version": 1}
    assert own["model"]["files"] == file_hashes(folder)
    untrained = meaning | {"model": meaning["model"] | {"weights": "random"}}
    paths = run({"text": SVD, "meaning": untrained, "both": both}, tmp_path, monkeypatch)
    assert EMBEDDING.read_from(paths["both"]).metadata["trained_weights"] is False


def test_half_precision_halves_the_file_and_is_read_as_single(tmp_path, monkeypatch):
    kinds = {"text": SVD, "small": SVD | {"storage": "fp16"}, "few": PLAIN | {"storage": "fp16"}}
    paths = run(kinds, tmp_path, monkeypatch)
    whole, half, sparse = (read_item_rows(paths[name]) for name in kinds)
    assert {one.values.dtype for one in (whole, half, sparse)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(whole.values, half.values, atol=1e-3)
    assert not np.array_equal(whole.values, half.values)
    assert EMBEDDING.read_from(paths["small"]).metadata == EMBEDDING.read_from(paths["text"]).metadata
    assert read_core_rows(paths["few"], 5).values.dtype == np.float32


@pytest.mark.parametrize(
    ("both", "message"),
    [
        ({"parts": ["text", "nobody"]}, "found `nobody`"),
        ({"parts": ["text", "units"]}, "out of text, plain; found `units`"),
        ({"parts": ["text"]}, "parts"),
        ({"parts": ["text", "text"]}, "every part once"),
        ({"parts": ["text", "plain"], "weights": [1.0]}, "a weight for each of 2 parts"),
        ({"parts": ["text", "both"]}, "found `both`"),
    ],
)
def test_parts_that_do_not_fit_are_refused(both, message):
    encoders = {"text": SVD, "plain": PLAIN, "units": {"kind": "tfidf_svd_units", "space": "item"}}
    with pytest.raises(InputError, match=message):
        validate_params({"encoders": encoders | {"both": {"kind": "concat"} | both}}, EmbedParams, "params.yaml:embed")
