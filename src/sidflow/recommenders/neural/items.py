"""Item embedding modules: each returns one vector an item, and any encoder takes any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class ItemEmbedding(nn.Module):
    """The interface of item embedding modules."""

    count: int  # n, the core items

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all."""
        raise NotImplementedError

    def auxiliary(self, batch: Callable[[], Int[Tensor, " k"]]) -> dict[str, tuple[float, Tensor]]:
        """Return further losses over the distinct items that `batch` returns, by name, each with its weight."""
        return {}


class IdEmbedding(ItemEmbedding):
    """One free vector per item."""

    def __init__(self, count: int, dimensions: int, std: float = 0.02) -> None:
        """Sample `count` vectors from a normal distribution with deviation `std`, by the global generator."""
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.randn(count, dimensions) * std)

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all."""
        return self.weight if ids is None else functional.embedding(ids, self.weight)
