"""Small histories for the tests of counting recommenders."""

import numpy as np
import polars as pl

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.sequences.histories import Histories


def leave_one_out(sequences):
    """Return histories whose last item is the test target and the one before it validation's."""
    lengths = np.array([len(sequence) for sequence in sequences])
    users = np.repeat(np.arange(len(sequences)), 2)
    ends = np.stack([lengths - 2, lengths - 1], axis=1).ravel()
    return Histories(
        items=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=lengths - 2,
        query_user=users,
        query_end=ends,
        query_valid=np.tile([True, False], len(sequences)),
        targets=np.array([sequences[user][end] for user, end in zip(users, ends, strict=True)]),
    )


def checkerboard(users=40, items=12, length=5, seed=0):
    """Return sequences in which even users have had even items only, and odd users odd ones: the answer is obvious."""
    generator = np.random.default_rng(seed)
    return [2 * generator.permutation(items // 2)[:length] + user % 2 for user in range(users)]


def random_sequences(users=30, items=15, seed=1, repeats=True):
    """Return sequences of 3 to 9 items in which nothing is to be found."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 10, users)
    return [generator.choice(items, length, replace=repeats) for length in lengths]


def write_split(sequences, items):
    """Write the artifacts that a stage reads, in the current folder."""
    users, histories = len(sequences), leave_one_out(sequences)
    SEQUENCES.write(
        pl.DataFrame(
            {
                "user_id": pl.Series(range(users), dtype=pl.Int32),
                "items": pl.Series([list(map(int, s)) for s in sequences], dtype=pl.List(pl.Int32)),
                "timestamps": pl.Series([list(range(len(s))) for s in sequences], dtype=pl.List(pl.Int64)),
                "train_end": pl.Series(histories.train_end, dtype=pl.Int32),
            }
        )
    )
    part = np.where(histories.query_valid, "valid", "test")
    number = np.arange(histories.query_count)
    QUERIES.write(
        pl.DataFrame(
            {"query_id": number, "user_id": histories.query_user, "part": part, "history_end": histories.query_end}
        )
    )
    TARGETS.write(pl.DataFrame({"query_id": number, "item_id": histories.targets, "tied": np.zeros(len(number), bool)}))
    words = {name: [""] * items for name in ("title", "description", "brand")}
    attributes = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
    ITEMS.write(
        pl.DataFrame(
            {
                "item_id": range(items),
                "item_key": [f"i{item}" for item in range(items)],
                **words,
                "categories": pl.Series([[]] * items, dtype=pl.List(pl.String)),
                "attributes": pl.Series([[]] * items, dtype=attributes),
                "in_core": [True] * items,
            }
        )
    )
