"""The content's part of a hybrid's scores, against sums written out."""

import numpy as np
import pytest
import torch
from tests.unit.counting.cases import leave_one_out

from sidflow.hybrid import content as hybrid_content
from sidflow.hybrid.content import COSINE_BYTES, ContentScores
from sidflow.sequences.slices import NO_ITEM

ITEMS, ALL_ITEMS = 7, 9  # of the core, and of the content's rows
HELD = [0, 2, 4, 5]  # the items that histories hold
LAST_ITEMS = torch.tensor([[0, 5], [4, NO_ITEM], [2, 2], [NO_ITEM, NO_ITEM]])
WEIGHTS = torch.tensor([[0.5, 2.0], [1.5, 0.25]])  # kind by step back
BOTH = pytest.mark.parametrize("cosine_bytes", [COSINE_BYTES, 0], ids=["cosines once", "a product each time"])


def two_kinds():
    generator = np.random.default_rng(3)
    return {
        name: torch.from_numpy(generator.normal(size=(ALL_ITEMS, width))).float()
        for name, width in [("a", 3), ("b", 5)]
    }


def scores_of(rows):
    return ContentScores(lambda: rows, ITEMS, leave_one_out([HELD, HELD[::-1]]))


def written_out(rows):
    expected = torch.zeros(len(LAST_ITEMS), ITEMS)
    for history, last_items in enumerate(LAST_ITEMS.tolist()):
        for step, item in enumerate(last_items):
            for kind, values in enumerate(rows.values()):
                if item != NO_ITEM:
                    expected[history] += WEIGHTS[kind, step] * (values[:ITEMS] @ values[item])
    return expected


@BOTH
def test_the_scores_of_two_kinds_are_sums_over_steps_and_kinds(monkeypatch, cosine_bytes):
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", cosine_bytes)
    rows = two_kinds()
    scores = scores_of(rows)
    assert (scores.cosines is None) == (cosine_bytes == 0)
    torch.testing.assert_close(scores.of(LAST_ITEMS, WEIGHTS), written_out(rows))


def test_candidates_have_the_scores_that_all_items_have():
    rows = two_kinds()
    targets, negatives = torch.tensor([6, 1, 3, 0]), torch.tensor([5, 0, 6])
    columns = torch.cat([targets[:, None], negatives.expand(4, -1)], 1)
    expected = written_out(rows).gather(1, columns)
    torch.testing.assert_close(scores_of(rows).of_candidates(LAST_ITEMS, WEIGHTS, targets, negatives), expected)


@BOTH
def test_scores_are_in_full_precision_under_autocast(monkeypatch, cosine_bytes):
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", cosine_bytes)
    rows = two_kinds()
    scores, targets, negatives = scores_of(rows), torch.tensor([6, 1, 3, 0]), torch.tensor([5, 0, 6])
    of_all, of_candidates = written_out(rows), scores_of(rows).of_candidates(LAST_ITEMS, WEIGHTS, targets, negatives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(scores.of(LAST_ITEMS, WEIGHTS), of_all)
        torch.testing.assert_close(scores.of_candidates(LAST_ITEMS, WEIGHTS, targets, negatives), of_candidates)


def test_the_memory_of_cosines_counts_every_kind(monkeypatch):
    one_kind = len(HELD) * ITEMS * 4
    rows = two_kinds()
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", 2 * one_kind)
    assert sum(cosines.nbytes for cosines in scores_of(rows).cosines.kinds) == 2 * one_kind
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", 2 * one_kind - 1)
    assert scores_of(rows).cosines is None


def test_an_item_that_no_history_holds_is_not_answered_by_another_ones_cosines():
    with pytest.raises((IndexError, RuntimeError)):
        scores_of(two_kinds()).of(torch.tensor([[3, NO_ITEM]]), WEIGHTS)
