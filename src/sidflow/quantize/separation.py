"""Parting near duplicates: code vectors of the last level move a little, so that distinct items share no ID.

k-means spends its codes on large residuals; two items that differ by less than the cells of the last level are wide
share every code. Such pairs are few, code vectors are many, and where the border between two codes runs is free. So
the last level's codes move by gradient descent on

    mean squared distance to the nearest code / its value before + weight * sum of the pairs' terms / rows

over pairs of distinct inputs with the same codes before that level, where no more rows have them than there are
codes. First the term is -log(1 - s), s the chance that both take the same code when codes are drawn by
softmax(-squared distance / temperature), with a falling temperature: crowds unfold. Then it is how much further the
pair's nearest two different codes are than its nearest common one, plus a margin, where that is above 0: this is exact
for the plain nearest-code rule. What then still collides gets a code of its own where one can be spared.

Source: ours. What it replaces is balancing at assignment (MME-SID, LETTER: Sinkhorn on colliding items), which leaves
the codes of an item depend on who else collides, and new items without a rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sidflow.quantize.kmeans import squared_distances
from sidflow.quantize.refinement import revive

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from sidflow.quantize.residual import ResidualQuantizer

PARTNERS = 16  # pairs an item enters as their first, so that a crowd of n makes 16 n pairs rather than n^2 / 2
RATE = 0.04  # of Adam, in units of the residual's root mean square per dimension
WARMEST, COLDEST = 0.3, 0.01  # temperature, in units of the mean squared distance to the nearest code
SUREST = 0.999  # chances count at most as this one: the logarithm stays finite
SHARPER = 10.0  # weight of the second term in units of the first one's
MARGIN = 0.02  # of the second term, in units of the mean squared distance to the nearest code

TRIES = 32  # codes that may be moved for one pair


@torch.no_grad()
def separate(quantizer: ResidualQuantizer, z: Float[Tensor, "n d"], steps: int = 100, weight: float = 5.0) -> int:
    """Move code vectors of the last level so that rows take different codes; return how many still share all.

    Args:
        quantizer: trained; changed in place.
        z: the encoder's output, one row for every distinct input.
        steps: of gradient descent on each term; 0 = nothing moves.
        weight: of the pairs beside the distances.
    """
    residual, before = _last(quantizer, z)
    codebook = quantizer.codebooks[len(quantizer.codebooks) - 1]
    label = np.unique(before, axis=0, return_inverse=True)[1].reshape(-1) if before.size else np.zeros(len(z), int)
    place = _Placement(residual, codebook.detach().clone(), torch.from_numpy(label).to(z.device))
    pairs, idle = colliding_pairs(before, len(codebook)), place.idle()
    if steps and len(pairs) and place.colliding():
        for soft in (True, False):
            place.settle(_descended(place.residual, place.codebook, pairs, steps, weight, soft))
        if place.idle() > idle:
            revive([place.codebook], residual)
            place.settle(place.codebook)
        _split(place)
        codebook.copy_(place.codebook)
    return place.colliding()


class _Placement:
    """Rows, the last codebook, and who takes which code; one code at a time can move cheaply."""

    def __init__(self, residual: Tensor, codebook: Tensor, label: Tensor) -> None:
        self.residual, self.label = residual, label  # label: rows with equal codes before the last
        self.settle(codebook)

    def settle(self, codebook: Tensor) -> None:
        self.codebook = codebook
        self.distances = squared_distances(self.residual, codebook)
        self.code = self.distances.argmin(1)

    def idle(self) -> int:
        return len(self.codebook) - len(self.code.unique())

    def groups(self) -> Tensor:
        """Return for every row a number that rows with all codes equal have in common."""
        return self.label * len(self.codebook) + self.code

    def colliding(self) -> int:
        counts = self.groups().unique(return_counts=True)[1]
        return int(counts[counts > 1].sum())

    def move(self, code: int, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move one code vector and return what brings it back."""
        kept = self.codebook[code].clone(), self.distances[:, code].clone(), self.code
        self.codebook[code] = vector
        self.distances[:, code] = squared_distances(self.residual, vector[None, :])[:, 0]
        self.code = self.distances.argmin(1)
        return kept

    def back(self, code: int, kept: tuple[Tensor, Tensor, Tensor]) -> None:
        self.codebook[code], self.distances[:, code], self.code = kept


def _split(place: _Placement) -> None:
    """Give a colliding pair a code of its own, taken from where it is missed least, wherever that helps.

    The code moves to the mirror image of the pair's common code vector in the plane half-way between the two rows:
    then that plane is the border of the two codes, and parts the pair. Kept only if fewer rows collide after it and
    no more codes are idle.
    """
    colliding, idle = place.colliding(), place.idle()
    for left, right in colliding_pairs(place.groups().cpu().numpy()[:, None]).tolist():
        shared = int(place.code[left])
        if int(place.code[right]) != shared:
            continue
        direction = place.residual[left] - place.residual[right]
        direction = direction / direction.norm().clamp_min(1e-30)
        middle = (place.residual[left] + place.residual[right]) / 2
        mirrored = place.codebook[shared] + 2 * ((middle - place.codebook[shared]) @ direction) * direction
        use = torch.bincount(place.code, minlength=len(place.codebook))
        for code in use.argsort(stable=True)[:TRIES].tolist():
            if code == shared:
                continue
            kept = place.move(code, mirrored)
            after = place.colliding()
            if after < colliding and place.idle() <= idle:
                colliding = after
                break
            place.back(code, kept)


def first_of_each(rows: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
    """Return the first of equal rows each, in their order."""
    found = np.unique(rows.cpu().numpy(), axis=0, return_index=True)[1]
    return rows[torch.from_numpy(np.sort(found)).to(rows.device)]


def colliding_pairs(codes: Int[np.ndarray, "n l"], most: int | None = None) -> Int[np.ndarray, "p 2"]:
    """Return pairs of rows with equal codes: each row with at most `PARTNERS` that follow it in its group.

    Groups of more than `most` rows are left out: as many codes cannot part them, and trying would spoil the codes.
    """
    order, label = np.arange(len(codes)), np.zeros(len(codes), dtype=np.int64)
    if codes.shape[1]:  # before the first level all rows are one group
        label = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
        order = label.argsort(kind="stable")
    if most is not None:
        order = order[np.bincount(label)[label[order]] <= most]
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, min(PARTNERS, len(order) - 1) + 1):
        same = label[order[step:]] == label[order[:-step]]
        found.append(np.stack([order[:-step][same], order[step:][same]], axis=1))
    return np.concatenate(found)


def _last(quantizer: ResidualQuantizer, z: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return what enters the last level, and the codes before it."""
    residual, codes = z, []
    for codebook in list(quantizer.codebooks)[:-1]:
        code = squared_distances(residual, codebook).argmin(1)
        residual = residual - codebook[code]
        codes.append(code.cpu().numpy())
    return residual, np.stack(codes, axis=1) if codes else np.empty((len(z), 0), dtype=np.int64)


def _descended(
    residual: Tensor, codebook: Tensor, pairs: np.ndarray, steps: int, weight: float, soft: bool
) -> Float[Tensor, "k d"]:
    """Return the codebook after `steps` on one of the terms; on the second one, its best state."""
    scale = float(squared_distances(residual, codebook).amin(1).mean())
    if scale <= 0:
        return codebook
    left, right = torch.from_numpy(pairs).to(residual.device).unbind(1)
    term, share = (_chance, weight) if soft else (_detour, SHARPER * weight)
    rate = RATE * (scale / residual.shape[1]) ** 0.5
    fewest, kept = len(pairs) + 1, codebook
    with torch.enable_grad():
        codebook = codebook.clone().requires_grad_()
        optimizer = torch.optim.Adam([codebook], lr=rate)
        norms = residual.square().sum(1, keepdim=True)
        for step in range(steps):
            done = step / max(1, steps - 1)
            optimizer.param_groups[0]["lr"] = rate * (1.0 if soft else 1 - 0.9 * done)
            distances = torch.addmm(norms + codebook.square().sum(1), residual, codebook.T, alpha=-2) / scale
            code = distances.detach().argmin(1)
            together = int((code[left] == code[right]).sum())
            if soft or together <= fewest:
                fewest, kept = together, codebook.detach().clone()
            loss = distances.amin(1).mean() + share * term(distances, left, right, done).sum() / len(residual)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return kept


def _chance(distances: Tensor, left: Tensor, right: Tensor, done: float) -> Tensor:
    chances = torch.softmax(-distances / (WARMEST * (COLDEST / WARMEST) ** done), 1)
    return -torch.log1p(-(chances[left] * chances[right]).sum(1).clamp_max(SUREST))


def _detour(distances: Tensor, left: Tensor, right: Tensor, done: float) -> Tensor:
    near, code = distances.topk(2, 1, largest=False)
    a, b = near[left], near[right]
    differ = code[left, 0] != code[right, 0]
    apart = torch.where(differ, a[:, 0] + b[:, 0], torch.minimum(a[:, 0] + b[:, 1], a[:, 1] + b[:, 0]))
    together = (distances[left] + distances[right]).amin(1)
    return torch.relu(apart - together + MARGIN)
