"""TIGER: T5's encoder reads the history as ID tokens, its decoder writes the next ID.

Source: TIGER (arXiv 2305.05065), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, T5Config, T5Model
from transformers.models.t5.modeling_t5 import T5Attention

from sidflow.generative.decoding import Predictions
from sidflow.generative.params import EncoderDecoderParams
from sidflow.generative.vocabulary import BOS, PAD, UNKNOWN, IdVocabulary
from sidflow.models.reserving_cache import reserving_cache
from sidflow.sequences.windows import padding_mask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass
class EncoderDecoderPrompt:
    """Encoded histories, and the decoder's positions behind them."""

    encoded: Float[Tensor, "b t d"]
    mask: Bool[Tensor, "b t"]
    cache: EncoderDecoderCache
    state: Float[Tensor, "b d"]
    depths: list[Tensor] = field(default_factory=list)  # of the decoder's positions that were kept


class EncoderDecoderIdModel(nn.Module):
    """T5 without a head of its own: the output layer is the token table."""

    def __init__(self, model: T5Model, ids: IdVocabulary) -> None:
        """Take a T5 over the tokens of `ids`."""
        super().__init__()
        self.model, self.ids = model, ids
        self.first = [int(token) for token in ids.first]
        # of states before the output layer, as `T5ForConditionalGeneration` has it
        self.scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0

    def predictions(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Predictions:
        """Return what predicts the last item of every history, of two items at least; see `decoding.IdModel`."""
        target = tokens[torch.arange(len(tokens)), lengths - 1]
        history = tokens[:, :-1].flatten(1)
        start = torch.full_like(target[:, :1], BOS)
        states = self.model(
            input_ids=history,
            attention_mask=padding_mask((lengths - 1) * tokens.shape[2], history.shape[1]),
            decoder_input_ids=torch.cat([start, target[:, :-1]], dim=1),
            use_cache=False,
        ).last_hidden_state
        return Predictions(states[:, None], (lengths - 1)[:, None])

    def read(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], room: int = 0) -> EncoderDecoderPrompt:
        """Return the prompt of histories; see `decoding.IdModel`. An empty history reads as one UNKNOWN token."""
        if tokens.shape[1] == 0:
            tokens = torch.full((len(tokens), 1), PAD, device=tokens.device)
        empty = lengths == 0
        tokens = torch.where(empty[:, None], UNKNOWN, tokens)
        mask = padding_mask(lengths.clamp(min=1), tokens.shape[1])
        encoded = self.model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        cache = EncoderDecoderCache(reserving_cache(room) if room else DynamicCache(), DynamicCache())
        prompt = EncoderDecoderPrompt(encoded, mask, cache, encoded[:, 0])
        start = torch.full((len(tokens), 1), BOS, device=tokens.device)
        itself = torch.ones(len(tokens), 1, 1, dtype=torch.bool, device=tokens.device)
        before = torch.full((1,), -1, device=tokens.device)  # the start stands before the first code
        prompt.state = self._decode(prompt, start, before, itself, keep=True)[:, 0]
        return prompt

    def extend(
        self,
        prompt: EncoderDecoderPrompt,
        tokens: Int[Tensor, "b p"],
        depths: Int[Tensor, " p"],
        visible: Bool[Tensor, "b p s"],
        *,
        keep: bool,
    ) -> Float[Tensor, "b p d"]:
        """Return the states after further positions; see `decoding.IdModel`."""
        sees_start = torch.ones_like(visible[..., :1]) if visible.shape[2] else visible.new_ones(*visible.shape[:2], 1)
        return self._decode(prompt, tokens, depths, torch.cat([sees_start, visible], dim=2), keep=keep)

    def level_logits(self, states: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b k"]:
        """Return the logit of each code of `level` as the next token."""
        start = self.first[level]
        return (states * self.scale) @ self.model.shared.weight[start : start + self.ids.sizes[level]].T

    def _decode(
        self, prompt: EncoderDecoderPrompt, tokens: Tensor, depths: Tensor, visible: Tensor, *, keep: bool
    ) -> Tensor:
        all_depths = torch.cat([*prompt.depths, depths])
        bias = cast("_TreeBiasAttention", cast("Any", self.model.decoder.block[0]).layer[0].SelfAttention)
        bias.depths = (depths, all_depths)
        states = self.model.decoder(
            input_ids=tokens,
            attention_mask=visible[:, None],
            encoder_hidden_states=prompt.encoded,
            encoder_attention_mask=prompt.mask,
            past_key_values=prompt.cache,
            use_cache=True,
        ).last_hidden_state
        bias.depths = None
        if keep:
            prompt.depths.append(depths)
        else:
            prompt.cache.self_attention_cache.crop(-tokens.shape[1])
        return states

    def vocabulary_logits(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Return the logits of the whole vocabulary."""
        return (states * self.scale) @ self.model.shared.weight.T


class _TreeBiasAttention(T5Attention):
    """Self-attention whose relative positions are those of depths in a tree, while `depths` are set."""

    depths: tuple[Tensor, Tensor] | None = None  # of queries and of keys

    def compute_bias(self, query_length: int, key_length: int, device: Any = None, past_seen_tokens: int = 0) -> Tensor:
        """Return the bias of every query and key, [1, heads, queries, keys]."""
        if self.depths is None:
            return super().compute_bias(query_length, key_length, device, past_seen_tokens)
        queries, keys = self.depths
        bucket = self._relative_position_bucket(
            keys[None, :] - queries[:, None],
            bidirectional=False,
            num_buckets=self.relative_attention_num_buckets,
            max_distance=self.relative_attention_max_distance,
        )
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]


def scratch_encoder_decoder(ids: IdVocabulary, params: EncoderDecoderParams) -> EncoderDecoderIdModel:
    """Return a small T5 over ID tokens, with random weights from the global generator.

    T5 draws its token table at a standard deviation of 1 and scales states down before the output layer. That is made
    for Adafactor, whose steps grow with the weights. AdamW's do not: the table would stay at random for long, and the
    first predictions would be worse than none. So the table is small and states are not scaled, as in a Llama.
    """
    config = T5Config(
        vocab_size=ids.size,
        d_model=params.dimensions,
        d_kv=params.dimensions // params.heads,
        d_ff=params.feedforward,
        num_layers=params.layers,
        num_decoder_layers=params.layers,
        num_heads=params.heads,
        dropout_rate=params.dropout,
        feed_forward_proj="relu",
        pad_token_id=PAD,
    )
    config.scale_decoder_outputs = False
    model = T5Model(config)
    with torch.no_grad():
        model.shared.weight.mul_(params.init_std)
    first_block = cast("Any", model.decoder.block[0]).layer[0]
    first_block.SelfAttention.__class__ = _TreeBiasAttention
    return EncoderDecoderIdModel(model, ids)
