"""The words around a history: what comes before the item tokens, and the response marker after them."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

HISTORY = "{history}"


class Prompt(NamedTuple):
    """Token ids around the item tokens."""

    before: list[int]  # never empty
    after: list[int]


def render(tokenizer: PreTrainedTokenizerBase, text: str) -> Prompt:
    """Return `text` as token ids, cut at `{history}`, within the tokenizer's chat template where it has one."""
    if tokenizer.chat_template:
        message = [{"role": "user", "content": text}]
        told = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        before, after = str(told).split(HISTORY)
    else:
        before, after = text.split(HISTORY)
        before = (tokenizer.bos_token or "") + before  # type: ignore[operator]
    first, last = (list(tokenizer.encode(part, add_special_tokens=False)) for part in (before, after))
    fallback = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return Prompt(first or [int(fallback or 0)], last)  # type: ignore[arg-type]
