"""Losses over pairs of embeddings: contrastive (InfoNCE) and maximum mean discrepancy (MMD).

DMESR aligns views by InfoNCE. The quantizer uses both. The softmax of recommenders is in `softmax`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


SMALLEST = 1e-12  # mean squared distance below which all rows are one point and the discrepancy is zero


def info_nce(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], temperature: float = 0.1) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss of matching rows by cosine; zero for fewer than two rows.

    Args:
        a: one side; row i matches row i of `b`.
        b: the other side.
        temperature: divides the cosines, > 0; the smaller, the more the hardest negatives count.

    Source: van den Oord et al. 2018 (arXiv 1807.03748), Eq. 4, in both directions as in CLIP (arXiv 2103.00020).
    """
    logits = functional.normalize(a, dim=-1) @ functional.normalize(b, dim=-1).T / temperature
    matching = torch.arange(len(a), device=a.device)
    if len(a) < 2:
        return logits.sum() * 0.0
    return 0.5 * (functional.cross_entropy(logits, matching) + functional.cross_entropy(logits.T, matching))


def mmd(
    x: Float[Tensor, "b d"],
    y: Float[Tensor, "b d"],
    bandwidths: Sequence[float] = (1.0,),
    estimator: Literal["published", "u_statistic"] = "published",
) -> Float[Tensor, ""]:
    """Return the squared discrepancy of two sets of equally many rows; zero for fewer than two.

    The kernel is exp(-||u - v||^2 / (w * m)), averaged over the `bandwidths` w, with m the mean squared distance
    of two of the 2b pooled rows (a constant to the gradient). Within a set the terms are unbiased: 1/(b(b-1))
    without the diagonal. Squared distances come from inner products of the centred rows, in float32 or wider, under
    autocast too: in bf16 near rows would be one.

    Args:
        x: one set.
        y: the other.
        bandwidths: factors w of the mean squared distance, each > 0.
        estimator: `published` takes the cross term over all b^2 pairs, matching rows included, and so is below
            zero for a set with itself; `u_statistic` leaves matching rows out and is exactly zero there.

    Source: MME-SID (arXiv 2509.02017), reconstruction loss; Gretton et al. 2012, Eqs. 3 and 4.
    """
    if len(x) < 2:
        return (x.sum() + y.sum()) * 0.0
    with full_precision(x.device):
        wide = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        value = _Discrepancy.apply(x.to(wide), y.to(wide), tuple(bandwidths), estimator == "published")
    assert value is not None
    return value


class _Discrepancy(torch.autograd.Function):
    """The value with its gradient, computed together: kernels are overwritten in place, none is stored."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, bandwidths: tuple[float, ...], with_matching: bool) -> Tensor:
        b = len(x)
        centre = (x.mean(0) + y.mean(0)) / 2
        x, y = x - centre, y - centre
        norms = {"x": x.square().sum(1), "y": y.square().sum(1)}
        # the pooled rows are centred: the sum over ordered pairs of ||u - v||^2 is 2 * 2b * the sum of norms
        mean_distance = 2 * (norms["x"].sum() + norms["y"].sum()) / (2 * b - 1)
        ctx.gradients = (torch.zeros_like(x), torch.zeros_like(y))
        if mean_distance < SMALLEST:
            return x.new_zeros(())
        rows, gradients = {"x": x, "y": y}, dict(zip("xy", ctx.gradients, strict=True))
        needs_gradient = dict(zip("xy", ctx.needs_input_grad[:2], strict=True))
        value = x.new_zeros(())
        cross_weight = 1 / b**2 if with_matching else 1 / (b * (b - 1))
        set_weight = 1 / (b * (b - 1))
        for left, right, weight in (("x", "x", set_weight), ("y", "y", set_weight), ("x", "y", -2 * cross_weight)):
            kernel, slope, unit = _kernel(rows[left], rows[right], norms[left], norms[right], mean_distance, bandwidths)
            if left == right or not with_matching:
                kernel.fill_diagonal_(0)
                slope.fill_diagonal_(0)
            value = value + weight * kernel.sum()
            del kernel
            step = -2 * weight * unit
            if needs_gradient[left]:  # d k(u, v) / du = -2 slope (u - v); within a set each row stands on both sides
                sides = 2.0 if left == right else 1.0
                gradient = slope.sum(1)[:, None] * rows[left] - slope @ rows[right]
                gradients[left].add_(gradient * (sides * step))
            if needs_gradient[right] and left != right:
                gradient = slope.sum(0)[:, None] * rows[right] - slope.T @ rows[left]
                gradients[right].add_(gradient * step)
        return value

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return grads[0] * ctx.gradients[0], grads[0] * ctx.gradients[1], None, None


def _kernel(
    u: Tensor, v: Tensor, u_norms: Tensor, v_norms: Tensor, mean_distance: Tensor, bandwidths: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kernel, a slope and its unit: minus the derivative by the squared distance is slope * unit."""
    distances = torch.addmm(u_norms[:, None] + v_norms[None, :], u, v.T, alpha=-2).clamp_min_(0).div_(-mean_distance)
    if len(bandwidths) == 1:
        kernel = distances.div_(bandwidths[0]).exp_()
        return kernel, kernel, 1 / (bandwidths[0] * mean_distance)
    kernel, slope = torch.zeros_like(distances), torch.zeros_like(distances)
    for factor in bandwidths:
        term = torch.exp(distances / factor)
        kernel += term / len(bandwidths)
        slope += term.div_(factor * len(bandwidths))
    return kernel, slope, 1 / mean_distance
