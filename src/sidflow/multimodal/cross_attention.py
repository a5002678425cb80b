"""Cross-attention between two sides of an item, of which either may have more vectors: DMESR's fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def mean_of_present(vectors: Float[Tensor, "k a d"], present: Bool[Tensor, "k a"]) -> Float[Tensor, "k d"]:
    """Return the mean of each item's present vectors; zero where it has none."""
    return (vectors * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1)


class CrossAttention(nn.Module):
    """One side of an item attends to the other: residual, layer norm, mean over the present vectors.

    A score is bilinear in both sides, and what is attended to is linear in the other one. So the weights multiply the
    side with fewer vectors, and the side with more meets only the products. The result is that of projecting both.
    """

    def __init__(self, dimensions: int, heads: int, dropout: float) -> None:
        """Make it `dimensions` wide."""
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dimensions, dimensions)
        self.k_proj = nn.Linear(dimensions, dimensions, bias=False)  # a bias of keys would change no softmax
        self.v_proj = nn.Linear(dimensions, dimensions)
        self.o_proj = nn.Linear(dimensions, dimensions)
        nn.init.zeros_(self.o_proj.weight)
        nn.init.zeros_(self.o_proj.bias)
        self.norm = nn.LayerNorm(dimensions)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        own: Float[Tensor, "k a d"],
        own_present: Bool[Tensor, "k a"],
        other: Float[Tensor, "k c d"],
        other_present: Bool[Tensor, "k c"],
    ) -> Float[Tensor, "k d"]:
        """Return one vector an item; zero where it has no `own`, unattended where it has no `other`."""
        has_other = other_present.any(1)
        allowed = (other_present | ~has_other[:, None])[:, None, None, :]  # a softmax over nothing has no value
        attend = self._from_few if own.shape[1] <= other.shape[1] else self._from_many
        attended = attend(own, other, allowed) * has_other[:, None, None]
        return mean_of_present(self.norm(own + self.dropout(attended)), own_present)

    def _from_few(
        self, own: Float[Tensor, "k a d"], other: Float[Tensor, "k c d"], allowed: Bool[Tensor, "k 1 1 c"]
    ) -> Float[Tensor, "k a d"]:
        """Return what `own`, with fewer vectors, attends to: q W_k meets `other`, and W_v its weighted sums."""
        k, a, d = own.shape
        query = self._by_head(self._heads(self.q_proj(own)), self._weights(self.k_proj))  # k, a, h, d
        scores = (query.flatten(1, 2) @ other.transpose(1, 2)).view(k, a, self.heads, -1)
        weights = self._softmax(scores, allowed)
        sums = (weights.flatten(1, 2) @ other).view(k, a, self.heads, d)
        values = self._by_head(sums, self._weights(self.v_proj).transpose(1, 2))  # k, a, h, w
        return self.o_proj(values.reshape(k, a, d) + self.v_proj.bias)

    def _from_many(
        self, own: Float[Tensor, "k a d"], other: Float[Tensor, "k c d"], allowed: Bool[Tensor, "k 1 1 c"]
    ) -> Float[Tensor, "k a d"]:
        """Return what `own`, with more vectors, attends to: it meets k W_q, and the weights meet v W_o."""
        k, a, d = own.shape
        key, value = self._heads(self.k_proj(other)), self._heads(self.v_proj(other))  # k, c, h, w
        keys = self._by_head(key, self._weights(self.q_proj)).transpose(1, 2).reshape(k, -1, d)  # k, h * c, d
        bias = (key * self.q_proj.bias.view(self.heads, -1)).sum(-1).transpose(1, 2)[:, None]  # k, 1, h, c
        weights = self._softmax((own @ keys.transpose(1, 2)).view(k, a, self.heads, -1) + bias, allowed)
        out = self.o_proj.weight.view(d, self.heads, -1).permute(1, 2, 0)  # h, w, d
        outputs = self._by_head(value, out).transpose(1, 2).reshape(k, -1, d)  # k, h * c, d
        return weights.flatten(2) @ outputs + self.o_proj.bias

    def _heads(self, rows: Float[Tensor, "k m d"]) -> Float[Tensor, "k m h w"]:
        return rows.unflatten(2, (self.heads, -1))

    def _weights(self, project: nn.Linear) -> Float[Tensor, "h w d"]:
        return project.weight.view(self.heads, -1, project.in_features)

    def _by_head(self, rows: Float[Tensor, "k m h i"], weights: Float[Tensor, "h i o"]) -> Float[Tensor, "k m h o"]:
        """Return the rows of each head times its weights, one large product a head."""
        products = rows.flatten(0, 1).transpose(0, 1) @ weights  # h, k * m, o
        return products.transpose(0, 1).unflatten(0, rows.shape[:2])

    def _softmax(self, scores: Float[Tensor, "k a h c"], allowed: Bool[Tensor, "k 1 1 c"]) -> Float[Tensor, "k a h c"]:
        width = self.q_proj.out_features // self.heads
        return (scores * width**-0.5).masked_fill(~allowed, -torch.inf).softmax(-1)
