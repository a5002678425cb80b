"""Items that get their IDs from frozen codebooks after training, and how often new items are generated."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.unit.generative.cases import Decoding, random_codes
from tests.unit.generative.shop import COUNT, LOOP, served_with_beam, stage_main, write_ids, write_params

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import FACTORS, IDS, SUMMARY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.generative.audit import TOP, new_item_share
from sidflow.generative.params import CausalParams
from sidflow.generative.ranking import CandidateTree, Decoder
from sidflow.generative.vocabulary import ItemIds
from sidflow.semantic_ids.assign import read_frozen_ids
from sidflow.semantic_ids.gate import AssignParams, FrozenIds, assign_and_audit
from sidflow.sequences.histories import Histories
from sidflow.sequences.windows import query_windows
from sidflow.serving.recommendations import recommend_after

NEW = COUNT - 1
CODEBOOKS = np.array([[[-30, 0], [-10, 0], [10, 0], [30, 0]], [[0, -6], [0, -2], [0, 2], [0, 6]]], dtype=np.float32)


def test_an_item_with_an_id_from_frozen_codebooks_is_recommended_without_training(shop, monkeypatch):
    """What follows item 11 is item 0; the new item shares its first code, and its second one no core item has."""
    ITEMS.write(ITEMS.read().with_columns(in_core=pl.col("item_id") != NEW))
    arrays = {"codebooks.text": CODEBOOKS, "mean.text": np.zeros(2, np.float32), "scale.text": np.ones(1, np.float32)}
    QUANTIZER.write(arrays, {"modalities": {"text": {"codes": [4, 4], "items": NEW}}, "order": ["text"]})
    write_params(tiger={"validate_on": 100, "loop": LOOP | {"epochs": 20}})
    stage_main()("tiger")
    before = SEMANTIC_IDS.read()
    codes = np.array([*((item % 4, item // 4) for item in range(NEW)), (0, 3)])
    vectors = CODEBOOKS[0][codes[:, 0]] + CODEBOOKS[1][codes[:, 1]] + np.float32(0.3)
    frozen = FrozenIds(ITEMS.read()["item_key"].to_list(), read_frozen_ids(Path("artifacts")))
    content = {"text": {"values": vectors, "present": np.ones(COUNT, dtype=bool)}}
    SEMANTIC_IDS.write(assign_and_audit(QUANTIZER.read(), content, AssignParams(), None, None, frozen).table)
    assert SEMANTIC_IDS.read().filter(pl.col("item_id") != NEW).equals(before)
    assert SEMANTIC_IDS.read().row(-1, named=True)["codes"] == [0, 3]
    served_with_beam("tiger", 3, monkeypatch)
    history = ["i08", "i09", "i10", "i11"]
    recommendation = recommend_after(history, 3, "tiger", include_cold=True)
    assert recommendation.unscored == 0  # the items that a beam does not meet could have been met
    listed = recommendation.items
    assert listed[0].item_key == "i00" and not listed[0].cold
    assert [item.item_key for item in listed if item.cold] == [f"i{NEW}"]
    assert not any(item.cold for item in recommend_after(history, 3, "tiger").items)
    SEMANTIC_IDS.write(before)
    served_with_beam("tiger", 3, monkeypatch)
    assert recommend_after(history, 3, "tiger", include_cold=True).unscored == 1  # it has no ID


def test_an_id_that_a_new_item_shares_is_no_collision_of_the_core(shop):
    ITEMS.write(ITEMS.read().with_columns(in_core=pl.col("item_id") != NEW))
    write_ids([*((item % 4, item // 4) for item in range(NEW)), (0, 0)], absent=())
    write_params(tiger={"ids": {"suffix": "none"}, "loop": LOOP | {"epochs": 1}})
    stage_main()("tiger")
    assert SUMMARY.read(model="tiger")["id_collision_rate"] == 0
    assert IDS not in FACTORS.read(model="tiger").arrays


def test_the_share_of_new_items_counts_ids_that_any_of_them_has():
    """The first 30 items are core. Many of the 24 IDs are of a core item first, and of a new one after it."""
    case, count = Decoding("decoder", count=60), 30
    codes = random_codes(4, 60, (4, 3, 2))
    case.ids = ItemIds(codes, case.ids.vocabulary)
    codes[7] = codes[41] = -1  # without an ID
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 20, size=10)
    histories = Histories(
        items=draw.integers(60, size=lengths.sum()).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=lengths,
        query_user=np.arange(10),
        query_end=lengths,
        query_valid=np.ones(10, dtype=bool),
        targets=np.zeros(10, dtype=np.int64),
    )
    queries = np.arange(10)
    params = CausalParams(beam=100, max_length=5)
    found = new_item_share(case.model, case.ids, count, histories, queries, params)
    scores = Decoder.of(case.model, case.ids, CandidateTree(case.ids, 60, torch.device("cpu")), "children").exact(
        query_windows(histories, queries, params.max_length)
    )
    new = first_is_new = listed = 0
    for query in queries:
        closed = set(histories.history(query).tolist())
        items_of = {}
        for item in np.flatnonzero(np.isfinite(scores[query])):
            items_of.setdefault(tuple(codes[item]), []).append(item)
        left = [items for items in items_of.values() if not closed.issuperset(items)]
        left.sort(key=lambda items, query=query: -scores[query, items[0]])
        listed += len(left[:TOP])
        new += sum(any(item >= count for item in items) for items in left[:TOP])
        first_is_new += sum(items[0] >= count for items in left[:TOP])
    assert found == {"items": 29, "share_of_top_10": pytest.approx(new / listed)}
    assert 0 < first_is_new < new < listed
    assert new_item_share(case.model, case.ids, 60, histories, queries, params) == {"items": 0}
    assert new_item_share(case.model, case.ids, count, histories, queries[:0], params) == {"items": 29}
