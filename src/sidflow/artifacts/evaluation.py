"""Rankings of every query, the metrics made of them, and the reports."""

from __future__ import annotations

import pyarrow as pa

from sidflow.core.documents import Curve, Document, Text
from sidflow.core.tables import Table, Vector, dense_ids

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

# Where items share semantic IDs, and with them their scores. Metrics are then means over the ranks of the tie.
SHARED_IDS = {
    "sharing": "other candidates that have the target's ID",
    "id_rank": "rank of the target's ID among the distinct IDs of candidates, 1 = best",
    "sampled_sharing": "fixed negatives that have the target's ID",
}

# Where items are held out (split.held_out_items): 1 = best among these, the target included; 0 = the target is none.
HELD_OUT_RANK = "held_out_rank"

# Where a recommender scores the items of a beam's list alone: whether the target is on it. If not, it is a
# miss, and its rank says no more.
LISTED = "listed"

TARGET_RANKS = Table(
    name="target_ranks",
    version=1,
    path="artifacts/rankings/{model}/target_ranks.parquet",
    columns={
        "query_id": pa.int32(),
        "rank": pa.int32(),  # 1 = best, among all candidates; ties count against the target
        "candidates": pa.int32(),  # items that could be recommended, the target included
        "sampled_rank": pa.int32(),  # 1 = best, among the target and the fixed negatives
        **{name: pa.int32() for name in (*SHARED_IDS, HELD_OUT_RANK)},
        LISTED: pa.bool_(),
    },
    key=("query_id",),
    optional=frozenset({*SHARED_IDS, HELD_OUT_RANK, LISTED}),
    checks=(dense_ids("query_id"),),
)


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
        **{name: pa.int32() for name in (*SHARED_IDS, HELD_OUT_RANK)},
        LISTED: pa.bool_(),
        **{name: pa.float32() for name in EXPECTED},  # under the generator's truth; null where there is none
    },
    key=("query_id",),
    nullable=frozenset(EXPECTED),
    optional=frozenset({*SHARED_IDS, HELD_OUT_RANK, LISTED}),
    checks=(dense_ids("query_id"),),
)

METRICS = Document("artifacts/reports/{model}.json", flat=True)  # test plain, validation with the prefix `valid_`

SLICES = Curve("artifacts/evaluations/{model}/slices.csv")  # slice, users, queries, and metrics of the test part

SPECTRUM = Curve("artifacts/evaluations/{model}/spectrum.csv")  # matrix, dimension from 1, singular_value

LEADERBOARD = Document("artifacts/reports/leaderboard.json")


INGEST = Document("artifacts/reports/ingest.json", flat=True)
# Its figures `PAIRS_ascending_ORDER` are shares of pairs of events that ascend by something other than time.
EVENT_PAIRS = {
    "pairs": "consecutive events",
    "last_pairs": "last two events of a user",
    "tied_pairs": "consecutive events of the same second",
}
ITEM_ORDERS = {
    "key": "item key",
    "key_text": "item key, compared as text",
    "key_number": "number at the end of the item key",
    "first_seen": "first appearance of the item among the events",
    "listed": "row of the item in the file of items",
    "popularity": "number of events of the item",
}

SPLIT = Document("artifacts/reports/split.json", flat=True)

ABLATIONS = Document("artifacts/reports/ablations.json")  # of `sidflow ablations`, which is no stage: may be absent

FIGURES = Document("artifacts/metrics.json")  # flat: RECOMMENDER.METRIC, such as mme_sid.ndcg_at_10

# What `dvc plots` draws: a column `recommender`, x and y.
VALIDATION_PLOT = Curve("artifacts/plots/validation.csv")
SLICES_PLOT = Curve("artifacts/plots/slices.csv")
SINGULAR_VALUES_PLOT = Curve("artifacts/plots/singular_values.csv")

PAGE = Text("artifacts/report/report.html")  # self-contained: no network, no script
