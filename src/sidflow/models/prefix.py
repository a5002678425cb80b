"""The beginning that all prompts of a batch share, read once: its keys and values stand before every row's own tokens.

A catalogue's prompts begin with the same system message and instruction. A causal model's keys and values of them do
not depend on what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sidflow.models.batching import Keyed, on_device
from sidflow.models.inputs import Inputs
from sidflow.models.reserving_cache import repeated_cache

LEAST = 16  # tokens; a shorter beginning is not worth a pass of its own
TEXT = {"input_ids", "attention_mask"}


def shared_prefix(batch: Sequence[Inputs]) -> int:
    """Return how many first tokens all inputs share, at most one less than the shortest has; 0 where too few.

    Inputs with a picture, or with kinds of tokens, share nothing: what they read is more than their tokens.
    """
    if len(batch) < 2 or any(inputs.keys() != TEXT for inputs in batch):
        return 0
    first, *others = (inputs["input_ids"][0].tolist() for inputs in batch)
    count = min(len(first), *map(len, others)) - 1
    for other in others:
        count = next((place for place in range(count) if first[place] != other[place]), count)
    return count if count >= LEAST else 0


def batch_inputs(
    batch: list[Keyed], network: Any, pad: int, device: torch.device, answer_tokens: int
) -> dict[str, Any]:
    """Return what `generate` takes of a batch: tokens, mask, and the cache of the shared beginning where there is one.

    The cache has room for the rest of each prompt and `answer_tokens` more, so that nothing is copied when it grows. A
    row is the shared beginning, padding, and the rest of its own prompt. Models whose layers keep less than all keys
    and values, such as sliding windows or states, read every prompt whole, padded on the left.
    """
    count = shared_prefix([inputs for _, inputs in batch])
    if count:
        prefix = batch[0][1]["input_ids"][:, :count].to(device)
        cache = network(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        rests = [(key, {name: value[:, count:] for name, value in inputs.items()}) for key, inputs in batch]
        padded = on_device(rests, network, pad, device)
        tokens, mask = padded["input_ids"], padded["attention_mask"]
        repeated = repeated_cache(cache, len(batch), tokens.shape[1] + answer_tokens)
        if repeated is not None:
            return {
                "input_ids": torch.cat([prefix.expand(len(batch), -1), tokens], dim=1),
                "attention_mask": torch.cat([mask.new_ones(len(batch), count), mask], dim=1),
                "past_key_values": repeated,
            }
    return dict(on_device(batch, network, pad, device))
