"""Packed attention: the instruction and the histories of a step as one row without padding.

Linear layers, norms and the MLP of a transformer see each token alone. Only attention needs to know which history a
token is of. So the tokens of all histories go through the layers as one row, the instruction once in front of them,
and attention alone lays its keys and values out by history, with the instruction's before them.

transformers' models take their attention from a table of functions; `packed_attention` is put in that table, and
`packed` says how the row is laid out while a model runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PretrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

NAME = "sidflow_packed"


class Packing(NamedTuple):
    """How a row [instruction; tokens of history 1; tokens of history 2; ...] is laid out in histories of s places."""

    start: int  # tokens of the instruction, which stand first among keys
    read: bool  # true: the instruction is in the row; false: only its `key_values` are there
    places: Int[Tensor, " n"]  # of each token of the histories among the b * s places
    columns: Int[Tensor, "b s"]  # of each place among the keys [instruction; tokens]; 0 where it is padding
    attends: Bool[Tensor, "b s start_plus_s"]
    key_values: list[tuple[Tensor, Tensor]] | None  # of the instruction, one pair a layer

    @property
    def full(self) -> bool:
        """Whether there is no padding."""
        return len(self.places) == self.columns.numel()


def lay_out(
    valid: Bool[Tensor, "b s"],
    attends: Bool[Tensor, "b s start_plus_s"],
    start: int,
    key_values: list[tuple[Tensor, Tensor]] | None,
) -> Packing:
    """Return the layout of the places that are `valid`.

    Args:
        valid: which places hold a token.
        attends: which keys each place attends to; some that are padding may be among those of padding alone.
        start: tokens of the instruction.
        key_values: of the instruction; None where it goes through the model with the histories.
    """
    places = valid.flatten().nonzero().flatten()
    columns = torch.zeros(valid.numel(), dtype=torch.int64, device=valid.device)
    columns[places] = torch.arange(start, start + len(places), device=valid.device)
    return Packing(start, key_values is None, places, columns.view(valid.shape), attends, key_values)


_LAYOUT: ContextVar[Packing] = ContextVar("layout of the packed row")


@contextmanager
def packed(config: PretrainedConfig, packing: Packing) -> Iterator[None]:
    """Let the model of `config` attend by `packing`."""
    before, token = config._attn_implementation, _LAYOUT.set(packing)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _LAYOUT.reset(token)


def packed_attention(
    module: Any,
    query: Float[Tensor, "1 h r d"],
    key: Float[Tensor, "1 k r d"],
    value: Float[Tensor, "1 k r d"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "1 r h d"], None]:
    """Return the attention's output for every token of the row, as transformers' own functions do.

    Source: transformers' `sdpa_attention_forward`, the interface.
    """
    if query.device.type != "cpu":
        return _attend(module, query, key, value, dropout, scaling)[None], None
    with torch.autocast("cpu", enabled=False):  # the CPU's kernel is several times slower in bf16
        output = _attend(module, query.float(), key.float(), value.float(), dropout, scaling)
    return output[None].to(query.dtype), None


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float | None
) -> Float[Tensor, "r h d"]:
    packing = _LAYOUT.get()
    rows, places = packing.columns.shape
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.device.type != "cpu":  # the fast kernels of CUDA take no mask with grouped heads
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], 1) for part in (key, value))
        grouped = False
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": grouped}
    outputs = []
    start = packing.start if packing.read else 0
    if start:
        own_query, own_key, own_value = (part[:, :, :start] for part in (query, key, value))
        output = functional.scaled_dot_product_attention(own_query, own_key, own_value, is_causal=True, **options)
        outputs.append(output[0].transpose(0, 1))
    elif packing.key_values is not None:
        kept = packing.key_values[module.layer_idx]
        repeats = key.shape[1] // kept[0].shape[1]
        kept = [
            part.to(key.dtype).repeat_interleave(repeats, 1) if repeats > 1 else part.to(key.dtype) for part in kept
        ]
        key, value = torch.cat([kept[0], key], 2), torch.cat([kept[1], value], 2)
    instruction = torch.arange(packing.start, device=key.device).expand(rows, -1)
    columns = torch.cat([instruction, packing.columns], 1)
    by_history = [functional.embedding(columns, _flat(part)) for part in (key, value)]
    keys, values = (part.view(rows, packing.start + places, -1, key.shape[3]).transpose(1, 2) for part in by_history)
    tokens = query[0, :, start:].transpose(0, 1)  # n, h, d
    if not packing.full:
        asked = packing.columns - packing.start
        tokens = functional.embedding(asked.clamp(min=0), _flat(query[:, :, start:])).view(
            rows * places, *tokens.shape[1:]
        )
    queries = tokens.reshape(rows, places, *tokens.shape[1:]).transpose(1, 2)
    output = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=packing.attends[:, None], **options
    )
    output = output.transpose(1, 2).reshape(rows * places, *tokens.shape[1:])
    outputs.append(output if packing.full else output[packing.places])
    return torch.cat(outputs)


def _flat(heads: Float[Tensor, "1 h r d"]) -> Float[Tensor, "r hd"]:
    return heads[0].transpose(0, 1).flatten(1)


ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
