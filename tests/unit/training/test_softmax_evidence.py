import pytest
import torch
from torch.nn import functional

from sidflow.training.softmax import SparseEntries, SparseLogits, catalogue_cross_entropy, sampled_cross_entropy


def places(mask):
    return SparseEntries(torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)]), mask.nonzero()[:, 1])


def case(p=37, n=53, d=7, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(p, d, generator=draw, dtype=dtype).requires_grad_()
    items = torch.randn(n, d, generator=draw, dtype=dtype).requires_grad_()
    targets = torch.randint(n, (p,), generator=draw)
    there = torch.rand(p, n, generator=draw) < 0.2
    there[3] = False  # a position without evidence
    values = torch.randn(int(there.sum()), generator=draw, dtype=dtype).requires_grad_()
    excluded = torch.rand(p, n, generator=draw) < 0.1
    excluded[torch.arange(p), targets] = False
    return states, items, values, targets, there, excluded


def ours_of(states, items, targets, there, values, excluded, chunk=None):
    evidence = SparseLogits(places(there), values)
    return catalogue_cross_entropy(states, items, targets, evidence=evidence, excluded=places(excluded), chunk=chunk)


def plainly(states, items, values, targets, there, excluded):
    logits = (states @ items.T).index_put(tuple(there.nonzero().T), values, accumulate=True)
    return functional.cross_entropy(logits.masked_fill(excluded, -torch.inf), targets)


@pytest.mark.parametrize("chunk", [None, 1, 10, 37, 1000])
def test_loss_and_gradients_equal_autograd(chunk):
    states, items, values, targets, there, excluded = case()
    inputs = [states, items, values]
    reference = plainly(states, items, values, targets, there, excluded) * 3
    ours = ours_of(states, items, targets, there, values, excluded, chunk) * 3
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_without_evidence_it_is_the_catalogue_softmax():
    states, items, _, targets, there, _ = case()
    nothing = torch.zeros_like(there)
    ours = ours_of(states, items, targets, nothing, torch.zeros(0, dtype=states.dtype), nothing)
    assert torch.equal(ours, catalogue_cross_entropy(states, items, targets))


def test_evidence_at_a_barred_item_learns_nothing():
    states, items, values, targets, there, excluded = case()
    ours_of(states, items, targets, there, values, excluded).backward()
    assert not values.grad[excluded[there]].any()
    assert values.grad[~excluded[there]].any()


def test_no_positions_and_no_gradients():
    states, items, values, targets, there, excluded = case()
    with torch.no_grad():
        quiet = ours_of(states, items, targets, there, values, excluded)
    assert not quiet.requires_grad
    none = there[:0]
    assert ours_of(states[:0], items, targets[:0], none, values[:0], none) == 0


def test_half_precision_values_come_back_as_they_went_in():
    states, items, values, targets, there, excluded = case(dtype=torch.float32)
    low = values.detach().bfloat16().requires_grad_()
    loss = ours_of(states, items, targets, there, low, excluded)
    loss.backward()
    assert loss.dtype == torch.float32
    assert low.grad.dtype == torch.bfloat16
    wide = plainly(states, items, low.detach().float(), targets, there, excluded)
    torch.testing.assert_close(loss, wide, rtol=1e-5, atol=1e-5)


def test_a_sampled_softmax_with_evidence_is_the_one_over_its_candidates():
    states, items, _, targets, _, _ = case()
    draw = torch.Generator().manual_seed(2)
    negatives, shift = torch.tensor([3, 9, 9, 20]), torch.tensor([0.1, -0.7, -0.7, 0.4], dtype=torch.float64)
    there, excluded = (torch.rand(len(states), 5, generator=draw) < share for share in (0.4, 0.3))
    excluded[:, 0] = False
    values = torch.randn(int(there.sum()), generator=draw, dtype=torch.float64).requires_grad_()
    logits = torch.cat([(states * items[targets]).sum(1, keepdim=True), states @ items[negatives].T - shift], 1)
    logits = logits.index_put(tuple(there.nonzero().T), values, accumulate=True)
    itself = torch.cat([torch.zeros(len(states), 1, dtype=torch.bool), negatives == targets[:, None]], 1)
    reference = functional.cross_entropy(logits.masked_fill(excluded | itself, -torch.inf), torch.zeros_like(targets))
    added = SparseLogits(places(there), values)
    ours = sampled_cross_entropy(states, items, targets, negatives, shift, evidence=added, excluded=places(excluded))
    torch.testing.assert_close(ours, reference)
    inputs = [states, items, values]
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
