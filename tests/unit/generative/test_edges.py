"""Shops at the edge: one item, levels of one code, users and queries that know no item with an ID."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from tests.unit.generative.cases import KINDS
from tests.unit.generative.shop import COUNT, LOOP, SETTINGS, write_codebooks
from tests.unit.sequential.cases import CYCLE, stage_main

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import CURVES, FACTORS, SUMMARY
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.generative.serve import GenerativeRecommender
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.sequences.histories import load_histories

PARTS = (("valid", 2), ("test", 1))  # and how many events before the end of a history their target is
TIGER = SETTINGS | {"loop": LOOP}

BRIEF = TIGER["loop"] | {"epochs": 2}


def write_ids(codes, counts):
    """Write IDs of {item: codes}, of `counts` codes a level, every item with codes of its own."""
    rows = {
        "item_id": list(codes),
        "modality": ["text"] * len(codes),
        "codes": pl.Series(list(codes.values()), dtype=pl.Array(pl.Int32, len(counts))),
        "suffix": [0] * len(codes),
    }
    SEMANTIC_IDS.write(pl.DataFrame(rows))
    write_codebooks(counts)


def write_sequences(walks):
    """Replace the histories; the last event of each is the test target, the one before that of validation."""
    SEQUENCES.write(
        pl.DataFrame(
            {
                "user_id": pl.Series(range(len(walks)), dtype=pl.Int32),
                "items": pl.Series(walks, dtype=pl.List(pl.Int32)),
                "timestamps": pl.Series([list(range(len(walk))) for walk in walks], dtype=pl.List(pl.Int64)),
                "train_end": pl.Series([len(walk) - 2 for walk in walks], dtype=pl.Int32),
            }
        )
    )
    asked = [(user, part, len(walks[user]) - back) for user in range(len(walks)) for part, back in PARTS]
    rows = [(query, *one) for query, one in enumerate(asked)]
    QUERIES.write(pl.DataFrame(rows, schema=["query_id", "user_id", "part", "history_end"], orient="row"))
    targets = [(query, walks[user][end], False) for query, user, _, end in rows]
    TARGETS.write(pl.DataFrame(targets, schema=["query_id", "item_id", "tied"], orient="row"))


def train(exclude_history=True, **changes):
    path = Path("params.yaml")
    content = YAML(typ="safe").load(path.read_text())
    content |= {"generate": {"tiger": TIGER | changes}, "recommenders": ["tiger"]}
    content["rank"] = {"exclude_history": exclude_history}
    with path.open("w") as handle:
        YAML().dump(content, handle)
    stage_main("generate")("tiger")


def ranks(items, exclude_history=True):
    histories = load_histories()._replace(exclude_history=exclude_history)
    return rank_targets(FACTORS.read(model="tiger").arrays, histories, items, RankParams(negatives=5))


def kind_params(kind):
    return {} if kind == "decoder" else {"architecture": kind}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["token", "none"])
def test_a_shop_of_one_item(shop, kind, suffix):
    """Everybody had it, so that it comes first where the history is not excluded; else there is nothing to rank."""
    ITEMS.write(ITEMS.read().head(1))
    write_ids({0: (0,)}, (1,))
    write_sequences([[0] * length for length in (3, 4, 5)])
    train(False, **kind_params(kind), ids={"modalities": ["text"], "suffix": suffix}, loop=BRIEF)
    made = ranks(1, exclude_history=False)
    assert made.rank.tolist() == [1] * 6
    assert SUMMARY.read(model="tiger")["items_with_id"] == 1
    arrays, listed = GenerativeRecommender("tiger").answer([])
    assert (arrays["query_indices"].tolist(), listed.tolist()) == ([0], [True])
    train(True, **kind_params(kind), ids={"modalities": ["text"], "suffix": suffix}, loop=BRIEF)
    assert (ranks(1).top.items[:, 0] == -1).all()


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("decoder", (1, 4, 4)), ("decoder", (4, 1, 4)), ("decoder", (4, 4, 1)), ("encoder_decoder", (4, 1, 4))],
)
def test_levels_of_one_code_are_trained_through(shop, kind, counts):
    """The level tells nothing, and what comes next is learned from the others."""
    shapes = {item: np.unravel_index(item, counts) for item in range(COUNT - 1)}
    write_ids({item: tuple(map(int, codes)) for item, codes in shapes.items()}, counts)
    train(**kind_params(kind), ids={"modalities": ["text"], "suffix": "none"}, validate_on=100)
    assert SUMMARY.read(model="tiger")["items_with_id"] == CYCLE
    assert (ranks(COUNT).rank == 1).mean() > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_one_code_throughout_are_one_tie(shop, kind):
    """All items share one ID: nothing is learned, nothing fails, and no item is before another."""
    write_ids(dict.fromkeys(range(COUNT - 1), (0, 0)), (1, 1))
    train(**kind_params(kind), ids={"modalities": ["text"], "suffix": "none"}, loop=BRIEF)
    histories, made = load_histories(), ranks(COUNT)
    left = np.array([CYCLE - len(set(histories.history(query).tolist())) for query in range(histories.query_count)])
    assert made.sharing is not None
    assert made.id_rank is not None
    assert (made.sharing == left - 1).all()
    assert (made.id_rank == 1).all()
    assert (made.rank == left).all()  # ties against the target


@pytest.mark.parametrize("kind", KINDS)
def test_users_and_queries_of_unknown_items_alone(shop, kind):
    """Items 8 to 11 have no ID. Two users had nothing else, one of them among those who are trained on."""
    write_ids({item: (item % 4, item // 4) for item in range(8)}, (4, 4))
    walks = [[(start + step) % 8 for step in range(6)] for start in range(8)] * 10
    write_sequences([*walks, [8, 9, 10, 11, 8, 3], [9, 10, 0]])
    train(**kind_params(kind), max_length=3)  # so that no query is longer than what is trained on
    made, histories = ranks(COUNT), load_histories()
    unknown = np.array([(histories.history(query) >= 8).all() for query in range(histories.query_count)])
    assert unknown.sum() == 4
    assert (made.rank[~unknown] == 1).mean() > 0.5  # by chance: a third at most
    asked = unknown & (histories.targets < 8)
    assert ((made.rank[asked] >= 1) & (made.rank[asked] <= 8)).all()  # by what is usual, before items without an ID
    assert (made.rank[unknown & ~asked] > 8).all()
    assert np.isfinite([float(row["loss"]) for row in CURVES.read(model="tiger")]).all()
