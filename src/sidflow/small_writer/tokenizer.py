"""The small writer's tokenizer: whole lines of the prompts, glue of the answers' JSON, and words of a shop as tokens.

A text is cut into as few pieces as it can be (a unigram model with equal scores), so that a question takes some dozens
of tokens and an answer about twenty. What is in no piece is spelt in bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from sidflow.small_writer.lessons import Example

PAD, BEGIN, END, UNKNOWN, PICTURE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
TEMPLATE = (
    "{% for message in messages %}<s>{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}\n{% endif %}"
)
_WORD = re.compile(r"[A-Za-z]['A-Za-z]*|[0-9]")
_JSON_GLUE = re.compile(r'\{"[a-z]+": \[?"|"\]?, "[a-z]+": (?:\[\], "[a-z]+": "|\["|")|", "|\.?"\]?\}')
_LINE_SHARE = 0.05  # of a view's questions in which a line stands that becomes a token


def train_tokenizer(examples: Iterable[Example], phrases: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words of `examples`, which encodes any text.

    Args:
        examples: questions and answers.
        phrases: runs of words that become a token each.
    """
    lines: Counter[str] = Counter()
    pieces: set[str] = set(phrases)
    count = 0
    for example in examples:
        count += 1
        lines.update(set(example.request.prompt.splitlines(keepends=True)))
        words = _WORD.findall(f"{example.request.prompt} {example.answer}")
        pieces |= {*words, *(f" {word}" for word in words)}
        pieces |= set(_JSON_GLUE.findall(example.answer))
    pieces |= {line for line, times in lines.items() if times > _LINE_SHARE * count}
    pieces |= {f"{name}: " for name in ("title", "brand", "categories", "material", "size", "description")}
    alphabet = {chr(code) for code in range(32, 127)} | {"\n"}
    entries = [PAD, BEGIN, END, UNKNOWN, PICTURE, *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += sorted((pieces | alphabet) - {""})
    model = models.Unigram([(entry, -1.0) for entry in entries], unk_id=entries.index(UNKNOWN), byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[PICTURE],
        model_input_names=["input_ids", "attention_mask"],
    )
    wrapped.chat_template = TEMPLATE
    return wrapped
