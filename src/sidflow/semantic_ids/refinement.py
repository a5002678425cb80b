"""Refinement of a trained quantizer: all code vectors together, then the collisions of distinct items.

`refine_codebooks`: a level's k-means centres are best for that level alone, but an ID stands for the sum over its
levels, with codes chosen greedily. Gradient descent therefore moves all code vectors at once and chooses the codes
anew at every step, to lower

    mean squared distance of a row to the sum of its greedily chosen code vectors

A code that no row takes moves to a row that is far from its code vector.

`resolve_collisions`: two items that differ by less than the width of a last-level cell share every code. Such pairs
are few, so gradient descent moves the last level's code vectors until a border runs between them. It lowers

    mean squared distance to the nearest code / its value before + weight * sum of the pairs' terms / rows

over pairs of distinct rows with equal codes before the last level. Groups of more rows than codes are left out.
First the term is -log(1 - p), where p is the probability that both rows take the same code when codes are sampled by
softmax(-squared distance / temperature), with a falling temperature: this spreads large groups. Then it is the margin
by which the pair's best common code beats its best two different codes, where it does: this is exact for the
nearest-code rule. A pair that still collides gets a code of its own where one can be spared.

Source: ours. Refinement has the aim of joint codebook learning in additive quantization (Babenko and Lempitsky 2014,
Additive Quantization for Extreme Vector Compression), with greedy instead of searched codes. Collision resolution
replaces balancing at assignment (MME-SID and LETTER: Sinkhorn on colliding items), under which an item's codes depend
on which others collide, and new items have no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from sidflow.semantic_ids.equal_rows import group_rows
from sidflow.semantic_ids.kmeans import squared_distances
from sidflow.semantic_ids.residual_pass import residual_levels
from sidflow.semantic_ids.residual_quantizer import nearest_levels

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer


REFINE_RATE = 0.03  # of Adam, in units of the root mean square per dimension of a level's remainder
REVIVE_EVERY = 10  # steps of refinement

MAX_PARTNERS = 16  # pairs a row enters as their first, so that a group of n makes 16 n pairs rather than n^2 / 2
COLLISION_RATE = 0.04  # of Adam, in units of the residual's root mean square per dimension
FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.3, 0.01  # in units of the mean squared distance to the nearest code
MAX_PROBABILITY = 0.999  # of a common code: keeps the logarithm finite
MARGIN_WEIGHT = 10.0  # of the second term in units of the first one's
MARGIN = 0.02  # of the second term, in units of the mean squared distance to the nearest code
MAX_TRIED_CODES = 32  # codes tried to separate one pair


@torch.no_grad()
def refine_codebooks(quantizer: ResidualQuantizer, z: Float[Tensor, "n d"], steps: int) -> None:
    """Move all code vectors by `steps` of gradient descent over all rows; in the end every code is some row's.

    Args:
        quantizer: trained; changed in place.
        z: the encoder's output.
        steps: 0 = nothing moves.
    """
    codebooks = list(quantizer.codebooks)
    scales = _remainder_scales(codebooks, z)
    if not steps or not len(z) or scales[-1] <= 0:
        return
    refined = [codebook.detach().clone().requires_grad_() for codebook in codebooks]
    rates = [REFINE_RATE * scale for scale in scales]
    optimizer = torch.optim.Adam(
        [{"params": [codebook], "lr": rate} for codebook, rate in zip(refined, rates, strict=True)]
    )
    with torch.enable_grad():
        for step in range(steps):
            if step and step % REVIVE_EVERY == 0:
                revive_idle_codes(refined, z)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - 0.9 * step / steps)
            remainder = z
            for level in nearest_levels(z, refined):
                remainder = level.remainder
            loss = remainder.square().mean() / scales[-1] ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    revive_idle_codes(refined, z)
    for codebook, values in zip(codebooks, refined, strict=True):
        codebook.copy_(values)


@torch.no_grad()
def revive_idle_codes(codebooks: Sequence[Tensor], z: Float[Tensor, "n d"]) -> None:
    """Move every code that no row takes onto the residual of a row far from its code vector, coarse levels first.

    The only row of a code is not taken from it. A moved code may draw all rows of another one to itself; that one moves
    next. With fewer distinct rows than codes some codes stay idle.

    Args:
        codebooks: [k, d] each; changed in place.
        z: the rows to quantize.
    """

    def codes_after_revival(index: int, residual: Tensor) -> Tensor:
        codebook, before = codebooks[index], torch.inf
        while True:
            distances = squared_distances(residual, codebook)
            codes = distances.argmin(1)
            counts = torch.bincount(codes, minlength=len(codebook))
            idle = torch.nonzero(counts == 0)[:, 0]
            if not len(idle):
                return codes
            own_distances = distances.gather(1, codes[:, None])[:, 0]
            total = float(own_distances.sum(dtype=torch.float64))
            rows = _farthest_movable_rows(own_distances, codes, counts, len(idle))
            if not len(rows) or total >= before:  # the last move served no row better
                return codes
            codebook[idle[: len(rows)]] = residual[rows]
            before = total

    for _ in residual_levels(z, codebooks, codes_after_revival):
        pass


def _farthest_movable_rows(distances: Tensor, codes: Tensor, counts: Tensor, limit: int) -> Int[Tensor, " m"]:
    """Return up to `limit` rows, farthest from their code vectors first, that leave at least one row to each code."""
    remaining_counts, rows = counts.clone(), []
    for row in distances.argsort(descending=True, stable=True).tolist():
        if len(rows) == limit or distances[row] <= 0:
            break
        if remaining_counts[codes[row]] > 1:
            remaining_counts[codes[row]] -= 1
            rows.append(row)
    return torch.tensor(rows, dtype=torch.int64, device=distances.device)


def _remainder_scales(codebooks: Sequence[Tensor], z: Tensor) -> list[float]:
    """Return the root mean square per dimension of each level's remainder."""
    remainders = (level.remainder for level in nearest_levels(z, codebooks))
    return [float(remainder.square().mean()) ** 0.5 if remainder.numel() else 0.0 for remainder in remainders]


@torch.no_grad()
def resolve_collisions(
    quantizer: ResidualQuantizer, z: Float[Tensor, "n d"], steps: int = 100, weight: float = 5.0
) -> int:
    """Move code vectors of the last level so that rows take different codes; return how many still share all codes.

    Args:
        quantizer: trained; changed in place.
        z: the encoder's output, one row for every distinct input.
        steps: of gradient descent on each term; 0 = nothing moves.
        weight: of the pairs beside the distances.
    """
    residual, prefixes = _enter_last_level(quantizer, z)
    codebook = quantizer.codebooks[len(quantizer.codebooks) - 1]
    label = np.unique(prefixes, axis=0, return_inverse=True)[1].reshape(-1) if prefixes.size else np.zeros(len(z), int)
    last = _LastLevel(residual, codebook.detach().clone(), torch.from_numpy(label).to(z.device))
    pairs, idle = colliding_pairs(prefixes, len(codebook)), last.count_idle()
    if steps and len(pairs) and last.count_colliding():
        for soft in (True, False):
            last.set_codebook(_descend(last.residual, last.codebook, pairs, steps, weight, soft))
        if last.count_idle() > idle:
            revive_idle_codes([last.codebook], residual)
            last.set_codebook(last.codebook)
        _give_pairs_own_codes(last)
        codebook.copy_(last.codebook)
    return last.count_colliding()


def distinct_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """Return the first of equal rows each, in their order."""
    first = group_rows(rows.cpu().numpy()).first
    return rows[torch.from_numpy(np.sort(first)).to(rows.device)]


def colliding_pairs(codes: Int[np.ndarray, "n l"], max_group: int | None = None) -> Int[np.ndarray, "p 2"]:
    """Return pairs of rows with equal codes: each row with at most `MAX_PARTNERS` that follow it in its group.

    Args:
        codes: with no level all rows are one group.
        max_group: larger groups are left out, since as many codes cannot separate them.
    """
    order, label = np.arange(len(codes)), np.zeros(len(codes), dtype=np.int64)
    if codes.shape[1]:
        label = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
        order = label.argsort(kind="stable")
    if max_group is not None:
        order = order[np.bincount(label)[label[order]] <= max_group]
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, min(MAX_PARTNERS, len(order) - 1) + 1):
        same = label[order[step:]] == label[order[:-step]]
        pairs.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
    return np.concatenate(pairs)


class _Move(NamedTuple):
    """What undoes the move of one code vector."""

    code: int
    vector: Tensor
    distances: Tensor
    codes: Tensor


class _LastLevel:
    """The last codebook, the residuals that enter it and the codes they take; one code can be moved cheaply."""

    def __init__(self, residual: Tensor, codebook: Tensor, prefix: Tensor) -> None:
        self.residual, self.prefix = residual, prefix  # prefix: a number for the codes before the last level
        self.set_codebook(codebook)

    def set_codebook(self, codebook: Tensor) -> None:
        self.codebook = codebook
        self.distances = squared_distances(self.residual, codebook)
        self.codes = self.distances.argmin(1)

    def count_idle(self) -> int:
        return len(self.codebook) - len(self.codes.unique())

    def full_codes(self) -> Tensor:
        """Return a number for every row, the same for two rows exactly where all their codes are equal."""
        return self.prefix * len(self.codebook) + self.codes

    def count_colliding(self) -> int:
        counts = self.full_codes().unique(return_counts=True)[1]
        return int(counts[counts > 1].sum())

    def move(self, code: int, vector: Tensor) -> _Move:
        """Move one code vector and return what undoes it."""
        undo = _Move(code, self.codebook[code].clone(), self.distances[:, code].clone(), self.codes)
        self.codebook[code] = vector
        moved = squared_distances(self.residual, vector[None, :])[:, 0]
        self.distances[:, code] = moved
        own = self.distances.gather(1, self.codes[:, None])[:, 0]
        nearer = (moved < own) | ((moved == own) & (code < self.codes))  # of equally near codes the first is taken
        codes = torch.where(nearer, code, self.codes)
        left = (self.codes == code).nonzero()[:, 0]  # any code may be nearest to them now
        codes[left] = self.distances[left].argmin(1)
        self.codes = codes
        return undo

    def undo(self, move: _Move) -> None:
        self.codebook[move.code], self.distances[:, move.code], self.codes = move.vector, move.distances, move.codes


def _give_pairs_own_codes(last: _LastLevel) -> None:
    """Give colliding pairs a code of their own, taken from where the fewest rows use it.

    The code moves to the mirror image of the pair's common code vector in the plane half-way between the two rows.
    That plane is then the border of the two codes and separates the pair. A move is kept only if fewer rows collide
    after it and no more codes are idle.
    """
    colliding, idle = last.count_colliding(), last.count_idle()
    for left, right in colliding_pairs(last.full_codes().cpu().numpy()[:, None]).tolist():
        shared_code = int(last.codes[left])
        if int(last.codes[right]) != shared_code:
            continue
        direction = last.residual[left] - last.residual[right]
        direction = direction / direction.norm().clamp_min(1e-30)
        middle = (last.residual[left] + last.residual[right]) / 2
        mirrored = last.codebook[shared_code] + 2 * ((middle - last.codebook[shared_code]) @ direction) * direction
        usage = torch.bincount(last.codes, minlength=len(last.codebook))
        for code in usage.argsort(stable=True)[:MAX_TRIED_CODES].tolist():
            if code == shared_code:
                continue
            move = last.move(code, mirrored)
            remaining = last.count_colliding()
            if remaining < colliding and last.count_idle() <= idle:
                colliding = remaining
                break
            last.undo(move)


def _enter_last_level(quantizer: ResidualQuantizer, z: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return the residuals that enter the last level, and the codes before it."""
    residual, codes = z, []
    for level in nearest_levels(z, list(quantizer.codebooks)[:-1]):
        residual = level.remainder
        codes.append(level.codes.cpu().numpy())
    return residual, np.stack(codes, axis=1) if codes else np.empty((len(z), 0), dtype=np.int64)


def _descend(
    residual: Tensor, codebook: Tensor, pairs: np.ndarray, steps: int, weight: float, soft: bool
) -> Float[Tensor, "k d"]:
    """Return the codebook after `steps` on the first (`soft`) or the second term; on the second, its best state."""
    scale = float(squared_distances(residual, codebook).amin(1).mean())
    if scale <= 0:
        return codebook
    left, right = torch.from_numpy(pairs).to(residual.device).unbind(1)
    term, term_weight = (_common_code_loss, weight) if soft else (_margin_loss, MARGIN_WEIGHT * weight)
    rate = COLLISION_RATE * (scale / residual.shape[1]) ** 0.5
    fewest, best = len(pairs) + 1, codebook
    with torch.enable_grad():
        codebook = codebook.clone().requires_grad_()
        optimizer = torch.optim.Adam([codebook], lr=rate)
        norms = residual.square().sum(1, keepdim=True)
        for step in range(steps):
            progress = step / max(1, steps - 1)
            optimizer.param_groups[0]["lr"] = rate * (1.0 if soft else 1 - 0.9 * progress)
            distances = torch.addmm(norms + codebook.square().sum(1), residual, codebook.T, alpha=-2) / scale
            codes = distances.detach().argmin(1)
            together = int((codes[left] == codes[right]).sum())
            if soft or together <= fewest:
                fewest, best = together, codebook.detach().clone()
            loss = distances.amin(1).mean() + term_weight * term(distances, left, right, progress).sum() / len(residual)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return best


def _common_code_loss(distances: Tensor, left: Tensor, right: Tensor, progress: float) -> Tensor:
    """Return each pair's -log(1 - probability of a common code), at the temperature of `progress` (0 to 1)."""
    temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** progress
    probabilities = torch.softmax(-distances / temperature, 1)
    return -torch.log1p(-(probabilities[left] * probabilities[right]).sum(1).clamp_max(MAX_PROBABILITY))


def _margin_loss(distances: Tensor, left: Tensor, right: Tensor, progress: float) -> Tensor:
    """Return how much less each pair's best common code costs than its best two different ones, plus the margin."""
    near, codes = distances.topk(2, 1, largest=False)
    a, b = near[left], near[right]
    differ = codes[left, 0] != codes[right, 0]
    apart = torch.where(differ, a[:, 0] + b[:, 0], torch.minimum(a[:, 0] + b[:, 1], a[:, 1] + b[:, 0]))
    together = (distances[left] + distances[right]).amin(1)
    return torch.relu(apart - together + MARGIN)
