"""Maximum mean discrepancy between two sets of rows, in Gram form: no tensor is larger than the rows or (b, b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SMALLEST = 1e-12  # mean squared distance below which all rows are one point and the discrepancy is zero


def mmd(
    x: Float[Tensor, "b d"],
    y: Float[Tensor, "b d"],
    bandwidths: Sequence[float] = (1.0,),
    estimator: Literal["published", "u_statistic"] = "published",
) -> Float[Tensor, ""]:
    """Return the squared discrepancy of two sets of equally many rows; zero for fewer than two.

    The kernel is exp(-||u - v||^2 / (w * m)), averaged over the `bandwidths` w, with m the mean squared distance
    of two of the 2b pooled rows (a constant to the gradient). Within a set the terms are unbiased: 1/(b(b-1))
    without the diagonal. Squared distances come from inner products of the centred rows.

    Args:
        x: one set.
        y: the other.
        bandwidths: factors w of the mean squared distance, each > 0.
        estimator: `published` takes the cross term over all b^2 pairs, matching rows included, and so is below
            zero for a set with itself; `u_statistic` leaves matching rows out and is exactly zero there.

    Source: MME-SID (arXiv 2509.02017), reconstruction loss; Gretton et al. 2012, Eqs. 3 and 4.
    """
    b = len(x)
    if b < 2:
        return (x.sum() + y.sum()) * 0.0
    with torch.no_grad():
        centre = (x.mean(0) + y.mean(0)) / 2
    x, y = x - centre, y - centre
    x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    with torch.no_grad():  # the pooled rows are centred: sum over pairs of ||u - v||^2 = 2 * 2b * sum of norms
        mean_distance = 2 * (x_norms.sum() + y_norms.sum()) / (2 * b - 1)
    if mean_distance < SMALLEST:
        return (x.sum() + y.sum()) * 0.0
    scale = [-1.0 / (w * mean_distance) for w in bandwidths]

    def kernel(u: Tensor, v: Tensor, u_norms: Tensor, v_norms: Tensor) -> Tensor:
        distances = torch.addmm(u_norms[:, None] + v_norms[None, :], u, v.T, alpha=-2).clamp_min(0)
        total = torch.exp(distances * scale[0])
        for factor in scale[1:]:
            total = total + torch.exp(distances * factor)
        return total / len(scale)

    within = x.new_zeros(())
    for k in (kernel(x, x, x_norms, x_norms), kernel(y, y, y_norms, y_norms)):
        within = within + (k.sum() - k.diagonal().sum()) / (b * (b - 1))
    across = kernel(x, y, x_norms, y_norms)
    if estimator == "u_statistic":
        return within - 2 * (across.sum() - across.diagonal().sum()) / (b * (b - 1))
    return within - 2 * across.mean()
