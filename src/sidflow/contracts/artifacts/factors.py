"""The common output of all recommenders: factors whose inner product is the score, dense, sparse, or both summed.

    score[q, i] = query_states[q] . item_matrix[i]  +  sum_j query_sparse[q, j] * item_sparse[j, i]

Rows of `query_states` are queries in the order of query_id (both parts); rows of `item_matrix` are the core items.
The sparse matrices are CSR: `query_*` is [q, j], `item_*` is [j, n]. At least one of the two pairs is present.
"""

from sidflow.contracts.documents import Curve, Document
from sidflow.contracts.tensors import TensorFile

DENSE = ("query_states", "item_matrix")
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
    },
    optional=frozenset(DENSE + SPARSE),
)

WEIGHTS = TensorFile(  # weights of a neural recommender and of its score prior, to encode new histories
    name="weights", version=1, path="artifacts/recommenders/{model}/weights.safetensors", arrays={}, free=True
)

SUMMARY = Document("artifacts/recommenders/{model}/summary.json")  # resolved params, best epoch, device, sizes

CURVES = Curve("artifacts/recommenders/{model}/curves.csv")  # one row per epoch: epoch, losses, valid_ndcg_at_10
