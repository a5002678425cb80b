"""The prompted backbone: item tokens through a causal language model, after an instruction that all rows share.

The instruction's keys and values are computed once a step. The rest of the prompt, after the history, is the response
marker; with `readout: response` each position that predicts gets a copy of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from sidflow.backbones.packed import lay_out, packed
from sidflow.backbones.params import HISTORY
from sidflow.core.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


POSITIONS_REMEDY = (
    "use another backbone, or set finetune.*.max_length lower (and backbone.history), or shorten the prompt"
)
MAX_FOUND = 300  # characters of a library's message that an error line repeats
FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"  # before a template that writes today's date


class Prompt(NamedTuple):
    """Token ids on both sides of the item tokens."""

    instruction: list[int]  # never empty
    marker: list[int]  # the response marker; may be empty


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> Prompt:
    """Return the token ids before and after `{history}` in `text`.

    A tokenizer with a chat template renders `text` as the user's message; any other one puts its begin token first.

    Raises:
        InputError: the chat template cannot render one message, or does not render `{history}` exactly once; or the
            tokenizer cannot encode the text.
    """
    before, after = (_render(tokenizer, text) if tokenizer.chat_template else text).split(HISTORY)
    if not tokenizer.chat_template:
        before = str(tokenizer.bos_token or "") + before
    instruction, marker = (_encode(tokenizer, part) for part in (before, after))
    fallback = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return Prompt(instruction or [int(fallback or 0)], marker)  # type: ignore[arg-type]


def _render(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return `text` as the user's only message, ready for the answer; a date that the template writes is fixed."""
    found = ""
    try:
        template = tokenizer.get_chat_template()
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            chat_template=FIXED_DATE + template if "strftime_now" in template else template,
        )
    except Exception as error:  # jinja2's errors, and what a template or transformers raises
        found = f"{type(error).__name__}: {error}"
    else:
        if str(rendered).count(HISTORY) == 1:
            return str(rendered)
        found = f"the message's content {str(rendered).count(HISTORY)} times"
    raise InputError(
        f"chat template of {tokenizer.name_or_path or 'the backbone'}",
        expected="one that renders one user message, its content once",
        found=found[:MAX_FOUND],
        remedy="correct the template in a copy of the folder, or remove it there (the prompt is then plain text), and "
        "point params.yaml:backbone.path at the copy",
    )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    try:
        return [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    except Exception as error:  # tokenizers raises plain exceptions
        raise InputError(
            f"tokenizer of {tokenizer.name_or_path or 'the backbone'}",
            expected="one that encodes the prompt",
            found=f"{type(error).__name__}: {error}"[:MAX_FOUND],
            remedy="use another backbone",
        ) from error


KeyValues = list[tuple[Tensor, Tensor]]  # one pair a layer


class PromptedBackbone(nn.Module):
    """A causal language model over the sequence [instruction; item tokens; response marker].

    The instruction is the same for every row. A causal model computes it without looking at the row, so that its keys
    and values are computed once a step, with gradients, and expanded over the batch.

    With `readout: last_item` the state of an item's own token predicts the next item. With `readout: response` every
    read position gets its own copy of the response marker. A copy attends to the items up to its position and to
    itself, never to another copy. All positions of a history are thus predicted in one pass, in the paper's form.

    Source: MME-SID (arXiv 2509.02017), stage 2; sharing the instruction and the marker copies are ours.
    """

    instruction: Tensor
    marker: Tensor

    def __init__(self, model: PreTrainedModel | nn.Module, prompt: Prompt, readout: str) -> None:
        """Wrap `model`, a causal LM with or without an adapter inside.

        Raises:
            InputError: `readout` is `response` and the prompt has no response marker, or a token has no embedding.
        """
        super().__init__()
        if readout == "response" and not prompt.marker:
            raise InputError(
                "params.yaml:finetune.*.prompt",
                expected="text after {history}: it is the response marker",
                found="none",
                remedy="add some, or set readout to last_item",
            )
        self.model = model
        self.readout = readout
        self.register_buffer("instruction", torch.tensor([prompt.instruction]), persistent=False)
        self.register_buffer("marker", torch.tensor(prompt.marker, dtype=torch.int64), persistent=False)
        self._require_embeddings(prompt)

    def _require_embeddings(self, prompt: Prompt) -> None:
        rows = self.word_table.weight.shape[0]
        beyond = [token for token in (*prompt.instruction, *prompt.marker) if token >= rows]
        if beyond:
            raise InputError(
                "the backbone's embeddings",
                expected=f"an embedding for every token of the prompt; the model has {rows}",
                found="tokens beyond them",
                count=len(beyond),
                example=beyond[0],
                remedy="put the tokenizer that belongs to the model into its folder",
            )

    def require_positions(self, tokens: int, what: str = "", remedy: str = POSITIONS_REMEDY) -> None:
        """Check that the prompt and `tokens` more fit into the model's positions.

        Args:
            tokens: how many.
            what: they are, for the message; by default items, of one token each.
            remedy: of the message.

        Raises:
            InputError: the model has fewer.
        """
        positions = getattr(self.config, "max_position_embeddings", None)
        needed = self.instruction.shape[1] + tokens + (len(self.marker) if self.readout == "response" else 0)
        if isinstance(positions, int) and 0 < positions < needed:
            raise InputError(
                "the backbone's positions",
                expected=f"at least {needed} positions, for the prompt and {what or f'{tokens} items'}",
                found=f"{positions} (max_position_embeddings in its config.json)",
                remedy=remedy,
            )

    @property
    def decoder(self) -> Any:
        """The transformer without its output layer."""
        base: Any = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model  # type: ignore
        return base.get_decoder()

    @property
    def config(self) -> Any:
        """The transformer's configuration."""
        return self.decoder.config.get_text_config()

    @property
    def word_table(self) -> Any:
        """The table of token embeddings, without rows that an adapter puts in place of its own."""
        table = self.decoder.get_input_embeddings()
        return table.original_module if isinstance(table, TrainableTokensWrapper) else table

    def word_size(self) -> float:
        """Return the root mean square of the entries of all token embeddings, as the first layer reads them."""
        scale = float(getattr(self.word_table, "embed_scale", 1.0))  # Gemma's table multiplies its rows
        return scale * float(self.word_table.weight.float().square().mean().sqrt())

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Return the token embeddings of `ids`, [*shape, h]."""
        return self.word_table(ids)

    def instruction_key_values(self) -> KeyValues:
        """Return the instruction's keys and values of one row, layer by layer."""
        cache = DynamicCache()
        self.decoder(inputs_embeds=self.embed_tokens(self.instruction), past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[misc]

    def forward(
        self,
        tokens: Float[Tensor, "b t h"],
        read_positions: Int[Tensor, "b r"],
        key_values: KeyValues | None = None,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b r h"]:
        """Return the state at each read position, which predicts the item that follows it.

        Args:
            tokens: item tokens, padded on the right with any values; cast to the language model's precision.
            read_positions: in [0, t); a state at position j depends on items 0 to j.
            key_values: what `instruction_key_values` returned, to reuse it where neither gradient nor dropout is on.
            lengths: items of each row, to spend nothing on padding; states at positions of padding are then finite
                and mean nothing. None: all rows are full.
        """
        rows, length = tokens.shape[:2]
        self.require_positions(length)
        tokens = tokens.to(self.word_table.weight.dtype)
        steps = torch.arange(length, device=tokens.device)
        attends = (steps[:, None] >= steps).expand(rows, -1, -1)
        positions = steps.expand(rows, -1)
        valid = attends.new_ones(rows, length) if lengths is None else steps < lengths[:, None]
        inputs, read_places = tokens, read_positions
        if self.readout == "response":
            inputs, positions, attends = self._append_markers(tokens, positions, attends, read_positions)
            width = len(self.marker)
            read = read_positions < (length if lengths is None else lengths[:, None])
            valid = torch.cat([valid, read.repeat_interleave(width, 1)], 1)
            copies = torch.arange(read_positions.shape[1], device=tokens.device)
            read_places = (length + width - 1 + width * copies).expand(rows, -1)
        if self.packs:
            return self._packed_states(inputs, positions, attends, valid, read_places, key_values)
        states = self._padded_states(inputs, positions, attends, key_values)
        return states.gather(1, read_places[..., None].expand(-1, -1, states.shape[2]))

    @property
    def packs(self) -> bool:
        """Whether the histories go through the model as one row without padding; see `packed`.

        It needs a model that takes its attention from transformers' table, and whose layers all see everything.
        """
        return (
            self.config._attn_implementation == "sdpa"
            and bool(getattr(self.decoder, "_supports_attention_backend", False))
            and not any(DynamicCache(config=self.config).is_sliding)
        )

    def _packed_states(
        self,
        inputs: Float[Tensor, "b s h"],
        positions: Int[Tensor, "b s"],
        attends: Bool[Tensor, "b s s"],
        valid: Bool[Tensor, "b s"],
        read_places: Int[Tensor, "b r"],
        key_values: KeyValues | None,
    ) -> Float[Tensor, "b r h"]:
        """Return the states of `read_places`; instruction and histories go through the model in one pass."""
        start = self.instruction.shape[1]
        attends = torch.cat([attends.new_ones(*attends.shape[:2], start), attends], 2)
        packing = lay_out(valid, attends, start, key_values)
        row, places = inputs.flatten(0, 1), positions.flatten() + start
        if not packing.full:
            row, places = row[packing.places], places[packing.places]
        before = 0
        if packing.read:
            before = start
            row = torch.cat([self.embed_tokens(self.instruction)[0], row])
            places = torch.cat([torch.arange(start, device=places.device), places])
        with packed(self.decoder.config, packing):
            states = self.decoder(
                inputs_embeds=row[None], position_ids=places[None], use_cache=False
            ).last_hidden_state[0]
        columns = packing.columns.gather(1, read_places) - start + before
        return functional.embedding(columns.clamp(min=0), states.float())

    def _padded_states(
        self,
        inputs: Float[Tensor, "b s h"],
        positions: Int[Tensor, "b s"],
        attends: Bool[Tensor, "b s s"],
        key_values: KeyValues | None,
    ) -> Float[Tensor, "b s h"]:
        """Return all states; the histories go through the model side by side, after the instruction."""
        cache = DynamicCache()
        for layer, (key, value) in enumerate(key_values or self.instruction_key_values()):
            cache.update(key.expand(len(inputs), -1, -1, -1), value.expand(len(inputs), -1, -1, -1), layer)
        return self.decoder(
            inputs_embeds=inputs,
            position_ids=positions + self.instruction.shape[1],
            attention_mask=self._attention_masks(attends, positions, inputs.dtype),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state.float()

    def _attention_masks(
        self, attends: Bool[Tensor, "b s s"], positions: Int[Tensor, "b s"], dtype: torch.dtype
    ) -> Tensor | dict[str, Tensor]:
        """Return the decoder's attention mask, instruction included; a dict by layer type where there are two.

        A layer with a sliding window attends to positions less than one window back, itself included.
        """
        start = self.instruction.shape[1]
        full_attends = torch.cat([attends.new_ones(*attends.shape[:2], start), attends], 2)
        sliding = set(DynamicCache(config=self.config).is_sliding)
        if not any(sliding):
            return self._attention_mask(full_attends, dtype)
        keys = torch.cat([torch.arange(start, device=attends.device).expand(len(attends), -1), positions + start], 1)
        distance = (positions + start)[:, :, None] - keys[:, None, :]
        windowed = self._attention_mask(full_attends & (distance < self.config.sliding_window), dtype)
        masks = {"full_attention": self._attention_mask(full_attends, dtype), "sliding_attention": windowed}
        return masks if len(sliding) > 1 else windowed

    def _attention_mask(self, attends: Bool[Tensor, "b s t"], dtype: torch.dtype) -> Tensor:
        """Return [b, 1, s, t]: boolean, or added to the logits where attention is `eager`."""
        if self.config._attn_implementation != "eager":
            return attends[:, None]
        return torch.zeros_like(attends, dtype=dtype).masked_fill(~attends, torch.finfo(dtype).min)[:, None]

    def _append_markers(
        self, tokens: Tensor, positions: Tensor, attends: Tensor, read_positions: Tensor
    ) -> tuple[Float[Tensor, "b s h"], Int[Tensor, "b s"], Bool[Tensor, "b s s"]]:
        """Return inputs, positions and attention with one copy of the response marker per read position."""
        rows, length = tokens.shape[:2]
        copies, width = read_positions.shape[1], len(self.marker)
        markers = self.embed_tokens(self.marker).repeat(copies, 1).expand(rows, -1, -1)
        step = torch.arange(width, device=tokens.device)
        marker_positions = (read_positions[:, :, None] + 1 + step).flatten(1)
        copy_index = torch.arange(copies, device=tokens.device).repeat_interleave(width)
        step_index = step.repeat(copies)
        within_copy = (copy_index[:, None] == copy_index) & (step_index[:, None] >= step_index)
        to_items = torch.arange(length, device=tokens.device) <= read_positions[:, copy_index, None]
        upper = torch.cat([attends, attends.new_zeros(rows, length, copies * width)], 2)
        lower = torch.cat([to_items, within_copy.expand(rows, -1, -1)], 2)
        inputs = torch.cat([tokens, markers], 1)
        return inputs, torch.cat([positions, marker_positions], 1), torch.cat([upper, lower], 1)
