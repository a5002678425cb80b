"""The small Llama of `causal` as beam search runs it: its weights, without the modules of transformers.

It computes what the modules compute, up to the order of sums, and leaves out what a beam does not need:

- keys and values are written into memory that is reserved for the history and all beams, so that nothing is copied when
  positions are added, and attention reads views of it;
- the mask is made once a step, as numbers that are added to the logits;
- query, key and value are one product, and so are gate and up; norms are fused; sums and products reuse their memory;
- the last layer is computed for the last token of a history alone; of the others it needs keys and values only.

Tests hold beams to the exact log-probabilities, which go through the modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sidflow.sequences.windows import padding_mask

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

ROWS = 512  # states that go through the feed-forward part at a time: what lies between its products stays in the cache


class _Layer(NamedTuple):
    attention_norm: Float[Tensor, " d"]
    query_key_value: Float[Tensor, "3d d"]
    output: Float[Tensor, "d d"]
    feedforward_norm: Float[Tensor, " d"]
    gate_up: Float[Tensor, "2f d"]
    down: Float[Tensor, "d f"]


class LlamaBeams:
    """The layers of a Llama with as many key heads as query heads and no biases, on their device."""

    def __init__(self, decoder: Any) -> None:
        """Take the weights of a LlamaModel whose output and down projections are followed by dropout."""
        config = decoder.config
        self.heads, self.eps = config.num_attention_heads, config.rms_norm_eps
        self.frequencies: Tensor = decoder.rotary_emb.inv_freq
        self.final_norm: Tensor = decoder.norm.weight
        self.layers = [
            _Layer(
                layer.input_layernorm.weight,
                torch.cat([part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)]),
                attention.o_proj[0].weight,
                layer.post_attention_layernorm.weight,
                torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                layer.mlp.down_proj[0].weight,
            )
            for layer in decoder.layers
            for attention in (layer.self_attn,)
        ]

    def read(self, vectors: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"], room: int) -> BeamPrompt:
        """Return the prompt of `vectors`, padded on the right, of `lengths`, with room for so many positions more."""
        rows, width, dimensions = vectors.shape
        shape = (len(self.layers), 2, rows, self.heads, width + room, dimensions // self.heads)
        mask = padding_mask(lengths, width)
        prompt = BeamPrompt(self, vectors.new_empty(shape), width, mask, lengths, vectors[:, 0])
        positions = torch.arange(width, device=vectors.device).expand(rows, -1)
        rotation = self._rotation(positions)
        states = vectors.clone()
        for number, layer in enumerate(self.layers[:-1]):
            query, keys, values = self._keyed(states, layer, prompt.keys_values[number], 0, rotation)
            attended = functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
            self._rest(states, attended, layer)
        query, keys, values = self._keyed(states, self.layers[-1], prompt.keys_values[-1], 0, rotation)
        number = torch.arange(rows, device=vectors.device)
        last = query[number, :, lengths - 1][:, :, None]
        attended = functional.scaled_dot_product_attention(last, keys, values, _added(mask[:, None], vectors))
        ends = states[number, lengths - 1][:, None]
        prompt.state = self._normed(self._rest(ends, attended, self.layers[-1]), self.final_norm)[:, 0]
        return prompt

    def extend(
        self,
        prompt: BeamPrompt,
        vectors: Float[Tensor, "b p d"],
        depths: Int[Tensor, " p"],
        visible: Bool[Tensor, "b p s"],
    ) -> Float[Tensor, "b p d"]:
        """Return the states after further positions, which are kept; see `decoding.IdModel`."""
        history = prompt.mask[:, None, :].expand(-1, vectors.shape[1], -1)
        mask = _added(torch.cat([history, visible], dim=2), vectors)
        rotation = self._rotation(prompt.lengths[:, None] + depths)
        states = vectors.clone()
        for number, layer in enumerate(self.layers):
            query, keys, values = self._keyed(states, layer, prompt.keys_values[number], prompt.filled, rotation)
            self._rest(states, functional.scaled_dot_product_attention(query, keys, values, mask), layer)
        prompt.filled += vectors.shape[1]
        return self._normed(states, self.final_norm)

    def _normed(self, states: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(states, weight.shape, weight, self.eps)

    def _rotation(self, positions: Int[Tensor, "b p"]) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the rotary angles, [b, p, 1, 1, half a head]."""
        angles = (positions[..., None] * self.frequencies)[:, :, None, None]
        return angles.cos(), angles.sin()

    def _keyed(
        self, states: Tensor, layer: _Layer, memory: Tensor, start: int, rotation: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "b h p d"], Float[Tensor, "b h s d"], Float[Tensor, "b h s d"]]:
        """Return the queries of `states`, and all keys and values so far, theirs from place `start` on."""
        rows, count = states.shape[:2]
        joined = functional.linear(self._normed(states, layer.attention_norm), layer.query_key_value)
        joined = joined.view(rows, count, 3, self.heads, -1)
        (cosine, sine), half = rotation, joined.shape[-1] // 2
        first, second = joined[:, :, :2, :, :half], joined[:, :, :2, :, half:]
        turned = first * cosine
        turned.addcmul_(second, sine, value=-1)
        second.mul_(cosine).addcmul_(first, sine)
        first.copy_(turned)
        end = start + count
        memory[:, :, :, start:end] = joined[:, :, 1:].permute(2, 0, 3, 1, 4)
        return joined[:, :, 0].transpose(1, 2), memory[0, :, :, :end], memory[1, :, :, :end]

    def _rest(self, states: Tensor, attended: Float[Tensor, "b h p d"], layer: _Layer) -> Tensor:
        """Add attention's output and the feed-forward part to `states`, in place; return them."""
        states += functional.linear(attended.transpose(1, 2).flatten(2), layer.output)
        for block in states.view(-1, states.shape[-1]).split(ROWS):
            both = functional.linear(self._normed(block, layer.feedforward_norm), layer.gate_up)
            gate, up = both.chunk(2, dim=-1)
            block += functional.linear(functional.silu(gate).mul_(up), layer.down)
        return states


@dataclass
class BeamPrompt:
    """Histories that were read for beams, and the positions behind them."""

    layers: LlamaBeams
    keys_values: Float[Tensor, "layers 2 b h room d"]
    filled: int  # places of `keys_values` that are in use
    mask: Bool[Tensor, "b t"]  # which positions of the history are real
    lengths: Int[Tensor, " b"]
    state: Float[Tensor, "b d"]  # from which the first code is predicted


def _added(attends: Bool[Tensor, "b p s"], like: Tensor) -> Float[Tensor, "b 1 p s"]:
    """Return a mask as what attention adds to its logits."""
    return torch.zeros_like(attends, dtype=like.dtype).masked_fill_(~attends, -torch.inf)[:, None]
