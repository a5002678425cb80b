"""Contrastive losses: matching rows attract, all others of the batch repel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


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
