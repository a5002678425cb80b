"""Residual quantization: one code vector per level; Sinkhorn balancing of codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from sidflow.semantic_ids.kmeans import kmeans, nearest_codes, squared_distances
from sidflow.semantic_ids.residual_pass import ResidualLevel, residual_levels, scale_distances, sinkhorn_plan

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


Gradient = Literal["straight_through_total", "rotation", "per_level"]
USAGE_DECAY = 0.9  # of the running mean of each code's use


class QuantizedBatch(NamedTuple):
    """A quantized batch."""

    codes: Int[Tensor, "b l"]
    values: Float[Tensor, "b d"]  # sum of the code vectors, with the chosen gradient to the encoder
    codebook_loss: Float[Tensor, ""]  # mean over levels of mse(code vector, residual), residuals held constant
    commitment_loss: Float[Tensor, ""]  # the same with code vectors held constant


class ResidualQuantizer(nn.Module):
    """Residual quantizer with one codebook per level."""

    def __init__(self, counts: list[int], code_dim: int, gradient: Gradient = "straight_through_total") -> None:
        """Make codebooks of zeros; `initialise_with_kmeans` or `initialise_uniformly` fills them.

        Args:
            counts: codes of each level.
            code_dim: width of the code vectors.
            gradient: how the gradient of the sum of code vectors reaches the encoder's output.
                `straight_through_total`: unchanged; residuals are the encoder's output less constants, so that every
                level's commitment loss reaches the encoder.
                `rotation`: the same residuals, the gradient rotated and scaled (Fifty et al. 2024, arXiv 2410.06424).
                `per_level`: as published, straight-through at each level; residuals after the first have no gradient.
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
    def initialise_with_kmeans(
        self, z: Float[Tensor, "n d"], generator: torch.Generator, balanced: bool = False, first_level: int = 0
    ) -> None:
        """Fill the codebooks with k-means centres of the residuals of `z`.

        Args:
            z: the encoder's output.
            generator: draws the starts of k-means.
            balanced: bound the cluster sizes.
            first_level: codebooks before this level stay.
        """

        def fitted_codes(index: int, residual: Tensor) -> Tensor:
            codebook = self.codebooks[index]
            if index >= first_level:
                codebook.copy_(kmeans(residual, len(codebook), generator, balanced=balanced))
            return nearest_codes(residual, codebook)

        for _ in residual_levels(z, list(self.codebooks), fitted_codes):
            pass

    @torch.no_grad()
    def initialise_uniformly(self, generator: torch.Generator) -> None:
        """Fill the codebooks with values drawn uniformly from -1 / codes to 1 / codes."""
        for codebook in self.codebooks:
            samples = torch.rand(codebook.shape, generator=generator) * 2 - 1
            codebook.copy_(samples.to(codebook) / len(codebook))

    def forward(
        self, z: Float[Tensor, "b d"], epsilons: list[float] | None = None, iterations: int = 50, revive: float = 0.0
    ) -> QuantizedBatch:
        """Return codes, quantized vectors and losses of a batch.

        Args:
            z: the encoder's output.
            epsilons: Sinkhorn's epsilon of each level, 0 = nearest code; None = nearest at every level.
            iterations: Sinkhorn's.
            revive: codes used less than this share of 1 / codes move to a residual of this batch; 0 = none does.
        """

        @torch.no_grad()
        def choose_codes(index: int, residual: Tensor) -> Tensor:
            if revive:
                self._revive_dead_codes(index, residual, revive)
            epsilon = epsilons[index] if epsilons else 0.0
            codes = balanced_or_nearest_codes(residual, self.codebooks[index], epsilon, iterations)
            self._update_usage(index, codes)
            return codes

        codes, quantized, codebook_loss, commitment_loss = [], [], z.new_zeros(()), z.new_zeros(())
        for level in residual_levels(z, list(self.codebooks), choose_codes):
            residual, vectors = level.residual, level.quantized
            codebook_loss = codebook_loss + functional.mse_loss(vectors, residual.detach())
            commitment_loss = commitment_loss + functional.mse_loss(vectors.detach(), residual)
            straight_through = self.gradient == "per_level"
            level.quantized = residual + (vectors - residual).detach() if straight_through else vectors.detach()
            codes.append(level.codes)
            quantized.append(level.quantized)
        total = torch.stack(quantized).sum(0)
        if self.gradient == "straight_through_total":
            total = z + (total - z).detach()
        elif self.gradient == "rotation":
            total = rotate_gradient(z, total)
        levels = len(self.codebooks)
        return QuantizedBatch(torch.stack(codes, 1), total, codebook_loss / levels, commitment_loss / levels)

    def _update_usage(self, level: int, codes: Tensor) -> None:
        """While training, move the running use of a level's codes towards that of a batch."""
        if self.training:
            use = getattr(self, f"use_{level}")
            counts = torch.bincount(codes, minlength=len(use))
            use.mul_(USAGE_DECAY).add_(counts / max(1, len(codes)), alpha=1 - USAGE_DECAY)

    def _revive_dead_codes(self, level: int, residual: Tensor, threshold: float) -> None:
        """Move dead codes to rows of `residual` sampled by the global generator, whose state checkpoints keep."""
        use, codebook = getattr(self, f"use_{level}"), self.codebooks[level]
        dead = torch.nonzero(use < threshold / len(use))[:, 0][: len(residual)]
        if len(dead):
            sampled = torch.randperm(len(residual))[: len(dead)].to(residual.device)
            codebook[dead] = residual[sampled].to(codebook)  # bf16 under autocast
            use[dead] = 1.0 / len(use)


def nearest_levels(z: Float[Tensor, "n d"], codebooks: Sequence[Tensor]) -> Iterator[ResidualLevel[Tensor]]:
    """Yield the levels of the residual pass in which every level takes the nearest code."""
    return residual_levels(z, codebooks, lambda index, residual: nearest_codes(residual, codebooks[index]))


def balanced_or_nearest_codes(
    residual: Float[Tensor, "b d"], codebook: Float[Tensor, "k d"], epsilon: float, iterations: int
) -> Int[Tensor, " b"]:
    """Return each row's code: the largest entry of a balanced Sinkhorn plan, or with `epsilon` 0 the nearest code.

    Source: Sinkhorn balancing as LETTER uses it (Wang et al. 2024, arXiv 2405.07314); distances are scaled to [-1, 1].
    """
    if not epsilon or len(residual) < 2:
        return nearest_codes(residual, codebook)
    costs = scale_distances(squared_distances(residual, codebook).double())
    return sinkhorn_plan(torch.exp((costs.amin(1, keepdim=True) - costs) / epsilon), iterations).argmax(1)


def rotate_gradient(z: Float[Tensor, "b d"], target: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Return `target` as a rotation and scaling of `z`; to the gradient both are constants.

    Source: Fifty et al. 2024 (arXiv 2410.06424). Deviation: straight-through where either vector is zero or
    they point in opposite directions.
    """
    with torch.no_grad():
        z_length, length = z.norm(dim=1, keepdim=True), target.norm(dim=1, keepdim=True)
        u, q = z / z_length.clamp_min(1e-12), target / length.clamp_min(1e-12)
        middle = u + q
        usable = (z_length > 1e-9) & (length > 1e-9) & (middle.norm(dim=1, keepdim=True) > 1e-4)
        w = middle / middle.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rotated = z - 2 * (z * w).sum(1, keepdim=True) * w + 2 * (z * u).sum(1, keepdim=True) * q
    rotated = rotated * (length / z_length.clamp_min(1e-12))
    return torch.where(usable, rotated + (target - rotated).detach(), z + (target - z).detach())
