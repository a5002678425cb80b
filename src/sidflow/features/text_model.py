"""Text embeddings by a trained model: an encoder such as MiniLM, or a language model's states.

A model knows what words mean; TF-IDF knows which exact words an item has. They are best side by side (`concat`).

Texts of similar length go together, in batches of one shape for each length. So a vector's bits depend on its own
tokens and on params, and not on which other texts were encoded with it. A batch has few enough tokens for its states
to stay in a core's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from sidflow.core.errors import InputError
from sidflow.features.documents import Pieces, joined_text
from sidflow.features.model_vectors import OPTIONS, ModelFolder, by_workers, one_thread, rows_of_unit_length
from sidflow.features.params import TextModelEncoder
from sidflow.features.sentence_layers import pool, read_sentence_layers
from sidflow.features.vector_store import Batches, stored_vectors
from sidflow.models.loading import load_errors_as_input_errors, without_library_output

EXPECTED = "a text model and a tokenizer that transformers reads without remote code"
REMEDY = "point embed.encoders.*.model at a text encoder or decoder saved by transformers with safetensors weights"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
POOLER = "pooler."  # weights above the token states, which nobody here uses
STEP = 8  # tokens; lengths of batches are multiples of it


class EncodedDocuments(NamedTuple):
    """One row per document, or several."""

    values: np.ndarray  # float32 [n, d] or [n, u, d], of length 1; absent rows are zero
    present: np.ndarray  # bool [n] or [n, u]: there is text
    record: dict[str, object]  # of the model: origin and file hashes


def encode_documents(documents: Sequence[Pieces], params: TextModelEncoder, name: str, seed: int) -> EncodedDocuments:
    """Return the documents' vectors, each scaled to length 1.

    Args:
        documents: the pieces of each; their order is kept.
        params: of the encoder.
        name: of the encoder, for messages.
        seed: of random weights, where params ask for them.

    Raises:
        InputError: the model is not here, cannot be read, or gives no numbers.
    """
    return encode_texts([joined_text(document) for document in documents], params, name, seed)


def encode_units(
    units_by_item: Sequence[Sequence[str]], max_units: int, params: TextModelEncoder, name: str, seed: int
) -> EncodedDocuments:
    """Return the vectors of each item's units, [n, max_units, d], as `encode_documents` makes them."""
    encoded = encode_texts([unit for units in units_by_item for unit in units], params, name, seed)
    counts = [len(units) for units in units_by_item]
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = np.array([column for count in counts for column in range(count)], dtype=int)
    values = np.zeros((len(counts), max_units, encoded.values.shape[1]), dtype=np.float32)
    present = np.zeros((len(counts), max_units), dtype=bool)
    values[rows, columns], present[rows, columns] = encoded.values, encoded.present
    return EncodedDocuments(values, present, encoded.record)


def encode_texts(texts: Sequence[str], params: TextModelEncoder, name: str, seed: int) -> EncodedDocuments:
    """Return the texts' vectors, as `encode_documents` does."""
    return encode_by(TextModel(params, name, seed), texts)


def encode_by(model: TextModel, texts: Sequence[str]) -> EncodedDocuments:
    """Return the texts' vectors by a model, as `encode_documents` does."""
    rows = [row for row, text in enumerate(texts) if text.strip()]
    with without_library_output():  # tokenizers remark on texts that are longer than the model reads
        chunks = [chunk for row in rows for chunk in model.chunks(texts[row], row)]
    contents = [np.asarray(chunk.tokens, dtype="<i4").tobytes() for chunk in chunks]
    vectors = stored_vectors(
        contents,
        model.recipe(),
        lambda missing: model.encode([chunks[position].tokens for position in missing], missing),
        model.name,
    )
    values = np.zeros((len(texts), model.width))
    for row, group in groupby(zip(chunks, vectors, strict=True), key=lambda pair: pair[0].row):
        own = list(group)  # the chunks of one text, by length
        total = sum(chunk.length for chunk, _ in own)
        values[row] = sum(vector.astype(np.float64) * (chunk.length / total) for chunk, vector in own)
    present = np.zeros(len(texts), dtype=bool)
    present[rows] = True
    return EncodedDocuments(rows_of_unit_length(values, present, model.centre, model.folder), present, model.record)


class Chunk(NamedTuple):
    """A run of tokens that the model reads at a time."""

    row: int  # of its text
    tokens: list[int]  # those that the model wants around it included
    length: int  # its own tokens


class TextModel(ModelFolder):
    """A text model and its tokenizer; weights are read when the first text is encoded."""

    def __init__(self, params: TextModelEncoder, name: str, seed: int) -> None:
        """Locate the model, and read its config and tokenizer.

        Raises:
            InputError: the model is not here or cannot be read, or is no text model for these params.
        """
        super().__init__(params, name, seed, ("a tokenizer", "tokenizer"), REMEDY)
        with load_errors_as_input_errors(self.folder, EXPECTED, REMEDY), without_library_output():
            self.config: PretrainedConfig = AutoConfig.from_pretrained(self.folder, **OPTIONS)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, **OPTIONS)
            hidden = int(self.config.get_text_config().hidden_size)
            self._before, self._after = _marks(self.tokenizer)
        drawn = {"seed": seed if params.model.weights == "random" else None}
        read = read_sentence_layers(self.folder, params.pooling, hidden, self.slot, prefix=params.prefix, **drawn)
        self.layers, self.width = read
        self.name, self.centre = name, params.centre
        self._params = params
        self._limit = _position_limit(self.config)
        if params.max_tokens > self._limit:
            raise InputError(
                f"params.yaml:embed.encoders.{name}.max_tokens",
                expected=f"at most {self._limit}, the positions of the model",
                found=str(params.max_tokens),
                remedy="set it lower; longer texts are read in chunks",
            )
        self._head = self._bare(params.prefix)
        if self._room(len(self._head)) < 1:
            raise InputError(
                f"params.yaml:embed.encoders.{name}.prefix",
                expected=f"a prefix that leaves room in max_tokens = {params.max_tokens}",
                found=f"{len(self._head)} tokens",
                remedy="shorten it, or set max_tokens higher",
            )

    def recipe(self) -> dict[str, object]:
        """Return what a chunk's vector depends on beside its tokens."""
        params = self._params
        own = {"pooling": params.pooling, "dtype": params.dtype, "batch_tokens": params.batch_tokens, "step": STEP}
        return self.base_recipe() | own

    def chunks(self, text: str, row: int) -> Iterator[Chunk]:
        """Yield a text in chunks of at most `max_tokens`; each begins with the prefix."""
        ids = self._bare(self._params.prefix + text)
        shared = 0
        while shared < min(len(self._head), len(ids)) and self._head[shared] == ids[shared]:
            shared += 1
        head, body = ids[:shared], ids[shared:]  # the prefix's last token may join the text's first
        room = self._room(len(head))
        overlap = min(self._params.overlap, room // 2)
        for number in range(self._params.max_chunks):
            start = number * (room - overlap)
            piece = body[start : start + room]
            if piece or number == 0:
                yield Chunk(row, [*self._before, *head, *piece, *self._after] or [0], max(len(piece), 1))
            if start + room >= len(body):
                return

    def first_chunk(self, text: str, tokens: int) -> list[int]:
        """Return the beginning of a text as the model reads it, cut to `tokens`; the prefix is part of it."""
        room = min(tokens, self._params.max_tokens) - len(self._before) - len(self._after)
        return [*self._before, *self._bare(self._params.prefix + text)[: max(1, room)], *self._after]

    def _bare(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _room(self, head: int) -> int:
        return self._params.max_tokens - len(self._before) - len(self._after) - head

    def network(self) -> PreTrainedModel:
        """Return the model that encodes, frozen."""
        with load_errors_as_input_errors(self.folder, EXPECTED, REMEDY), without_library_output():
            text_alone = AutoModelForTextEncoding if self.config.is_encoder_decoder else AutoModel
            return self.load(text_alone, self.config, unused=POOLER)

    def encode(self, token_lists: Sequence[Sequence[int]], positions: Sequence[int]) -> Batches:
        """Yield the pooled states of texts, batch by batch, the shortest first.

        Args:
            token_lists: the tokens of each.
            positions: what each is called in the batches.
        """
        lengths = [self._padded_length(len(tokens)) for tokens in token_lists]
        order = sorted(range(len(token_lists)), key=lambda index: (lengths[index], index))
        batches = []
        for length, group in groupby(order, key=lambda index: lengths[index]):
            same, rows = list(group), self._rows(length)
            batches += [(length, same[start : start + rows]) for start in range(0, len(same), rows)]

        with one_thread() as threads:
            network = self.network()
            torch.nn.Module.to(network, DTYPES[self._params.dtype])

            def run(batch: tuple[int, list[int]]) -> np.ndarray:
                return self._pooled(network, [token_lists[index] for index in batch[1]], batch[0])

            workers = threads if self.device.type == "cpu" else 1
            with load_errors_as_input_errors(self.folder, EXPECTED, REMEDY), without_library_output():
                for (_, chosen), vectors in by_workers(run, batches, workers):
                    yield [positions[index] for index in chosen], vectors

    def _padded_length(self, tokens: int) -> int:
        """Return the length of the batch that a text is read in: one token more at least, where the model can.

        A mask that is never full keeps one path of attention: without padding a model takes another, which has other
        last bits.
        """
        return min((tokens // STEP + 1) * STEP, self._limit)

    def _rows(self, length: int) -> int:
        """Return how many texts of one length are encoded at a time."""
        return max(1, self._params.batch_tokens // length)

    @torch.inference_mode()
    def _pooled(self, network: Any, batch: Sequence[Sequence[int]], length: int) -> np.ndarray:
        """Return the pooled states of a batch after the folder's own layers, float32 [b, d].

        A length has one shape, [rows, length], whatever the batch holds. Where texts can be as long as the model
        reads, one row more has a single token, so that the mask is never full.
        """
        rows = self._rows(length) + (length == self._limit)
        tokens = torch.zeros((rows, length), dtype=torch.long)
        counts = torch.ones(rows, dtype=torch.long)
        for row, ids in enumerate(batch):
            tokens[row, : len(ids)] = torch.tensor(ids)
            counts[row] = len(ids)
        mask = torch.arange(length) < counts[:, None]
        on_device = {"input_ids": tokens.to(self.device), "attention_mask": mask.long().to(self.device)}
        states = network(**on_device).last_hidden_state.float().cpu()
        return self.layers(pool(states, mask, counts, self._params.pooling))[: len(batch)].numpy()


def _marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before and after a text."""
    bare, whole = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _position_limit(config: PretrainedConfig) -> int:
    """Return how many tokens a model can read; those that count positions from its padding token have fewer."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or 1_000_000
    offset = text.pad_token_id + 1 if text.model_type in ("roberta", "xlm-roberta", "mpnet", "camembert") else 0
    return int(limit) - offset
