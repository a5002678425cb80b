"""Artifacts of a trained recommender: factors of its scores, weights, summary, MME-SID's adapter, and the backbone.

score[q, i] = query_states[q] . item_matrix[i]  +  sum_j query_sparse[q, j] * item_sparse[j, i]

Rows of `query_states` are queries in the order of query_id (both parts); rows of `item_matrix` are the core items.
The sparse matrices are CSR: `query_*` is [q, j], `item_*` is [j, n]. At least one of the two pairs is present.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.core.documents import Curve, Document
from sidflow.core.files import project_path
from sidflow.core.tensors import TensorFile, Tensors

DENSE = ("query_states", "item_matrix")
IDS = "ids"  # where items share IDs: the number of each item's ID; items of one number have one score
SPARSE = ("query_indptr", "query_indices", "query_values", "item_indptr", "item_indices", "item_values")

FACTORS = TensorFile(
    name="factors",
    version=1,
    path="artifacts/recommenders/{model}/factors.safetensors",
    arrays={
        "query_states": "float32 q d",
        "item_matrix": "float32 n d",
        "query_indptr": "int64 q_plus_1",
        "query_indices": "int32 query_nonzero",
        "query_values": "float32 query_nonzero",
        "item_indptr": "int64 j_plus_1",
        "item_indices": "int32 item_nonzero",
        "item_values": "float32 item_nonzero",
        IDS: "int32 n",
    },
    optional=frozenset((*DENSE, *SPARSE, IDS)),
)

WEIGHTS = TensorFile(  # weights of a neural recommender and of its score prior, to encode new histories
    name="weights", version=1, path="artifacts/recommenders/{model}/weights.safetensors", arrays={}, free=True
)

SUMMARY = Document("artifacts/recommenders/{model}/summary.json")  # resolved params, best epoch, device, sizes

CURVES = Curve("artifacts/recommenders/{model}/curves.csv")  # one row per epoch: epoch, losses, valid_ndcg_at_10


def adapter_folder(model: str) -> Path:
    """Return the folder of adapter_config.json and adapter_model.safetensors; absent without LoRA."""
    return project_path(f"artifacts/recommenders/{model}/adapter")


PRIOR_PREFIX = "anchor."  # of the score prior's weights in HEADS

HEADS = TensorFile(  # `item_tokens.*`, `fusion.*`, `anchor.*`: every trained weight outside the language model
    name="heads", version=1, path="artifacts/recommenders/{model}/heads.safetensors", arrays={}, free=True
)

ANCHOR = TensorFile(  # of hybrids: counts of training parts, CSR [n, n], and `content.<modality>`, float32 [n, d]
    name="anchor",
    version=1,
    path="artifacts/recommenders/{model}/anchor.safetensors",
    arrays={
        "relation_indptr": "int64 n_plus_1",
        "relation_indices": "int32 nonzero",
        "relation_values": "float32 nonzero",
    },
    optional=frozenset({"relation_indptr", "relation_indices", "relation_values"}),
    free=True,
)

COLD_ROWS = TensorFile(  # rows of items outside the core, as wide as the item matrix; `present`: has a row
    name="cold_rows",
    version=1,
    path="artifacts/recommenders/{model}/cold_rows.safetensors",
    arrays={"values": "float32 c d", "present": "bool c"},  # absent rows are zero
)

BACKBONE = Document("artifacts/backbone/backbone.json")  # kind, repo, commit, file hashes, hidden size, family

MODEL_FOLDER = Path("artifacts/backbone/model")  # weights and tokenizer of kind `scratch`; absent for the others

PRETRAINING = Curve("artifacts/backbone/curves.csv")  # of kind `scratch`, one row per epoch: epoch, losses

REFIT_KEY = "refit"  # in the metadata of FACTORS, TARGET_RANKS and PER_QUERY, so that a comparison can check it


LISTS_KEY = "lists"  # in the metadata of FACTORS, true where the items of a beam's list alone have a score, above 0

BLEND_KEY = "blend"  # in the metadata of FACTORS, true where they join those of two recommenders


def refit_metadata(refit: bool | None) -> dict[str, object]:
    """Return the metadata that records whether there was a second fit, on training and validation events.

    Args:
        refit: True: a second fit; False: one fit, on the training parts; None: nothing was fitted.
    """
    return {} if refit is False else {REFIT_KEY: refit}


def refit_in(metadata: Mapping[str, object]) -> bool | None:
    """Return the `refit` that `refit_metadata` recorded."""
    refit = metadata.get(REFIT_KEY, False)
    return None if refit is None else bool(refit)


class ScoreFactors(NamedTuple):
    """The two sides of all scores: states @ matrix.T + evidence @ relation; either pair may be None."""

    states: np.ndarray | None = None  # float32 [q, d]
    matrix: np.ndarray | None = None  # float32 [n, d]
    evidence: csr_matrix | None = None  # float32 [q, j]
    relation: csr_matrix | None = None  # float32 [j, n]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], items: int) -> ScoreFactors:
        """Return the factors whose arrays are those of a factors artifact over `items` core items."""
        states, matrix = (arrays.get(name) for name in DENSE)
        if not set(SPARSE) <= set(arrays):
            return cls(states, matrix)
        between = len(arrays["item_indptr"]) - 1
        return cls(states, matrix, _csr(arrays, "query", between), _csr(arrays, "item", items))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a factors artifact; `from_arrays` is the inverse."""
        arrays: dict[str, np.ndarray] = {}
        if self.states is not None and self.matrix is not None:
            arrays |= {"query_states": self.states.astype(np.float32), "item_matrix": self.matrix.astype(np.float32)}
        for side, matrix in (("query", self.evidence), ("item", self.relation)):
            if matrix is not None:
                matrix = csr_matrix(matrix)
                matrix.sum_duplicates()  # also sorts, so that the bytes are those of the content
                arrays[f"{side}_indptr"] = matrix.indptr.astype(np.int64)
                arrays[f"{side}_indices"] = matrix.indices.astype(np.int32)
                arrays[f"{side}_values"] = matrix.data.astype(np.float32)
        return arrays

    def plus(self, added: csr_matrix) -> ScoreFactors:
        """Return dense factors with `added`, CSR [q, at most n], on top of their scores."""
        assert self.matrix is not None
        items = len(self.matrix)
        evidence = csr_matrix((added.data, added.indices, added.indptr), shape=(len(added.indptr) - 1, items))
        return self._replace(evidence=evidence, relation=csr_matrix(sparse.identity(items)))

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Return the dense scores of some queries, float32 [len(queries), n]."""
        total: np.ndarray | float = 0.0
        if self.evidence is not None and self.relation is not None:
            total = (self.evidence[queries] @ self.relation).toarray()
        if self.states is not None and self.matrix is not None:
            total = total + self.states[queries] @ self.matrix.T
        return np.asarray(total, dtype=np.float32)


def _csr(arrays: Mapping[str, np.ndarray], side: str, width: int) -> csr_matrix:
    parts = arrays[f"{side}_values"], arrays[f"{side}_indices"], arrays[f"{side}_indptr"]
    return csr_matrix(parts, shape=(len(parts[2]) - 1, width))


def by_part(valid: np.ndarray, first: ScoreFactors, second: ScoreFactors) -> ScoreFactors:
    """Return factors that answer validation queries as `first` does, and test queries as `second` does.

    The item sides are concatenated; a query is zero on the side of the other part.

    Args:
        valid: which queries are of the validation part, bool [q].
        first: of the fit on training parts.
        second: of the fit on training and validation events, in the same shape.
    """
    states = matrix = evidence = relation = None
    if first.states is not None and second.states is not None:
        assert first.matrix is not None and second.matrix is not None and first.matrix.shape == second.matrix.shape
        states = np.hstack([first.states * valid[:, None], second.states * ~valid[:, None]])
        matrix = np.hstack([first.matrix, second.matrix])
    if first.evidence is not None and second.evidence is not None:
        part_masks = sparse.diags(valid.astype(np.float32)), sparse.diags((~valid).astype(np.float32))
        evidence = csr_matrix(sparse.hstack([part_masks[0] @ first.evidence, part_masks[1] @ second.evidence]))
        evidence.eliminate_zeros()
        relation = csr_matrix(sparse.vstack([first.relation, second.relation]))
    return ScoreFactors(states, matrix, evidence, relation)


def served_matrix(factors: Tensors) -> np.ndarray:
    """Return the dense item rows that score test queries, of a FACTORS artifact, float32 [n, d].

    With two fits, joined by `by_part`, these are the rows of the second. A blend has no such rows.
    """
    matrix = factors.arrays["item_matrix"]
    return np.ascontiguousarray(matrix[:, matrix.shape[1] // 2 :]) if refit_in(factors.metadata) else matrix
