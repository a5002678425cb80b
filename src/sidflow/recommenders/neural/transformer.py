"""Transformer encoders over item vectors: SASRec (causal) and BERT4Rec (both ways)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.recommenders.neural.batches import real
from sidflow.recommenders.neural.params import Bert4recParams, SasrecParams, TransformerParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Block(nn.Module):
    """Self-attention and a feed-forward network, each with a residual connection.

    Source: Kang and McAuley 2018 (arXiv 1808.09781), Eqs. 2-6. Deviations: normalised before (or after) sublayers
    on the whole input, GELU, a hidden layer wider than the states.
    """

    def __init__(self, settings: TransformerParams) -> None:
        """Make one block of `settings`' sizes."""
        super().__init__()
        d = settings.dimensions
        self.heads, self.pre_norm = settings.heads, settings.pre_norm
        self.attention_dropout = settings.attention_dropout
        self.mix = nn.Linear(d, 3 * d)
        self.join = nn.Linear(d, d)
        self.widen = nn.Linear(d, settings.feedforward * d)
        self.narrow = nn.Linear(settings.feedforward * d, d)
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.dropout = nn.Dropout(settings.dropout)

    def attend(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b 1 1 t"] | None) -> Float[Tensor, "b t d"]:
        """Attend to earlier places and oneself (no mask), or to the places that `mask` allows."""
        b, t, d = x.shape
        query, key, value = self.mix(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.attention_dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=drop, is_causal=mask is None
        )
        return self.join(mixed.transpose(1, 2).reshape(b, t, d))

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b 1 1 t"] | None) -> Float[Tensor, "b t d"]:
        """Return the block's output; `mask` None means causal."""
        first, second = self.norms
        if self.pre_norm:
            x = x + self.dropout(self.attend(first(x), mask))
            return x + self.dropout(self.narrow(functional.gelu(self.widen(second(x)))))
        x = first(x + self.dropout(self.attend(x, mask)))
        return second(x + self.dropout(self.narrow(functional.gelu(self.widen(x)))))


def _draw(module: nn.Module) -> None:
    """Start sublayers small beside the item vectors that they are added to (as BERT does)."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class Transformer(nn.Module):
    """Item vectors in, states out; a padded place is read by no other."""

    def __init__(self, settings: SasrecParams | Bert4recParams) -> None:
        """Make the network that `settings` describe."""
        super().__init__()
        d = settings.dimensions
        self.causal = isinstance(settings, SasrecParams)
        self.positions_from = settings.positions
        self.longest = settings.max_length
        if settings.positions != "none":
            self.positions = nn.Parameter(torch.randn(settings.max_length, d) * settings.init_std)
        self.blocks = nn.ModuleList([Block(settings) for _ in range(settings.blocks)])
        self.norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(settings.dropout)
        if not self.causal:
            self.mask_vector = nn.Parameter(torch.randn(d) * settings.init_std)
        self.blocks.apply(_draw)

    def forward(self, vectors: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """Return a state for each place; rows are filled from the left, `lengths` places each.

        A causal network needs no mask for padding on the right: no real place looks that way.
        """
        t = vectors.shape[1]
        x = vectors * vectors.shape[2] ** 0.5  # else positions and sublayers drown what item it is, and learning stalls
        if self.positions_from == "start":
            x = x + self.positions[:t]
        elif self.positions_from == "end":
            back = lengths[:, None] - 1 - torch.arange(t, device=lengths.device)
            x = x + functional.embedding(back.clamp(min=0), self.positions)
        x = self.dropout(x)
        mask = None if self.causal else real(lengths, t)[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
