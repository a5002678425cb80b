import numpy as np
import pytest
import torch
from tests.unit.counting.cases import leave_one_out, random_sequences

from sidflow.ranking import rank
from sidflow.ranking.rank import RankParams
from sidflow.training.validation import Validation, validation_metrics

ITEMS = 15


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("block", [None, 7])
def test_epochs_are_chosen_by_the_ranks_of_the_rank_stage(exclude, block):
    past = leave_one_out(random_sequences(users=40, items=ITEMS))._replace(exclude_history=exclude)
    random = np.random.default_rng(0)
    states, matrix = (
        random.integers(-1, 2, (rows, 3)).astype(np.float32) for rows in (past.query_count, ITEMS)
    )  # tied
    valid = np.flatnonzero(past.query_valid)
    ranked = rank.rank_targets({"query_states": states, "item_matrix": matrix}, past, ITEMS, RankParams()).rank[valid]
    found = Validation(past, ITEMS, block=block).ranks(torch.from_numpy(states[valid]), torch.from_numpy(matrix))
    near = ranked <= ITEMS  # an excluded target stands behind all candidates, here the last and there beyond any cutoff
    np.testing.assert_array_equal(found.numpy()[near], ranked[near])
    assert (found.numpy()[~near] == ITEMS).all()
    assert near.all() != exclude


def test_autocast_changes_no_rank():
    past = leave_one_out(random_sequences(users=40, items=ITEMS))
    validation = Validation(past, ITEMS)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(len(validation.queries), 4, generator=generator)
    matrix = 1 + 1e-3 * torch.randn(ITEMS, 4, generator=generator)  # which bf16 cannot tell apart
    expected = validation.ranks(states, matrix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert validation.ranks(states, matrix).tolist() == expected.tolist()


def test_scores_that_are_no_numbers_never_put_a_target_first():
    past = leave_one_out(random_sequences(users=40, items=ITEMS))
    validation = Validation(past, ITEMS)
    states, matrix = torch.ones(len(validation.queries), 4), torch.ones(ITEMS, 4)
    assert (validation.ranks(states * torch.nan, matrix) == ITEMS).all()
    matrix[3] = torch.nan
    asked = validation.targets == 3
    rank = validation.ranks(states, matrix)
    assert asked.any() and (rank[asked] == ITEMS).all() and (rank > 1).all()


def test_figures_of_known_ranks():
    assert validation_metrics(torch.tensor([1, 3, 10, 11])) == {
        "valid_ndcg_at_10": pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4),
        "valid_recall_at_10": 0.75,
    }
    tied = validation_metrics(torch.tensor([2, 11]), np.array([1, 1]))  # ranks 1 and 2, 10 and 11
    assert tied["valid_recall_at_10"] == (1 + 0.5) / 2
    assert tied["valid_ndcg_at_10"] == pytest.approx(((1 + 1 / np.log2(3)) / 2 + 1 / np.log2(11) / 2) / 2)
    assert validation_metrics(torch.tensor([], dtype=torch.int64)) == {
        "valid_ndcg_at_10": 0.0,
        "valid_recall_at_10": 0.0,
    }


def test_each_query_is_in_one_block_beside_its_own_target_and_excluded_items():
    past = leave_one_out(random_sequences(users=20, items=ITEMS))
    validation = Validation(past, ITEMS, block=6)
    queries = np.flatnonzero(past.query_valid)
    blocks = list(validation.blocks(torch.device("cpu")))
    assert [len(block.targets) for block in blocks] == [6, 6, 6, 2]
    met = []
    for block in blocks:
        part = queries[block.rows]
        met += part.tolist()
        assert block.targets.tolist() == past.targets[part].tolist()
        row, item = (one.tolist() for one in block.excluded)
        pairs = {(place, seen) for place, query in enumerate(part) for seen in past.history(query).tolist()}
        assert set(zip(row, item, strict=True)) == pairs
    assert met == queries.tolist()
