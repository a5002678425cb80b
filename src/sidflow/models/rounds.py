"""Answers of a batch in rounds: rows that have ended leave it, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ROUND = 16  # tokens of a round


def generated_tokens(network: Any, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tokens that a model writes behind each row, on the CPU; what stands behind an end means nothing.

    Args:
        network: a model of transformers; its generation_config says how long answers are, and which tokens end one.
        inputs: of `generate`. Without `past_key_values` all rows go on until the last of them has ended.
    """
    settings, cache = network.generation_config, inputs.get("past_key_values")
    length = inputs["input_ids"].shape[1]
    if cache is None:
        return list(network.generate(**inputs)[:, length:].cpu())
    tokens, mask = inputs["input_ids"], inputs["attention_mask"]
    rows, answers = torch.arange(len(tokens)), [tokens[:0, 0]] * len(tokens)
    ends = torch.tensor(settings.eos_token_id, device=tokens.device)
    while len(rows):
        left = settings.max_new_tokens - (tokens.shape[1] - length)
        more = {**inputs, "input_ids": tokens, "attention_mask": mask, "max_new_tokens": min(ROUND, left)}
        tokens = network.generate(**more)
        answered = tokens[:, length:]
        ended = torch.isin(answered, ends).any(1) | (answered.shape[1] == settings.max_new_tokens)
        for place in ended.nonzero()[:, 0].tolist():
            answers[int(rows[place])] = answered[place].cpu()
        goes_on = ~ended
        mask = torch.cat([mask, mask.new_ones(len(mask), tokens.shape[1] - mask.shape[1])], dim=1)[goes_on]
        tokens, rows = tokens[goes_on], rows[goes_on.cpu()]
        cache.batch_select_indices(goes_on.nonzero()[:, 0])
    return answers
