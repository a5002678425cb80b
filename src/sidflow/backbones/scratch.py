"""A small Llama with its own tokenizer, trained on the catalogue's texts and histories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sidflow.artifacts.item_content import item_texts
from sidflow.backbones.params import ScratchParams
from sidflow.sequences.histories import Histories
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.loop import FitResult, fit

SEPARATOR = " ; "  # between the titles of a history
BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"


def item_documents(items: pl.DataFrame, max_words: int) -> list[str]:
    """Return each item's text, at most `max_words` words; its key where the source has no text."""
    documents = (". ".join(piece.rstrip(".") for piece in text.pieces()) for text in item_texts(items))
    keys = items["item_key"]
    return [_first_words(document, max_words) or str(key) for document, key in zip(documents, keys, strict=True)]


def item_titles(items: pl.DataFrame, max_words: int) -> list[str]:
    """Return each item's name in a history: its title, at most `max_words` words, or its key where it has none."""
    rows = items.select("title", "item_key").iter_rows()
    return [_first_words(title, max_words) or str(key) for title, key in rows]


def history_documents(histories: Histories, titles: list[str]) -> list[str]:
    """Return every user's training part as one line of titles; held-out items are not in it."""
    parts = (histories.training_items(user) for user in range(histories.user_count))
    return [SEPARATOR.join(titles[item] for item in part) for part in parts if len(part)]


def _first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


class ScratchBackbone(NamedTuple):
    """A trained model, its tokenizer, and the log of the training."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    fitted: FitResult


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `vocabulary` tokens, which encodes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD)


def special_token_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int, int]:
    """Return the ids of the padding, begin and end tokens."""
    vocabulary = tokenizer.get_vocab()
    return vocabulary[PAD], vocabulary[BEGIN], vocabulary[END]


def pack_blocks(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, block: int) -> Tensor:
    """Return the token ids of all texts in one stream, cut into blocks, int64 [blocks, block].

    Each text stands between a begin and an end token. An incomplete last block is left out.
    """
    pad, begin, end = special_token_ids(tokenizer)
    stream: list[int] = []
    for ids in tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False):
        stream += [begin, *ids.ids, end]
    stream += [pad] * max(0, block - len(stream))
    block_count = len(stream) // block
    return torch.tensor(stream[: block_count * block], dtype=torch.int64).view(block_count, block)


class _LanguageModel(nn.Module):
    def __init__(self, model: LlamaForCausalLM, blocks: Tensor) -> None:
        super().__init__()
        self.model = model
        self.blocks: Tensor
        self.register_buffer("blocks", blocks, persistent=False)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        tokens = self.blocks[rows]
        logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
        return {"loss": F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())}


class _Pretraining:
    module: nn.Module

    def __init__(self, module: _LanguageModel, held_out: Tensor, params: ScratchParams) -> None:
        self.module, self.params = module, params
        trained = torch.ones(len(module.blocks), dtype=torch.bool)
        trained[held_out] = False
        self.training, self.held_out = trained.nonzero().flatten(), held_out

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        order = torch.randperm(len(self.training), generator=generator)[: self.params.epoch_blocks]
        return self.training[order].split(self.params.batch_blocks)

    def validate(self) -> Mapping[str, float]:
        if not len(self.held_out):
            return {}
        losses = [
            float(self.module(rows)["loss"]) * len(rows) for rows in self.held_out.split(self.params.batch_blocks)
        ]
        return {"valid_loss": sum(losses) / len(self.held_out)}


def train_scratch_backbone(
    items: Sequence[str],
    histories: Sequence[str],
    params: ScratchParams,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> ScratchBackbone:
    """Train tokenizer and model on item texts and training histories; the epoch with the lowest held-out loss stays.

    Args:
        items: one text per item.
        histories: one text per user, training parts only.
        params: sizes, and the training's length.
        seed: of held-out blocks and batches; initial weights come from torch's global generator.
        device: to train on.
        checkpoint: to resume an interrupted training.
    """
    texts = [*items, *histories]
    tokenizer = train_tokenizer(texts, params.vocabulary)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    blocks = pack_blocks([texts[index] for index in order], tokenizer, params.block_tokens)
    pad, begin, end = special_token_ids(tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=params.hidden,
        intermediate_size=params.feedforward,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    count = min(int(len(blocks) * params.held_out), 8 * params.batch_blocks)
    held_out = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    task = _Pretraining(_LanguageModel(model, blocks), held_out, params)
    fitted = fit("backbone", task, params.loop, seed=seed, device=device, checkpoint=checkpoint, higher_is_better=False)
    return ScratchBackbone(model.cpu(), tokenizer, fitted)
