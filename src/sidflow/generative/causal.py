"""A causal language model over ID tokens: every position of a history predicts the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaModel, PreTrainedModel

from sidflow.generative.params import CausalParams
from sidflow.generative.vocabulary import BOS, PAD, IdVocabulary
from sidflow.sequences.windows import padding_mask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass
class CausalPrompt:
    """Histories whose keys and values are in `cache`, then the positions that were added."""

    cache: Any
    mask: Bool[Tensor, "b t"]  # which positions of the history are real
    lengths: Int[Tensor, " b"]  # of the history, what precedes it included
    state: Float[Tensor, "b d"]


class CausalIdModel(nn.Module):
    """A decoder, its token table, and the tokens that stand before every history."""

    def __init__(self, decoder: PreTrainedModel, before: Tensor, id_offset: int, ids: IdVocabulary) -> None:
        """Take a decoder of transformers without its head; the output layer is its table of input tokens.

        Args:
            decoder: takes `inputs_embeds`, a four-dimensional mask, positions and a cache.
            before: tokens before every history, one at least.
            id_offset: row of the table that is token 0 of the ID vocabulary.
            ids: the ID vocabulary.
        """
        super().__init__()
        self.decoder, self.id_offset, self.ids = decoder, id_offset, ids
        self.before: Tensor
        self.register_buffer("before", before, persistent=False)
        self.first = [int(token) for token in ids.first]

    @property
    def table(self) -> nn.Embedding:
        """The vectors of tokens."""
        return cast("nn.Embedding", self.decoder.get_input_embeddings())

    def target_states(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s l d"]:
        """Return the states that predict each token of every item but the first.

        Args:
            tokens: of the items, padded on the right; states of padding mean nothing.
            lengths: of the histories, in items; not needed, since padding moves nothing before it.
        """
        length = tokens.shape[1] * tokens.shape[2]
        start = len(self.before) - 1
        states = self._states(tokens.flatten(1)[:, :-1])[:, start : start + length]
        return states.unflatten(1, tokens.shape[1:])[:, 1:]

    def read(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> CausalPrompt:
        """Return the prompt of histories; see `decoding.IdModel`."""
        cache = DynamicCache()
        states = self._states(tokens, cache)
        ends = lengths + len(self.before)
        rows = torch.arange(len(tokens), device=tokens.device)
        return CausalPrompt(cache, padding_mask(ends, states.shape[1]), ends, states[rows, ends - 1])

    def extend(
        self,
        prompt: CausalPrompt,
        tokens: Int[Tensor, "b p"],
        depths: Int[Tensor, " p"],
        visible: Bool[Tensor, "b p s"],
        *,
        keep: bool,
    ) -> Float[Tensor, "b p d"]:
        """Return the states after further positions; see `decoding.IdModel`."""
        history = prompt.mask[:, None, :].expand(-1, tokens.shape[1], -1)
        mask = torch.cat([history, visible], dim=2)[:, None]
        states = self.decoder(
            inputs_embeds=self.table(tokens + self.id_offset),
            attention_mask=mask,
            position_ids=prompt.lengths[:, None] + depths,
            past_key_values=prompt.cache,
            use_cache=True,
        ).last_hidden_state
        if not keep:
            prompt.cache.crop(-tokens.shape[1])
        return states

    def level_logits(self, states: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b k"]:
        """Return the logit of each code of `level` as the next token."""
        start = self.id_offset + self.first[level]
        return states @ self.table.weight[start : start + self.ids.sizes[level]].T

    def log_normaliser(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Return the log of the sum of exponentiated logits over the whole vocabulary."""
        return self._logits(states).float().logsumexp(-1)

    def _states(self, tokens: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """Return the states of `before` and `tokens`; padding stands behind, where it moves nothing."""
        vectors = torch.cat(
            [self.table(self.before).expand(len(tokens), -1, -1), self.table(tokens + self.id_offset)], dim=1
        )
        return self.decoder(inputs_embeds=vectors, past_key_values=cache, use_cache=cache is not None).last_hidden_state

    def _logits(self, states: Tensor) -> Tensor:
        return states @ self.table.weight.T


def scratch_causal_model(ids: IdVocabulary, params: CausalParams) -> CausalIdModel:
    """Return a small Llama over ID tokens alone, with random weights from the global generator."""
    config = LlamaConfig(
        vocab_size=ids.size,
        hidden_size=params.dimensions,
        intermediate_size=params.feedforward,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.heads,
        max_position_embeddings=(params.max_length + 1) * ids.levels + 1,
        attention_dropout=params.dropout,
        initializer_range=params.init_std,
        pad_token_id=PAD,
        bos_token_id=BOS,
    )
    decoder = LlamaModel(config)
    decoder.embed_tokens.padding_idx = None  # every row is also an output
    for layer in decoder.layers:
        attention, feedforward = cast("Any", layer.self_attn), cast("Any", layer.mlp)
        attention.o_proj = nn.Sequential(attention.o_proj, nn.Dropout(params.dropout))
        feedforward.down_proj = nn.Sequential(feedforward.down_proj, nn.Dropout(params.dropout))
    return CausalIdModel(decoder, torch.tensor([BOS]), 0, ids)
