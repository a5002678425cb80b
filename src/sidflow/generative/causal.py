"""A causal language model over ID tokens: every position of a history predicts the next token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, LlamaConfig, LlamaModel, PreTrainedModel

from sidflow.generative.decoding import Predictions
from sidflow.generative.llama_beams import BeamPrompt, LlamaBeams
from sidflow.generative.params import CausalParams
from sidflow.generative.vocabulary import BOS, PAD, IdVocabulary
from sidflow.models.reserving_cache import reserving_cache
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


class CausalIdModel(nn.Module, ABC):
    """A decoder behind a start that all histories share; what training and decoding need of it.

    Subclasses have `decoder` (it takes `inputs_embeds`, a four-dimensional mask, positions and a cache) and the vectors
    of tokens on both sides.
    """

    decoder: Any

    def __init__(self, ids: IdVocabulary) -> None:
        """Take the ID vocabulary."""
        super().__init__()
        self.ids = ids
        self.first = [int(token) for token in ids.first]

    @abstractmethod
    def start(self) -> Float[Tensor, "p d"]:
        """Return the vectors that stand before every history, one at least."""

    @abstractmethod
    def embed(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Return the vectors of ID tokens as input."""

    @abstractmethod
    def output_rows(self) -> Float[Tensor, "v d"]:
        """Return the vectors of ID tokens as output."""

    def masks(self, attends: Bool[Tensor, "b p s"]) -> Any:
        """Return the decoder's attention mask."""
        return attends[:, None]

    def predictions(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Predictions:
        """Return what predicts every item but the first; see `decoding.IdModel`."""
        length = tokens.shape[1] * tokens.shape[2]
        states = self.history_states(tokens, lengths)[:, :length].unflatten(1, tokens.shape[1:])[:, 1:]
        step = torch.arange(1, tokens.shape[1], device=tokens.device)
        return Predictions(states, torch.where(step < lengths[:, None], step, -1))

    def history_states(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s d"]:
        """Return the states that predict each token of padded histories of `lengths` items, in their order.

        States of padding mean nothing.
        """
        return self.states(tokens.flatten(1)[:, :-1])[:, len(self.start()) - 1 :]

    def vocabulary_logits(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Return the logits of the whole vocabulary, those of ID tokens last."""
        raise NotImplementedError

    def read(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], room: int = 0) -> Any:
        """Return the prompt of histories; see `decoding.IdModel`.

        The start is read once for all, but for its last vector, from which an empty history goes on.
        """
        start = self.start()
        cache, shared = reserving_cache(room), start[:-1]
        if len(shared):
            cache = reserving_cache(1 + tokens.shape[1] + room)
            self.decoder(inputs_embeds=shared[None], past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(tokens))
        states = self.states(tokens, cache)
        ends = lengths + len(start)
        rows = torch.arange(len(tokens), device=tokens.device)
        return CausalPrompt(cache, padding_mask(ends, cache.get_seq_length()), ends, states[rows, lengths])

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
        vectors = self.embed(tokens)
        mask = self.masks(torch.cat([history, visible], dim=2))
        if keep and isinstance(mask, Tensor) and mask.dtype == torch.bool:  # else every layer makes it one of numbers
            mask = torch.zeros_like(mask, dtype=vectors.dtype).masked_fill_(~mask, -torch.inf)
        states = self.decoder(
            inputs_embeds=vectors,
            attention_mask=mask,
            position_ids=prompt.lengths[:, None] + depths,
            past_key_values=prompt.cache,
            use_cache=True,
        ).last_hidden_state
        if not keep:
            prompt.cache.crop(-tokens.shape[1])
        return states.float()

    def level_logits(self, states: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b k"]:
        """Return the logit of each code of `level` as the next token."""
        start = self.first[level]
        return states @ self.output_rows()[start : start + self.ids.sizes[level]].T

    def states(self, tokens: Int[Tensor, "b t"], cache: Cache | None = None) -> Float[Tensor, "b s d"]:
        """Return the states of the start, but for what `cache` has of it, and of `tokens`.

        Padding stands behind, where it moves nothing.
        """
        start = self.start()[0 if cache is None else cache.get_seq_length() :]
        vectors = torch.cat([start.expand(len(tokens), -1, -1), self.embed(tokens)], dim=1)
        output = self.decoder(inputs_embeds=vectors, past_key_values=cache, use_cache=cache is not None)
        return output.last_hidden_state.float()


class ScratchIdModel(CausalIdModel):
    """A decoder over ID tokens alone; the output layer is its table of input tokens."""

    def __init__(self, decoder: PreTrainedModel, ids: IdVocabulary) -> None:
        """Take a decoder of transformers without its head."""
        super().__init__(ids)
        self.decoder = decoder
        self.before: Tensor
        self.register_buffer("before", torch.tensor([BOS]), persistent=False)

    @property
    def table(self) -> nn.Embedding:
        """The vectors of tokens."""
        return cast("nn.Embedding", self.decoder.get_input_embeddings())

    def start(self) -> Float[Tensor, "1 d"]:
        """Return the vector of BOS."""
        return self.table(self.before)

    def embed(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Return the vectors of ID tokens as input."""
        return self.table(tokens)

    def output_rows(self) -> Float[Tensor, "v d"]:
        """Return the vectors of ID tokens as output: those as input."""
        return self.table.weight

    def vocabulary_logits(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Return the logits of all ID tokens."""
        return states @ self.table.weight.T

    def read(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], room: int = 0) -> Any:
        """Return the prompt of histories, for beams where there is `room`; see `decoding.IdModel`."""
        if not room:
            return super().read(tokens, lengths)
        start = self.start()
        vectors = torch.cat([start.expand(len(tokens), -1, -1), self.embed(tokens)], dim=1)
        return LlamaBeams(self.decoder).read(vectors, lengths + len(start), room)

    def extend(
        self,
        prompt: Any,
        tokens: Int[Tensor, "b p"],
        depths: Int[Tensor, " p"],
        visible: Bool[Tensor, "b p s"],
        *,
        keep: bool,
    ) -> Float[Tensor, "b p d"]:
        """Return the states after further positions; see `decoding.IdModel`."""
        if not isinstance(prompt, BeamPrompt):
            return super().extend(prompt, tokens, depths, visible, keep=keep)
        assert keep, "beams keep what they add"
        return prompt.layers.extend(prompt, self.embed(tokens), depths, visible)


def scratch_causal_model(ids: IdVocabulary, params: CausalParams) -> ScratchIdModel:
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
    return ScratchIdModel(decoder, ids)
