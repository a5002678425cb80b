"""The instruction before a history's item tokens, and the response marker after them."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

HISTORY = "{history}"


class Prompt(NamedTuple):
    """Token ids on both sides of the item tokens."""

    instruction: list[int]  # never empty
    marker: list[int]  # the response marker; may be empty


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> Prompt:
    """Return the token ids before and after `{history}` in `text`.

    A tokenizer with a chat template renders `text` as the user's message; any other one puts its begin token first.
    """
    if tokenizer.chat_template:
        message = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        before, after = str(rendered).split(HISTORY)
    else:
        before, after = text.split(HISTORY)
        before = (tokenizer.bos_token or "") + before  # type: ignore[operator]
    instruction, marker = (list(tokenizer.encode(part, add_special_tokens=False)) for part in (before, after))
    fallback = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return Prompt(instruction or [int(fallback or 0)], marker)  # type: ignore[arg-type]
