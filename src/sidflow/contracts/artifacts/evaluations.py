"""A recommender's results per query, its metrics, slices and spectra; the leaderboard of all."""

import pyarrow as pa

from sidflow.contracts.documents import Curve, Document
from sidflow.contracts.tables import Table, dense_ids

CUTOFFS = (1, 5, 10, 20)
EXPECTED = tuple(f"expected_{metric}_at_{k}" for metric in ("recall", "ndcg", "mrr") for k in (5, 10, 20))

PER_QUERY = Table(
    name="per_query",
    version=1,
    path="artifacts/evaluations/{model}/per_query.parquet",
    columns={
        "query_id": pa.int32(),
        "user_id": pa.int32(),
        "part": pa.string(),  # valid | test
        "rank": pa.int32(),
        "candidates": pa.int32(),
        "sampled_rank": pa.int32(),
        "tied": pa.bool_(),
        "history_length": pa.int32(),
        "target_count": pa.int32(),  # training events of the target
        **{name: pa.float32() for name in EXPECTED},  # under the generator's truth; null where there is none
    },
    key=("query_id",),
    nullable=frozenset(EXPECTED),
    checks=(dense_ids("query_id"),),
)

METRICS = Document("artifacts/reports/{model}.json", flat=True)  # test plain, validation with the prefix `valid_`

SLICES = Curve("artifacts/evaluations/{model}/slices.csv")  # slice, users, queries, and metrics of the test part

SPECTRUM = Curve("artifacts/evaluations/{model}/spectrum.csv")  # matrix, dimension from 1, singular_value

LEADERBOARD = Document("artifacts/reports/leaderboard.json")
