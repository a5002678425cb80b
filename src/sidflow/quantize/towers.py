"""Encoder and decoder towers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Tower(nn.Module):
    """An MLP with ReLU between its layers and none last, and optionally a linear map beside it, added at the end."""

    def __init__(self, widths: list[int], skip: bool) -> None:
        """Build layers widths[0] -> ... -> widths[-1]; with `skip` the last one starts at zero."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.skip = nn.Linear(widths[0], widths[-1], bias=False) if skip else None
        if skip:
            nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b d_in"]) -> Float[Tensor, "b d_out"]:
        """Return the outputs."""
        hidden = x
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        output = self.layers[-1](hidden)
        return output if self.skip is None else output + self.skip(x)


def start_as_principal_components(encoder: Tower, decoder: Tower, x: Float[Tensor, "n d"]) -> None:
    """Make the skips of a pair of towers a projection to the principal components of centred `x`, and back.

    With a code dimension below that of `x` this is the best linear autoencoder; further code dimensions start at 0.
    """
    assert encoder.skip is not None and decoder.skip is not None
    gram = (x.double().T @ x.double()).cpu()
    vectors = torch.linalg.eigh(gram)[1].flip(1)  # [d, d], largest first
    strongest = vectors.abs().argmax(0)
    vectors = vectors * torch.sign(
        vectors[strongest, torch.arange(len(vectors))]
    )  # a sign that does not depend on LAPACK
    used = min(encoder.skip.out_features, len(vectors))
    with torch.no_grad():
        encoder.skip.weight.zero_()
        encoder.skip.weight[:used] = vectors[:, :used].T.to(encoder.skip.weight)
        decoder.skip.weight.copy_(encoder.skip.weight.T)
