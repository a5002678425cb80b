"""Histories through a causal language model, the instruction computed once and shared by all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from sidflow.contracts.errors import InputError
from sidflow.llm.prompt import Prompt

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Reader(nn.Module):
    """A causal language model that reads [instruction; item tokens; response marker].

    The instruction is the same for every row and, the model being causal, sees nothing of the row: its keys and
    values are computed once a step, gradients included, and expanded over the batch.

    With `readout: response` every read position gets its own copy of the marker, which sees the items up to it and
    nothing of other copies; so all positions of a history are predicted in one pass, in the paper's form.
    """

    before: Tensor
    after: Tensor

    def __init__(self, model: PreTrainedModel | nn.Module, prompt: Prompt, readout: str) -> None:
        """Wrap `model`, a causal LM (with or without an adapter inside)."""
        super().__init__()
        if readout == "response" and not prompt.after:
            raise InputError(
                "params.yaml:finetune.*.prompt",
                expected="words after {history}: they are the response marker",
                found="none",
                remedy="add some, or set its readout to last_item",
            )
        self.model = model
        self.readout = readout
        self.register_buffer("before", torch.tensor([prompt.before]), persistent=False)
        self.register_buffer("after", torch.tensor(prompt.after, dtype=torch.int64), persistent=False)

    @property
    def decoder(self) -> Any:
        """The transformer without its output layer."""
        base: Any = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model  # type: ignore
        return base.get_decoder()

    @property
    def config(self) -> Any:
        """The transformer's configuration."""
        return self.decoder.config.get_text_config()

    def words(self, ids: Tensor) -> Tensor:
        """Return the token embeddings of `ids`."""
        return self.decoder.get_input_embeddings()(ids)

    def prefix(self) -> list[tuple[Tensor, Tensor]]:
        """Return keys and values of the instruction, one row, layer by layer."""
        cache = DynamicCache()
        self.decoder(inputs_embeds=self.words(self.before), past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[misc]

    def forward(
        self,
        tokens: Float[Tensor, "b t h"],
        reads: Int[Tensor, "b r"],
        prefix: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "b r h"]:
        """Return the states that foretell what follows each read position.

        Args:
            tokens: item tokens, padded on the right with anything; cast to the language model's precision.
            reads: positions in [0, t); a read at j sees items 0 to j.
            prefix: what `prefix()` returned, where it can be kept (no gradient, no dropout).
        """
        rows, length = tokens.shape[:2]
        tokens = tokens.to(self.decoder.get_input_embeddings().weight.dtype)
        keys = prefix or self.prefix()
        start = self.before.shape[1]
        cache = DynamicCache()
        for layer, (key, value) in enumerate(keys):
            cache.update(key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1), layer)
        place = torch.arange(length, device=tokens.device)
        sees = (place[:, None] >= place).expand(rows, -1, -1)
        position = place.expand(rows, -1)
        inputs = tokens
        if self.readout == "response":
            inputs, position, sees = self._with_markers(tokens, position, sees, reads)
        states = self.decoder(
            inputs_embeds=inputs,
            position_ids=position + start,
            attention_mask=self._masks(sees, position, inputs.dtype),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state.float()
        if self.readout == "response":
            return states[:, length + len(self.after) - 1 :: len(self.after)]
        return states.gather(1, reads[..., None].expand(-1, -1, states.shape[2]))

    def _masks(
        self, sees: Bool[Tensor, "b s s"], position: Int[Tensor, "b s"], kind: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """Return what sees what, the instruction first, as the decoder takes it: by kind of layer where there are two.

        A layer with a sliding window sees what is fewer positions back than its window is long, and itself.
        """
        start = self.before.shape[1]
        instruction = sees.new_ones(*sees.shape[:2], start)
        everything = torch.cat([instruction, sees], 2)
        sliding = set(DynamicCache(config=self.config).is_sliding)
        if not any(sliding):
            return self._mask(everything, kind)
        keys = torch.cat([torch.arange(start, device=sees.device).expand(len(sees), -1), position + start], 1)
        back = (position + start)[:, :, None] - keys[:, None, :]
        near = self._mask(everything & (back < self.config.sliding_window), kind)
        both = {"full_attention": self._mask(everything, kind), "sliding_attention": near}
        return both if len(sliding) > 1 else near

    def _mask(self, sees: Bool[Tensor, "b s t"], kind: torch.dtype) -> Tensor:
        if self.config._attn_implementation != "eager":
            return sees[:, None]
        return torch.zeros_like(sees, dtype=kind).masked_fill(~sees, torch.finfo(kind).min)[:, None]

    def _with_markers(
        self, tokens: Tensor, position: Tensor, sees: Tensor, reads: Tensor
    ) -> tuple[Float[Tensor, "b s h"], Int[Tensor, "b s"], Bool[Tensor, "b s s"]]:
        rows, length = tokens.shape[:2]
        count, marker = reads.shape[1], len(self.after)
        words = self.words(self.after).repeat(count, 1).expand(rows, -1, -1)
        step = torch.arange(marker, device=tokens.device)
        after = (reads[:, :, None] + 1 + step).flatten(1)
        of_read = torch.arange(count, device=tokens.device).repeat_interleave(marker)
        of_step = step.repeat(count)
        own = (of_read[:, None] == of_read) & (of_step[:, None] >= of_step)
        items = torch.arange(length, device=tokens.device) <= reads[:, of_read, None]
        upper = torch.cat([sees, sees.new_zeros(rows, length, count * marker)], 2)
        lower = torch.cat([items, own.expand(rows, -1, -1)], 2)
        return torch.cat([tokens, words], 1), torch.cat([position, after], 1), torch.cat([upper, lower], 1)
