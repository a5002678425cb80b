"""Full and sampled softmax, with and without evidence, against autograd and sums written out."""

import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sidflow.training import softmax
from sidflow.training.softmax import (
    DenseLogits,
    SparseEntries,
    SparseLogits,
    binary_cross_entropy,
    catalogue_cross_entropy,
    sampled_cross_entropy,
)


def case(p=37, n=53, d=7, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    states = (torch.randn(p, d, generator=generator, dtype=dtype) * scale).requires_grad_()
    items = (torch.randn(n, d, generator=generator, dtype=dtype) * scale).requires_grad_()
    return states, items, torch.randint(n, (p,), generator=generator)


@pytest.mark.parametrize("chunk", [None, 1, 10, 36, 37, 1000])
def test_loss_and_gradients_equal_autograd(chunk):
    states, items, targets = case()
    inputs = [states, items]
    reference = functional.cross_entropy(states @ items.T, targets) * 3
    expected = torch.autograd.grad(reference, inputs)
    ours = catalogue_cross_entropy(states, items, targets, chunk=chunk) * 3
    found = torch.autograd.grad(ours, inputs)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    states, items, targets = case(5, 6, 3)

    def loss(s, i):
        return catalogue_cross_entropy(s, i, targets, chunk=2)

    assert torch.autograd.gradcheck(loss, (states, items))


class Largest(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operation returned."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.entries = max(self.entries, found.numel())
        return found


def test_no_more_logits_are_held_with_more_positions(monkeypatch):
    monkeypatch.setattr(softmax, "CHUNK_LOGITS", 300)
    held = []
    for positions in (50, 400):
        states, items, targets = case(p=positions, n=60, d=3)
        with Largest() as seen:
            catalogue_cross_entropy(states, items, targets).backward()
        held.append(seen.entries)
    assert held == [300, 400 * 3]  # five rows of logits; then the states themselves are larger


def test_only_what_is_needed_gets_a_gradient():
    states, items, targets = case()
    catalogue_cross_entropy(states, items.detach(), targets).backward()
    assert states.grad is not None and items.grad is None
    with torch.no_grad():
        assert not catalogue_cross_entropy(states, items, targets).requires_grad


def test_large_logits_do_not_overflow():
    states, items, targets = case(dtype=torch.float32, scale=100.0)
    reference = functional.cross_entropy(states @ items.T, targets)
    torch.testing.assert_close(catalogue_cross_entropy(states, items, targets), reference, rtol=1e-5, atol=1e-3)


def test_half_precision_states_are_computed_wider():
    states, items, targets = case(dtype=torch.float32)
    half = states.detach().bfloat16().requires_grad_()
    loss = catalogue_cross_entropy(half, items, targets)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad is not None and half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, functional.cross_entropy(half.detach().float() @ items.T, targets))


def test_no_positions_give_zero_and_zero_gradients():
    states, items, targets = case()
    loss = catalogue_cross_entropy(states[:0], items, targets[:0])
    loss.backward()
    assert float(loss.detach()) == 0 and items.grad is not None and not items.grad.any()


def test_sampled_equals_a_softmax_written_out():
    states, items, targets = case()
    negatives = torch.tensor([3, 9, 9, int(targets[0])])
    log_expected = torch.tensor([0.1, -0.7, -0.7, 0.4], dtype=torch.float64)
    expected = 0.0
    for state, target in zip(states, targets, strict=True):
        own = math.exp(float(state @ items[target]))
        others = sum(
            math.exp(float(state @ items[j]) - float(shift))
            for j, shift in zip(negatives, log_expected, strict=True)
            if j != target
        )
        expected -= math.log(own / (own + others)) / len(states)
    assert float(sampled_cross_entropy(states, items, targets, negatives, log_expected)) == pytest.approx(expected)


def test_every_item_once_as_a_negative_is_the_full_softmax():
    states, items, targets = case()
    full = functional.cross_entropy(states @ items.T, targets)
    torch.testing.assert_close(sampled_cross_entropy(states, items, targets, torch.arange(len(items))), full)


def test_corrected_sampling_estimates_the_full_softmax():
    states, items, targets = case(scale=0.5)
    chance = torch.linspace(1, 5, len(items), dtype=torch.float64)
    chance /= chance.sum()
    count = 200_000
    negatives = torch.multinomial(chance, count, replacement=True, generator=torch.Generator().manual_seed(0))
    corrected = sampled_cross_entropy(states, items, targets, negatives, (count * chance[negatives]).log())
    full = functional.cross_entropy(states @ items.T, targets)
    assert float(corrected) == pytest.approx(float(full), abs=5e-3)
    assert abs(float(sampled_cross_entropy(states, items, targets, negatives)) - float(full)) > 1


def test_binary_equals_its_definition():
    states, items, targets = case(n=54)
    targets[targets == 53] = 0
    negatives = torch.tensor([53])  # nobody's target
    own, other = (states * items[targets]).sum(1), states @ items[53]
    expected = -own.sigmoid().log().mean() - (-other).sigmoid().log().mean()
    torch.testing.assert_close(binary_cross_entropy(states, items, targets, negatives), expected)


def test_a_negative_that_is_the_target_is_not_pushed_away():
    states, items, targets = case(p=1)
    own = -(states * items[targets]).sum().sigmoid().log()
    torch.testing.assert_close(binary_cross_entropy(states, items, targets, targets), own)


def entries(mask):
    return SparseEntries(torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)]), mask.nonzero()[:, 1])


def evidence_case(p=37, n=53, d=7, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    states = torch.randn(p, d, generator=draw, dtype=dtype).requires_grad_()
    items = torch.randn(n, d, generator=draw, dtype=dtype).requires_grad_()
    targets = torch.randint(n, (p,), generator=draw)
    has_evidence = torch.rand(p, n, generator=draw) < 0.2
    has_evidence[3] = False  # a position without evidence
    values = torch.randn(int(has_evidence.sum()), generator=draw, dtype=dtype).requires_grad_()
    excluded = torch.rand(p, n, generator=draw) < 0.1
    excluded[torch.arange(p), targets] = False
    return states, items, values, targets, has_evidence, excluded


def loss_of(states, items, targets, has_evidence, values, excluded, chunk=None):
    evidence = SparseLogits(entries(has_evidence), values)
    return catalogue_cross_entropy(states, items, targets, evidence=evidence, excluded=entries(excluded), chunk=chunk)


def reference_loss(states, items, values, targets, has_evidence, excluded):
    logits = (states @ items.T).index_put(tuple(has_evidence.nonzero().T), values, accumulate=True)
    return functional.cross_entropy(logits.masked_fill(excluded, -torch.inf), targets)


@pytest.mark.parametrize("chunk", [None, 1, 10, 37, 1000])
def test_loss_and_gradients_with_evidence_equal_autograd(chunk):
    states, items, values, targets, has_evidence, excluded = evidence_case()
    inputs = [states, items, values]
    reference = reference_loss(states, items, values, targets, has_evidence, excluded) * 3
    ours = loss_of(states, items, targets, has_evidence, values, excluded, chunk) * 3
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_without_evidence_it_is_the_catalogue_softmax():
    states, items, _, targets, has_evidence, _ = evidence_case()
    nothing = torch.zeros_like(has_evidence)
    ours = loss_of(states, items, targets, nothing, torch.zeros(0, dtype=states.dtype), nothing)
    assert torch.equal(ours, catalogue_cross_entropy(states, items, targets))


def test_evidence_at_an_excluded_item_learns_nothing():
    states, items, values, targets, has_evidence, excluded = evidence_case()
    loss_of(states, items, targets, has_evidence, values, excluded).backward()
    assert not values.grad[excluded[has_evidence]].any()
    assert values.grad[~excluded[has_evidence]].any()


def test_evidence_without_positions_or_gradients():
    states, items, values, targets, has_evidence, excluded = evidence_case()
    with torch.no_grad():
        quiet = loss_of(states, items, targets, has_evidence, values, excluded)
    assert not quiet.requires_grad
    none = has_evidence[:0]
    assert loss_of(states[:0], items, targets[:0], none, values[:0], none) == 0


def test_half_precision_values_come_back_as_they_went_in():
    states, items, values, targets, has_evidence, excluded = evidence_case(dtype=torch.float32)
    low = values.detach().bfloat16().requires_grad_()
    loss = loss_of(states, items, targets, has_evidence, low, excluded)
    loss.backward()
    assert loss.dtype == torch.float32
    assert low.grad.dtype == torch.bfloat16
    wide = reference_loss(states, items, low.detach().float(), targets, has_evidence, excluded)
    torch.testing.assert_close(loss, wide, rtol=1e-5, atol=1e-5)


def test_a_sampled_softmax_with_evidence_is_the_one_over_its_candidates():
    states, items, _, targets, _, _ = evidence_case()
    draw = torch.Generator().manual_seed(2)
    negatives, shift = torch.tensor([3, 9, 9, 20]), torch.tensor([0.1, -0.7, -0.7, 0.4], dtype=torch.float64)
    has_evidence, excluded = (torch.rand(len(states), 5, generator=draw) < share for share in (0.4, 0.3))
    excluded[:, 0] = False
    values = torch.randn(int(has_evidence.sum()), generator=draw, dtype=torch.float64).requires_grad_()
    logits = torch.cat([(states * items[targets]).sum(1, keepdim=True), states @ items[negatives].T - shift], 1)
    logits = logits.index_put(tuple(has_evidence.nonzero().T), values, accumulate=True)
    itself = torch.cat([torch.zeros(len(states), 1, dtype=torch.bool), negatives == targets[:, None]], 1)
    reference = functional.cross_entropy(logits.masked_fill(excluded | itself, -torch.inf), torch.zeros_like(targets))
    added = SparseLogits(entries(has_evidence), values)
    ours = sampled_cross_entropy(states, items, targets, negatives, shift, evidence=added, excluded=entries(excluded))
    torch.testing.assert_close(ours, reference)
    inputs = [states, items, values]
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def dense_case(positions):
    """Return logits that are not linear in their weights, of `positions`, and the same written out."""
    draw = torch.Generator().manual_seed(3)
    weights = torch.randn(2, generator=draw, dtype=torch.float64).requires_grad_()
    parts = torch.randn(2, len(positions), 53, generator=draw, dtype=torch.float64)

    def compute(rows, by):
        return torch.einsum("w,wrn->rn", by.exp(), parts[:, rows])

    return weights, DenseLogits(positions, weights, compute), compute(slice(None), weights)


@pytest.mark.parametrize("chunk", [None, 1, 10, 37, 1000])
@pytest.mark.parametrize("positions", [[0, 11, 12, 36], list(range(37)), []], ids=["some", "all", "none"])
def test_loss_and_gradients_with_dense_logits_equal_autograd(chunk, positions):
    states, items, values, targets, has_evidence, excluded = evidence_case()
    rows = torch.tensor(positions, dtype=torch.int64)
    weights, dense, written_out = dense_case(rows)
    inputs = [states, items, values, weights]
    ours = catalogue_cross_entropy(
        states, items, targets, evidence=SparseLogits(entries(has_evidence), values), dense=dense,
        excluded=entries(excluded), chunk=chunk,
    ) * 3  # fmt: skip
    logits = (states @ items.T).index_put(tuple(has_evidence.nonzero().T), values, accumulate=True)
    logits = logits.index_add(0, rows, written_out)
    reference = functional.cross_entropy(logits.masked_fill(excluded, -torch.inf), targets) * 3
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_gradcheck_of_dense_logits():
    states, items, targets = (one.detach() for one in case(p=5, n=53, d=3))
    weights, dense, _ = dense_case(torch.tensor([1, 4]))

    def loss(w):
        return catalogue_cross_entropy(states, items, targets, dense=dense._replace(weights=w), chunk=2)

    assert torch.autograd.gradcheck(loss, (weights,))
    with torch.no_grad():
        assert not loss(weights).requires_grad
