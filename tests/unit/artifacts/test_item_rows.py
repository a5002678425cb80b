"""Rows of core items, read of every kind of embedding; a kind that does not fit is one line."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, issparse

from sidflow.artifacts.features import (
    EMBEDDING,
    SPARSE_EMBEDDING,
    UNITS,
    ItemRows,
    read_core_rows,
    read_dense_rows,
    sparse_arrays,
)
from sidflow.candidate_ranking.fit import read_compared
from sidflow.core.errors import InputError
from sidflow.hybrid.params import HybridParams
from sidflow.multimodal.features import FeaturesParams
from sidflow.multimodal.fit import item_maker, prior_maker
from sidflow.sequential.params import SasrecParams

ITEMS, CORE, WIDTH = 10, 8, 5


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    present = np.arange(ITEMS) != 1
    values = np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32) * present[:, None]
    EMBEDDING.write({"values": values, "present": present}, {}, name="text")
    none = {"values": np.zeros_like(values), "present": np.zeros(ITEMS, dtype=bool)}
    EMBEDDING.write(none, {}, name="image")
    SPARSE_EMBEDDING.write(sparse_arrays(csr_matrix(values), present), {"width": WIDTH}, name="words")
    units = {"values": np.ones((ITEMS, 3, WIDTH), np.float32), "present": np.ones((ITEMS, 3), dtype=bool)}
    UNITS.write(units, {}, name="units")
    return ItemRows(values, present)


def test_core_rows_come_first_and_are_as_dense_as_the_file(written):
    dense, sparse = (read_core_rows(EMBEDDING.at(name=name), CORE) for name in ("text", "words"))
    np.testing.assert_array_equal(dense.values, written.values[:CORE])
    assert issparse(sparse.values)
    np.testing.assert_array_equal(sparse.values.toarray(), written.values[:CORE])
    for rows in (dense, sparse):
        assert rows.present.tolist() == written.present[:CORE].tolist()


def test_dense_rows_are_read_by_name_and_an_empty_embedding_is_left_out(written):
    rows = read_dense_rows(("text", "image"), CORE)
    assert list(rows) == ["text"]
    np.testing.assert_array_equal(rows["text"].values, written.values[:CORE])
    with pytest.raises(InputError, match=r"embeddings/smell\.safetensors"):
        read_dense_rows(("smell",), CORE)
    with pytest.raises(InputError, match="a row for each of 11 core items; found 10 rows"):
        read_dense_rows(("text",), ITEMS + 1)


USES = {
    "candidate ranker": lambda name: read_compared([name], CORE, 3),
    "features": lambda name: item_maker(FeaturesParams(features=(name,)), SasrecParams(), CORE)(),
    "prior": lambda name: prior_maker(HybridParams(content=(name,)), CORE),
}


@pytest.mark.parametrize("use", USES)
def test_units_are_no_content_of_one_vector_an_item(written, use):
    with pytest.raises(InputError, match=r"units\.safetensors: expected one vector an item; .* text units"):
        USES[use]("units")


@pytest.mark.parametrize("use", ["features", "prior"])
def test_of_a_sparse_embedding_the_remedy_is_a_dense_one(written, use):
    with pytest.raises(InputError, match=r"words\.safetensors: expected dense vectors; .* tfidf_svd in place of tfidf"):
        USES[use]("words")
    assert read_compared(["words"], CORE, 3)["words"].shape == (CORE, CORE)
