"""Encoders of histories: transformer (SASRec, eSASRec, BERT4Rec) and GRU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.sequences.windows import padding_mask
from sidflow.sequential.params import Bert4recParams, Gru4recParams, SasrecParams, TransformerParams

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class GruEncoder(nn.Module):
    """Encodes item vectors as states with a GRU.

    Source: Hidasi et al. 2016 (arXiv 1511.06939), section 3.1, and Hidasi and Karatzoglou 2018 (arXiv 1706.03847)
    for the softmax loss. Deviations: users' sequences in place of session-parallel batches; a linear map from the
    recurrent state to the item space.
    """

    def __init__(self, settings: Gru4recParams) -> None:
        """Make the network that `settings` describe."""
        super().__init__()
        self.causal = True
        self.longest = settings.max_length
        self.dropout = nn.Dropout(settings.dropout)
        inner = settings.dropout if settings.layers > 1 else 0.0
        self.gru = nn.GRU(settings.dimensions, settings.hidden, settings.layers, batch_first=True, dropout=inner)
        self.output = nn.Linear(settings.hidden, settings.dimensions)

    def forward(self, vectors: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """Return a state for each position; padding is on the right and changes no state before it."""
        states, _ = self.gru(self.dropout(vectors * vectors.shape[2] ** 0.5))  # large enough to move the gates
        return self.output(self.dropout(states))


class TransformerBlock(nn.Module):
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
        self.qkv_proj = nn.Linear(d, 3 * d)
        self.o_proj = nn.Linear(d, d)
        self.up_proj = nn.Linear(d, settings.feedforward * d)
        self.down_proj = nn.Linear(settings.feedforward * d, d)
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.dropout = nn.Dropout(settings.dropout)

    def attend(self, x: Float[Tensor, "b t d"], mask: Tensor | None) -> Float[Tensor, "b t d"]:
        """Return self-attention over earlier positions and oneself (no mask), or as `mask` allows and biases it."""
        b, t, d = x.shape
        query, key, value = self.qkv_proj(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.attention_dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=drop, is_causal=mask is None
        )
        return self.o_proj(attended.transpose(1, 2).reshape(b, t, d))

    def forward(self, x: Float[Tensor, "b t d"], mask: Tensor | None) -> Float[Tensor, "b t d"]:
        """Return the block's output; `mask` None means causal, else it is boolean or added to attention's logits."""
        first, second = self.norms
        if self.pre_norm:
            x = x + self.dropout(self.attend(first(x), mask))
            return x + self.dropout(self.down_proj(functional.gelu(self.up_proj(second(x)))))
        x = first(x + self.dropout(self.attend(x, mask)))
        return second(x + self.dropout(self.down_proj(functional.gelu(self.up_proj(x)))))


class GatedTransformerBlock(TransformerBlock):
    """A block whose input gates, dimension by dimension, how much of each sublayer is added to it.

        x + sublayer(norm(x)) * sigmoid(gate(x))

    Source: Borisyuk et al. 2025 (LiGR, arXiv 2502.03417); with SwiGLU (Shazeer 2020, arXiv 2002.05202)
    for the feed-forward network, as eSASRec has it (Tikhonovich et al. 2025, arXiv 2508.06450). Deviation: linear
    maps have biases.
    """

    def __init__(self, settings: TransformerParams) -> None:
        """Make one block of `settings`' sizes."""
        super().__init__(settings)
        d = settings.dimensions
        self.gate_proj = nn.Linear(d, settings.feedforward * d)
        self.sublayer_gates = nn.ModuleList([nn.Linear(d, d), nn.Linear(d, d)])

    def forward(self, x: Float[Tensor, "b t d"], mask: Tensor | None) -> Float[Tensor, "b t d"]:
        """Return the block's output; `mask` as for a plain block."""
        first, second = self.norms
        attention_gate, feedforward_gate = self.sublayer_gates
        x = x + self.dropout(self.attend(first(x), mask)) * torch.sigmoid(attention_gate(x))
        normed = second(x)
        output = self.down_proj(functional.silu(self.gate_proj(normed)) * self.up_proj(normed))
        return x + self.dropout(output) * torch.sigmoid(feedforward_gate(x))


BLOCKS = {"plain": TransformerBlock, "ligr": GatedTransformerBlock}


def _initialise(module: nn.Module) -> None:
    """Start sublayers small beside the item vectors that they are added to (as BERT does)."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _initialise_as_identity(block: TransformerBlock) -> None:
    """Start attention's value and output maps as the identity.

    A masked position has no vector of its own. With random attention maps all masked positions get similar states, and
    training stays at the level of popularity for tens of epochs.
    """
    d = block.o_proj.in_features
    with torch.no_grad():
        block.qkv_proj.weight[2 * d :] = torch.eye(d)
        block.o_proj.weight.copy_(torch.eye(d))


def _alibi_biases(blocks: int, heads: int, longest: int) -> Float[Tensor, "blocks heads distances"]:
    """Return attention biases that fall with distance, steeper for the first heads.

    Source: Press et al. 2022 (ALiBi, arXiv 2108.12409), section 3. Deviations: the first head's slope is 1, both
    directions fall, and they are a start to learn from.
    """
    distance = torch.arange(1 - longest, longest).abs()
    slope = 2.0 ** (-8 * torch.arange(heads) / heads)
    return (-slope[:, None] * distance).expand(blocks, -1, -1).clone()


class TransformerEncoder(nn.Module):
    """Encodes item vectors as states; no position attends to padding."""

    def __init__(self, settings: SasrecParams | Bert4recParams) -> None:
        """Make the network that `settings` describe."""
        super().__init__()
        d = settings.dimensions
        self.causal = isinstance(settings, SasrecParams)
        self.positions_from = settings.positions
        self.longest = settings.max_length
        if settings.positions in ("start", "end"):
            self.positions = nn.Parameter(torch.randn(settings.max_length, d) * settings.init_std)
        if settings.positions == "relative":
            self.distances = nn.Parameter(_alibi_biases(settings.blocks, settings.heads, settings.max_length))
        blocks = [BLOCKS[settings.block](settings) for _ in range(settings.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks.apply(_initialise)
        if not self.causal:
            self.mask_vector = nn.Parameter(torch.zeros(d))
            for block in blocks:
                _initialise_as_identity(block)

    def forward(self, vectors: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """Return a state for each position; rows are padded on the right, to `lengths` items each.

        A causal network needs no padding mask: no item attends to its right.
        """
        t = vectors.shape[1]
        # without this factor positions and sublayers outweigh the item vectors, and learning stalls
        x = vectors * vectors.shape[2] ** 0.5
        if self.positions_from == "start":
            x = x + self.positions[:t]
        elif self.positions_from == "end":
            steps_from_end = lengths[:, None] - 1 - torch.arange(t, device=lengths.device)
            x = x + functional.embedding(steps_from_end.clamp(min=0), self.positions)
        x = self.dropout(x)
        for block, mask in zip(self.blocks, self.masks(lengths, t), strict=True):
            x = block(x, mask)
        return self.norm(x)

    def masks(self, lengths: Int[Tensor, " b"], t: int) -> list[Tensor | None]:
        """Return each block's attention mask, with its weights of distances (None: causal, no weights)."""
        padding = None if self.causal else padding_mask(lengths, t)[:, None, None, :]
        if self.positions_from != "relative":
            return [padding] * len(self.blocks)
        steps = torch.arange(t, device=lengths.device)
        offsets = steps[None, :] - steps[:, None]
        visible = (offsets <= 0)[None, None] if padding is None else padding
        bias = self.distances[..., offsets + self.longest - 1]
        return [block_bias[None].masked_fill(~visible, -torch.inf) for block_bias in bias]
