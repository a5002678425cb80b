"""Softmax cross-entropy over a catalogue with sparse evidence beside the inner products, exact and in chunks.

As `catalogue_softmax`, gradients are computed in the forward pass while a chunk's logits are at hand; evidence stays
sparse and is added to a chunk's dense logits only, so that nothing of size positions x items outlives the chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sidflow.losses.catalogue_softmax import CHUNK_LOGITS

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Places(NamedTuple):
    """Entries of a sparse positions x items matrix, row by row (CSR without values); none stands twice."""

    indptr: Int[Tensor, " p_plus_1"]
    columns: Int[Tensor, " nonzero"]

    def flat(self, start: int, stop: int, items: int) -> tuple[slice, Tensor]:
        """Return which entries lie in rows `start` to `stop`, and where in that chunk's flattened logits."""
        ends = self.indptr[start : stop + 1]
        entries = slice(int(ends[0]), int(ends[-1]))
        rows = torch.repeat_interleave(torch.arange(stop - start, device=ends.device), ends.diff())
        return entries, rows * items + self.columns[entries]


class _EvidenceCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        item_matrix: Tensor,
        values: Tensor,
        targets: Tensor,
        evidence: Places,
        barred: Places,
        rows: int,
        train: bool,
    ) -> Tensor:
        kind = torch.promote_types(torch.promote_types(states.dtype, item_matrix.dtype), torch.float32)
        items = item_matrix.to(kind)
        wanted = [train and one for one in ctx.needs_input_grad[:3]]
        grad_states = torch.empty_like(states) if wanted[0] else None
        grad_items = torch.zeros_like(items) if wanted[1] else None
        grad_values = torch.empty_like(values) if wanted[2] else None
        total = torch.zeros((), dtype=kind, device=states.device)
        scale = 1.0 / len(states)
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(states), rows):
                part = states[start : start + rows].to(kind)
                stop = start + len(part)
                target = targets[start:stop, None]
                logits = part @ items.T
                entries, where = evidence.flat(start, stop, len(items))
                logits.view(-1)[where] += values[entries].to(kind)
                logits.view(-1)[barred.flat(start, stop, len(items))[1]] = -torch.inf
                own = logits.gather(1, target)
                peak = logits.amax(1, keepdim=True)
                logits.sub_(peak).exp_()
                mass = logits.sum(1, keepdim=True)
                total += (mass.log() + peak - own).sum()
                if not any(wanted):
                    continue
                slope = logits.mul_(scale / mass)
                slope.scatter_add_(1, target, torch.full_like(own, -scale))
                if grad_states is not None:
                    grad_states[start:stop] = slope @ items
                if grad_items is not None:
                    grad_items.addmm_(slope.T, part)
                if grad_values is not None:
                    grad_values[entries] = slope.view(-1)[where].to(values.dtype)
        ctx.item_type = item_matrix.dtype
        ctx.save_for_backward(grad_states, grad_items, grad_values)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        states, items, values = ctx.saved_tensors
        return (
            None if states is None else states * grad.to(states.dtype),
            None if items is None else (items * grad).to(ctx.item_type),
            None if values is None else values * grad.to(values.dtype),
            *[None] * 5,
        )


def evidence_cross_entropy(
    states: Float[Tensor, "p d"],
    item_matrix: Float[Tensor, "n d"],
    targets: Int[Tensor, " p"],
    evidence: Places,
    values: Float[Tensor, " nonzero"],
    barred: Places,
    *,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of `softmax(states @ item_matrix.T + evidence)` against `targets`, exactly.

    Gradients flow to `states`, `item_matrix` and `values`; second derivatives do not exist. The arithmetic is in
    float32 or wider, under autocast too. No positions at all give zero.

    Args:
        states: one row per position to be predicted.
        item_matrix: one row per item of the catalogue.
        targets: the item at each position, in [0, n).
        evidence: where something is added to the inner products.
        values: what is added there.
        barred: what is no candidate at a position; never its target.
        chunk: positions computed at a time; by default as many as hold four million logits.
    """
    if not len(states):
        return (states.sum() + item_matrix.sum() * 0).float()
    rows = chunk or max(1, CHUNK_LOGITS // max(1, len(item_matrix)))
    train = torch.is_grad_enabled()
    loss = _EvidenceCrossEntropy.apply(states, item_matrix, values, targets, evidence, barred, rows, train)
    assert isinstance(loss, Tensor)
    return loss
