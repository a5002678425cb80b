"""The network's score without evidence, and its loss against the softmax over the whole catalogue."""

import numpy as np
import torch
from torch.nn import functional

from sidflow.candidate_ranking.features import Candidates
from sidflow.candidate_ranking.network import CandidateLosses, EvidenceNetwork, RankingExamples, catalogue_loss

ITEMS = 9
# Two candidates, none, three; the targets are item 4, item 5 (no candidate), item 8.
CANDIDATES = Candidates(
    np.array([0, 2, 2, 5]),
    np.array([4, 6, 0, 3, 8]),
    np.random.default_rng(0).random((5, 3)).astype(np.float16),
)
TARGETS = np.array([4, 5, 8])
RANKED = np.array([7, 8, 9])  # items that may follow: two and one of the histories' own are excluded
POPULARITY = np.log1p(np.arange(ITEMS)).astype(np.float32)


def network():
    torch.manual_seed(1)
    made = EvidenceNetwork(3, 8)
    torch.nn.init.normal_(made.linear.weight)
    return made


def test_an_item_without_evidence_scores_zero_however_popular():
    scores = network()(torch.zeros(4, 3), torch.tensor([0.0, 1.0, 5.0, 9.0]))
    assert torch.equal(scores, torch.zeros(4))
    assert network()(torch.ones(2, 3), torch.tensor([0.0, 5.0])).unique().numel() == 2, "popularity matters beside it"


def test_the_loss_is_the_cross_entropy_over_all_items_that_may_follow():
    module = CandidateLosses(network(), examples(), POPULARITY)
    rows = torch.tensor([2, 0, 1])
    values = torch.from_numpy(CANDIDATES.values).float()
    scores = network()(values, torch.from_numpy(POPULARITY[CANDIDATES.items]))
    expected = []
    for history in rows.tolist():
        part = slice(CANDIDATES.indptr[history], CANDIDATES.indptr[history + 1])
        own = CANDIDATES.items[part].tolist()
        logits = torch.cat([scores[part], torch.zeros(RANKED[history] - len(own))])
        index = own.index(TARGETS[history]) if TARGETS[history] in own else len(own)  # any of the others
        expected.append(functional.cross_entropy(logits, torch.tensor(index)))
    assert torch.isclose(module(rows)["loss"], torch.stack(expected).mean(), atol=1e-6)


def examples():
    return RankingExamples(CANDIDATES, CANDIDATES.positions(TARGETS, ITEMS), RANKED)


def test_large_scores_overflow_nothing():
    scores = torch.tensor([200.0, -300.0], requires_grad=True)
    loss = catalogue_loss(scores, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([5.0, 5.0]))
    loss.backward()
    assert torch.isclose(loss, torch.tensor((0.0 + 300 + np.log(5)) / 2, dtype=torch.float32))
    assert torch.isfinite(scores.grad).all()


def test_a_batch_without_any_candidate_has_a_loss():
    loss = CandidateLosses(network(), examples(), POPULARITY)(torch.tensor([1]))["loss"]
    assert torch.isclose(loss, torch.tensor(np.log(8), dtype=torch.float32))


def test_scores_and_loss_are_in_full_precision_under_autocast():
    losses = CandidateLosses(network(), examples(), POPULARITY)
    expected = losses(torch.arange(2))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses(torch.arange(2))["loss"]
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
