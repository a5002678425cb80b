"""Residual quantization: a sum of one code vector per level, each nearest to what the levels before left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from sidflow.quantize.kmeans import kmeans, squared_distances
from sidflow.quantize.sinkhorn import balance, scaled

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Gradient = Literal["straight_through_total", "rotation", "per_level"]
MEMORY = 0.9  # of the running use of codes


class Quantized(NamedTuple):
    """What a batch became."""

    codes: Int[Tensor, "b l"]
    values: Float[Tensor, "b d"]  # sum of the code vectors, with the chosen gradient to the encoder
    codebook: Float[Tensor, ""]  # mean over levels of mse(code vector, residual), residuals held constant
    commitment: Float[Tensor, ""]  # the same with code vectors held constant


class ResidualQuantizer(nn.Module):
    """Codebooks of one modality."""

    def __init__(self, counts: list[int], code_dim: int, gradient: Gradient = "straight_through_total") -> None:
        """Make codebooks of `counts[l]` codes; `initialise` or `randomise` fills them.

        The gradient to the encoder is `straight_through_total`: the sum of code vectors passes it on as it is, and
        each level's residual is the encoder's output less constants, so that every level's commitment reaches it;
        `rotation`: the same residuals, the sum passes it on rotated and scaled (Fifty et al. 2024,
        arXiv 2410.06424); `per_level`: as published, each level straight-through on its residual, which leaves
        residuals after the first without a gradient.
        """
        super().__init__()
        self.gradient = gradient
        self.codebooks = nn.ParameterList(nn.Parameter(torch.zeros(count, code_dim)) for count in counts)
        for level, count in enumerate(counts):
            self.register_buffer(f"use_{level}", torch.full((count,), 1.0 / count))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def next_step(self) -> int:
        """Count a training step and return how many there were."""
        steps = self.get_buffer("steps")
        steps += 1
        return int(steps)

    @torch.no_grad()
    def initialise(
        self, z: Float[Tensor, "n d"], generator: torch.Generator, balanced: bool = False, first: int = 0
    ) -> None:
        """Fill each level from `first` on with k-means centres of what the levels before leave of `z`."""
        residual = z.clone()
        for level, codebook in enumerate(self.codebooks):
            if level >= first:
                codebook.copy_(kmeans(residual, len(codebook), generator, balanced=balanced))
            residual = residual - codebook[squared_distances(residual, codebook).argmin(1)]

    @torch.no_grad()
    def randomise(self, generator: torch.Generator) -> None:
        """Fill each level uniformly in +-1 / codes, the field's habit."""
        for codebook in self.codebooks:
            drawn = torch.rand(codebook.shape, generator=generator) * 2 - 1
            codebook.copy_(drawn.to(codebook) / len(codebook))

    def forward(
        self, z: Float[Tensor, "b d"], epsilons: list[float] | None = None, iterations: int = 50, revive: float = 0.0
    ) -> Quantized:
        """Quantize the rows of `z`.

        Args:
            z: the encoder's output.
            epsilons: Sinkhorn's, per level, 0 = nearest code; None = nearest everywhere.
            iterations: Sinkhorn's.
            revive: codes used less than this share of 1 / codes move to a residual of this batch; 0 = none does.
        """
        codes, chosen, codebook_loss, commitment = [], [], z.new_zeros(()), z.new_zeros(())
        residual = z
        for level, codebook in enumerate(self.codebooks):
            if revive:
                self._revive(level, residual.detach(), revive)
            with torch.no_grad():
                code = _select(residual, codebook, epsilons[level] if epsilons else 0.0, iterations)
                self._count(level, code)
            vector = codebook[code]
            codebook_loss = codebook_loss + functional.mse_loss(vector, residual.detach())
            commitment = commitment + functional.mse_loss(vector.detach(), residual)
            passed = residual + (vector - residual).detach() if self.gradient == "per_level" else vector.detach()
            residual = residual - passed
            codes.append(code)
            chosen.append(passed)
        total = torch.stack(chosen).sum(0)
        if self.gradient == "straight_through_total":
            total = z + (total - z).detach()
        elif self.gradient == "rotation":
            total = rotated(z, total)
        levels = len(self.codebooks)
        return Quantized(torch.stack(codes, 1), total, codebook_loss / levels, commitment / levels)

    @torch.no_grad()
    def _count(self, level: int, code: Tensor) -> None:
        if self.training:
            use = getattr(self, f"use_{level}")
            use.mul_(MEMORY).add_(torch.bincount(code, minlength=len(use)) / max(1, len(code)), alpha=1 - MEMORY)

    @torch.no_grad()
    def _revive(self, level: int, residual: Tensor, below: float) -> None:
        """Move dead codes to rows of `residual` drawn by the global generator (checkpoints keep that one)."""
        use, codebook = getattr(self, f"use_{level}"), self.codebooks[level]
        dead = torch.nonzero(use < below / len(use))[:, 0][: len(residual)]
        if len(dead):
            drawn = torch.randperm(len(residual))[: len(dead)].to(residual.device)
            codebook[dead] = residual[drawn].to(codebook)  # bf16 under autocast
            use[dead] = 1.0 / len(use)


def rotated(z: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Return `target` as a rotation and scaling of `z` that are constants to the gradient.

    Source: Fifty et al. 2024 (arXiv 2410.06424), Eq. 4. Where either is zero or they point opposite ways, the
    gradient passes straight through.
    """
    with torch.no_grad():
        z_length, length = z.norm(dim=1, keepdim=True), target.norm(dim=1, keepdim=True)
        u, q = z / z_length.clamp_min(1e-12), target / length.clamp_min(1e-12)
        middle = u + q
        usable = (z_length > 1e-9) & (length > 1e-9) & (middle.norm(dim=1, keepdim=True) > 1e-4)
        w = middle / middle.norm(dim=1, keepdim=True).clamp_min(1e-12)
    turned = z - 2 * (z * w).sum(1, keepdim=True) * w + 2 * (z * u).sum(1, keepdim=True) * q
    turned = turned * (length / z_length.clamp_min(1e-12))
    return torch.where(usable, turned + (target - turned).detach(), z + (target - z).detach())


def _select(residual: Tensor, codebook: Tensor, epsilon: float, iterations: int) -> Tensor:
    distances = squared_distances(residual, codebook)
    if not epsilon or len(residual) < 2:
        return distances.argmin(1)
    costs = scaled(distances.double())
    return balance(torch.exp((costs.amin(1, keepdim=True) - costs) / epsilon), iterations).argmax(1)
