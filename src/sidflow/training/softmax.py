"""Ranking losses of recommenders: full softmax, sampled softmax, binary cross-entropy.

`catalogue_cross_entropy` is the exact softmax over all items. It goes through the positions in chunks and computes
its gradients in the forward pass, so that no array of size positions x items is ever held (Source: fused linear
cross-entropy kernels, e.g. Liger Kernel, arXiv 2410.10989). `sampled_cross_entropy` is the softmax over each target
and negatives that all positions share. What a hybrid adds to single logits (`evidence`) is sparse; what it adds to all
logits of some positions (`dense`) has few weights, of which alone it wants gradients.

A base model returns the loss of its `TrainingScores`; a hybrid replaces that loss by its own `RankLoss`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sidflow.sequences.negatives import SampledCandidates

if TYPE_CHECKING:
    from jaxtyping import Float, Int


CHUNK_LOGITS = 4_000_000  # how many logits are held at a time: 16 MB in float32


class TrainingScores(NamedTuple):
    """The factors of a step's scores: position p scores item i by `states[p] . item_matrix[i]`."""

    states: Float[Tensor, "p d"]
    item_matrix: Float[Tensor, "n d"]  # of all core items, or of `candidates.items` alone
    targets: Int[Tensor, " p"]  # item ids
    candidates: SampledCandidates | None  # of a sampled loss; None: all core items are scored
    last_event: Int[Tensor, " p"]  # number of the last event that the position's history holds
    target_event: Int[Tensor, " p"]  # number of the event that the position predicts


RankLoss = Callable[[TrainingScores], Tensor]  # returns the mean loss over the positions


class SparseEntries(NamedTuple):
    """Entries of a sparse positions x items matrix, row by row (CSR without values); each coordinate at most once."""

    indptr: Int[Tensor, " p_plus_1"]
    columns: Int[Tensor, " nonzero"]

    def flat(self, start: int, stop: int, items: int) -> tuple[slice, Tensor]:
        """Return which entries lie in rows `start` to `stop`, and where in that chunk's flattened logits."""
        ends = self.indptr[start : stop + 1]
        entries = slice(int(ends[0]), int(ends[-1]))
        rows = torch.repeat_interleave(torch.arange(stop - start, device=ends.device), ends.diff())
        return entries, rows * items + self.columns[entries]


class SparseLogits(NamedTuple):
    """What is added to single logits: where, and how much."""

    entries: SparseEntries
    values: Float[Tensor, " nonzero"]


class DenseLogits(NamedTuple):
    """What is added to all logits of some positions, by weights that gradients flow to."""

    positions: Int[Tensor, " r"]  # ascending
    weights: Tensor
    compute: Callable[[slice, Tensor], Tensor]  # logits of a slice of `positions`, by weights

    def chunk(self, start: int, stop: int, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows of the positions `start` to `stop` have such logits, and these."""
        first, last = (int((self.positions < bound).sum()) for bound in (start, stop))
        return self.positions[first:last] - start, self.compute(slice(first, last), weights)


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        item_matrix: Tensor,
        values: Tensor | None,
        weights: Tensor | None,
        targets: Tensor,
        entries: SparseEntries | None,
        dense: DenseLogits | None,
        excluded: SparseEntries | None,
        rows: int,
        train: bool,
    ) -> Tensor:
        kind = torch.promote_types(torch.promote_types(states.dtype, item_matrix.dtype), torch.float32)
        items = item_matrix.to(kind)
        needs_gradient = [train and needed for needed in ctx.needs_input_grad[:4]]
        grad_states = torch.empty_like(states) if needs_gradient[0] else None
        grad_items = torch.zeros_like(items) if needs_gradient[1] else None
        grad_values = torch.empty_like(values) if values is not None and needs_gradient[2] else None
        grad_weights = torch.zeros_like(weights) if weights is not None and needs_gradient[3] else None
        leaf = None if weights is None else weights.detach().requires_grad_(grad_weights is not None)
        total = torch.zeros((), dtype=kind, device=states.device)
        scale = 1.0 / len(states)
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(states), rows):
                part = states[start : start + rows].to(kind)
                stop = start + len(part)
                target = targets[start:stop, None]
                logits = part @ items.T
                dense_rows, dense_logits = None, None
                if dense is not None and leaf is not None:
                    with torch.enable_grad():
                        dense_rows, dense_logits = dense.chunk(start, stop, leaf)
                    logits.index_add_(0, dense_rows, dense_logits.detach().to(kind))
                chunk_entries, flat_positions = slice(0), None
                if entries is not None and values is not None:
                    chunk_entries, flat_positions = entries.flat(start, stop, len(items))
                    logits.view(-1)[flat_positions] += values[chunk_entries].to(kind)
                if excluded is not None:
                    logits.view(-1)[excluded.flat(start, stop, len(items))[1]] = -torch.inf
                target_logits = logits.gather(1, target)
                peak = logits.amax(1, keepdim=True)
                logits.sub_(peak).exp_()
                mass = logits.sum(1, keepdim=True)
                total += (mass.log() + peak - target_logits).sum()
                if not any(needs_gradient):
                    continue
                slope = logits.mul_(scale / mass)
                slope.scatter_add_(1, target, torch.full_like(target_logits, -scale))
                if grad_states is not None:
                    grad_states[start:stop] = slope @ items
                if grad_items is not None:
                    grad_items.addmm_(slope.T, part)
                if grad_values is not None and flat_positions is not None:
                    grad_values[chunk_entries] = slope.view(-1)[flat_positions].to(grad_values.dtype)
                if grad_weights is not None and leaf is not None and dense_logits is not None:
                    dense_slope = slope[dense_rows].to(dense_logits.dtype)
                    grad_weights += torch.autograd.grad(dense_logits, leaf, dense_slope)[0]
        ctx.item_type = item_matrix.dtype
        ctx.save_for_backward(grad_states, grad_items, grad_values, grad_weights)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        states, items, values, weights = ctx.saved_tensors
        return (
            None if states is None else states * grad.to(states.dtype),
            None if items is None else (items * grad).to(ctx.item_type),
            None if values is None else values * grad.to(values.dtype),
            None if weights is None else weights * grad.to(weights.dtype),
            *[None] * 6,
        )


def catalogue_cross_entropy(
    states: Float[Tensor, "p d"],
    item_matrix: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    *,
    evidence: SparseLogits | None = None,
    dense: DenseLogits | None = None,
    excluded: SparseEntries | None = None,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of `softmax(states @ item_matrix.T + evidence + dense)` against `targets`, exactly.

    Gradients flow to `states`, `item_matrix`, the evidence's values and the dense logits' weights; second derivatives
    do not exist. The arithmetic is in float32 or wider, under autocast too. No positions at all give zero.

    Args:
        states: one row per position to be predicted.
        item_matrix: one row per item of the catalogue.
        targets: the item at each position, in [0, n).
        evidence: what is added to single logits.
        dense: what is added to all logits of some positions.
        excluded: items that are no candidates at a position; never its target.
        chunk: positions computed at a time; by default as many as hold four million logits.
    """
    if not len(states):
        return (states.sum() + item_matrix.sum() * 0).float()
    rows = chunk or max(1, CHUNK_LOGITS // max(1, len(item_matrix)))
    entries, values = evidence or (None, None)
    weights, train = None if dense is None else dense.weights, torch.is_grad_enabled()
    loss = _CatalogueCrossEntropy.apply(
        states, item_matrix, values, weights, targets, entries, dense, excluded, rows, train
    )
    assert isinstance(loss, Tensor)
    return loss


def candidate_logits(
    states: Float[Tensor, "p d"],
    item_matrix: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    negatives: Int[Tensor, " m"],
) -> tuple[Float[Tensor, "p 1"], Float[Tensor, "p m"]]:
    """Return the logits of each position's target, and of negatives that all positions share.

    A negative that is the position's own target gets minus infinity there.
    """
    positive = (states * functional.embedding(targets, item_matrix)).sum(1, keepdim=True)
    negative = states @ functional.embedding(negatives, item_matrix).T
    return positive, negative.masked_fill(negatives[None, :] == targets[:, None], -torch.inf)


def sampled_cross_entropy(
    states: Float[Tensor, "p d"],
    item_matrix: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    negatives: Int[Tensor, " m"],
    log_expected: Float[Tensor, " m"] | None = None,
    *,
    evidence: SparseLogits | None = None,
    dense: DenseLogits | None = None,
    excluded: SparseEntries | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of each target against itself and the shared `negatives`.

    Positions x negatives logits are held, none of other items.

    Args:
        states: one row per position to be predicted.
        item_matrix: one row per item.
        targets: the item at each position.
        negatives: items sampled once for all positions, with replacement.
        log_expected: log(m * q) of each negative, q being the probability of sampling it. It is subtracted from the
            negatives' logits alone, so that the sum over them estimates the sum over all items but the target
            without bias, and the loss tends to the full one as m grows (Source: Bengio and Senecal 2008;
            the target is always there, so that its own logit stays as it is). None: no
            correction, which weighs negatives as m samples, not as n items.
        evidence: what is added to single logits, at columns of [own target; negatives], p x (1 + m).
        dense: what is added to all logits of some positions, in the same columns.
        excluded: columns that are no candidates at a position, numbered as above; never the target.
    """
    if not len(states):
        return (states.sum() + item_matrix.sum() * 0).float()
    positive, negative = candidate_logits(states, item_matrix, targets, negatives)
    if log_expected is not None:
        negative = negative - log_expected
    logits = torch.cat([positive, negative], 1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if evidence is not None:
        flat_positions = evidence.entries.flat(0, *logits.shape)[1]
        evidence_logits = (
            torch.zeros_like(logits).view(-1).index_add(0, flat_positions, evidence.values.to(logits.dtype))
        )
        logits = logits + evidence_logits.view_as(logits)
    if dense is not None:
        rows, dense_logits = dense.chunk(0, len(logits), dense.weights)
        logits = logits.index_add(0, rows, dense_logits.to(logits.dtype))
    if excluded is not None:
        flat_positions = excluded.flat(0, *logits.shape)[1]
        logits = logits.flatten().index_fill(0, flat_positions, -torch.inf).view_as(logits)
    return (logits.logsumexp(1) - logits[:, 0]).mean()


def softmax_loss(scores: TrainingScores) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over all core items, or over the candidates where the loss is a sampled one."""
    if scores.candidates is None:
        return catalogue_cross_entropy(scores.states, scores.item_matrix, scores.targets)
    return sampled_cross_entropy(scores.states, scores.item_matrix, *scores.candidates.scored)


def binary_cross_entropy(
    states: Float[Tensor, "p d"],
    item_matrix: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    negatives: Int[Tensor, " m"],
) -> Float[Tensor, ""]:
    """Return the mean of -log sigmoid(target) plus the mean of -log sigmoid(-negative) over the shared negatives."""
    if not len(states):
        return (states.sum() + item_matrix.sum() * 0).float()
    positive, negative = candidate_logits(states, item_matrix, targets, negatives)
    return functional.softplus(-positive).mean() + functional.softplus(negative).mean()
