"""A cache of transformers whose keys and values are written into memory that was reserved for them."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class _ReservingLayer(DynamicLayer):
    """Keys and values of one layer: views of memory with room for more."""

    def __init__(self, room: int) -> None:
        """Reserve memory for what comes first and `room` positions more; what is beyond that is copied."""
        super().__init__()
        self.room = room
        self.memory: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add positions and return all."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.memory = tuple(
                part.new_empty(*part.shape[:-2], end + self.room, part.shape[-1]) for part in (key_states, value_states)
            )
        if not self._has_room(end):
            self.memory = ()  # from here on each update copies
            return super().update(key_states, value_states, *args, **kwargs)
        for memory, part in zip(self.memory, (key_states, value_states), strict=True):
            memory[..., start:end, :] = part
        self.keys, self.values = (memory[..., :end, :] for memory in self.memory)
        return self.keys, self.values

    def _has_room(self, end: int) -> bool:
        return bool(self.memory) and end <= self.memory[0].shape[-2]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        assert self.keys is not None, "of what has no position yet there are no rows"
        rows = torch.arange(len(self.keys), device=self.device)
        self.batch_select_indices(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Make rows of those that `indices` names."""
        end = self.get_seq_length()
        if not self.memory:
            super().batch_select_indices(indices)
            return
        self.memory = tuple(memory[indices] for memory in self.memory)
        self.keys, self.values = (memory[..., :end, :] for memory in self.memory)


def reserving_cache(room: int) -> Cache:
    """Return an empty cache with room for `room` positions behind those that come first."""
    return Cache(layer_class_to_replicate=partial(_ReservingLayer, room))  # type: ignore[arg-type]


def repeated_cache(cache: Any, rows: int, room: int) -> Cache | None:
    """Return a cache of one row as `rows` of it, with room for `room` positions more.

    None where layers keep less than all keys and values, such as sliding windows or states.
    """
    if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    repeated, layers = reserving_cache(room), cast("list[Any]", cache.layers)
    for number, layer in enumerate(layers):
        repeated.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return repeated
