"""A cache of transformers whose keys and values are written into memory that was reserved for them."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from transformers import Cache
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
        if end > self.memory[0].shape[-2]:
            return super().update(key_states, value_states, *args, **kwargs)
        for memory, part in zip(self.memory, (key_states, value_states), strict=True):
            memory[..., start:end, :] = part
        self.keys, self.values = (memory[..., :end, :] for memory in self.memory)
        return self.keys, self.values


def reserving_cache(room: int) -> Cache:
    """Return an empty cache with room for `room` positions behind those that come first."""
    return Cache(layer_class_to_replicate=partial(_ReservingLayer, room))  # type: ignore[arg-type]
