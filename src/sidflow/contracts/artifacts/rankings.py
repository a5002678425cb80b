"""A recommender's top items of every query, and the rank of the target."""

import pyarrow as pa

from sidflow.contracts.tables import Table, Vector, dense_ids

TOP = Table(
    name="top",
    version=1,
    path="artifacts/rankings/{model}/top.parquet",
    columns={
        "query_id": pa.int32(),
        "items": Vector(pa.int32()),  # [K] best first, history excluded; -1 where there were fewer candidates
        "scores": Vector(pa.float32()),  # [K] not increasing
    },
    key=("query_id",),
    checks=(dense_ids("query_id"),),
)

TARGET_RANKS = Table(
    name="target_ranks",
    version=1,
    path="artifacts/rankings/{model}/target_ranks.parquet",
    columns={
        "query_id": pa.int32(),
        "rank": pa.int32(),  # 1 = best, among all candidates; ties count against the target
        "candidates": pa.int32(),  # items that could be recommended, the target included
        "sampled_rank": pa.int32(),  # 1 = best, among the target and the fixed negatives
    },
    key=("query_id",),
    checks=(dense_ids("query_id"),),
)
