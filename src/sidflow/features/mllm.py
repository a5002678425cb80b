"""Joint embeddings of words and picture: hidden states of a multimodal language model, such as the writer of views.

The model reads an item as `describe` has it read: its picture and a prompt with its words, through its own chat
template. Its last hidden states, of the last token or their mean, are the item's vector. In a causal model only the
last token has read everything, and a prompt that asks for one word gathers the item there.

Source: PromptEOL (arXiv 2307.16645), E5-V (arXiv 2407.12580): a causal model asked to sum up an item in one word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from string import Template
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sidflow.artifacts.item_content import ItemText
from sidflow.core.devices import pick_device
from sidflow.core.errors import InputError
from sidflow.features.documents import joined_text
from sidflow.features.model_vectors import one_thread, rows_of_unit_length
from sidflow.features.params import MllmEncoder
from sidflow.features.tfidf import EncodedRows
from sidflow.features.vector_store import Batches, stored_vectors
from sidflow.models.files import origin
from sidflow.models.inputs import BY_TOKEN, Inputs, ModelInputs, batch_shape, collate
from sidflow.models.loading import load_errors_as_input_errors, without_library_output
from sidflow.models.prompted import REMEDY, PromptedModel, load_prompted, prompted_model
from sidflow.models.shrink import picture_size

STEP = 16  # tokens; lengths of batches are multiples of it
WAITING = 16  # batches' worth of items whose tokens and pixels are in memory at a time, at most


class Question(NamedTuple):
    """What the model reads of one item."""

    prompt: str
    picture: bytes | None

    def content(self) -> bytes:
        """Return what tells one question from another."""
        return hashlib.sha256(self.picture or b"").digest() + self.prompt.encode()


def encode_jointly(
    texts: Sequence[ItemText], images: pl.DataFrame, params: MllmEncoder, name: str
) -> tuple[EncodedRows, dict[str, object]]:
    """Return a row per catalogue item at length 1, and the model's record; no words and no picture make a zero row.

    Args:
        texts: of all items, in order.
        images: the pictures, as JPEG.
        params: of the encoder.
        name: of the encoder, for messages.

    Raises:
        InputError: the model is not here, sees nothing, cannot be read, or gives no numbers.
    """
    model = MultimodalModel(params, name)
    pictures: dict[int, bytes] = dict(images.select("item_id", "picture").iter_rows())
    rows = [row for row, text in enumerate(texts) if text.pieces() or row in pictures]
    questions = [model.question(joined_text(texts[row].pieces()), pictures.get(row)) for row in rows]
    vectors = stored_vectors(
        [question.content() for question in questions],
        model.recipe(),
        lambda missing: model.encode([questions[position] for position in missing], missing),
        name,
    )
    present = np.zeros(len(texts), dtype=bool)
    present[rows] = True
    values = np.zeros((len(texts), len(vectors[0]) if vectors else 1))
    if vectors:
        values[rows] = np.stack(vectors)
    folder = model.located.folder
    return EncodedRows(rows_of_unit_length(values, present, params.centre, folder), present), model.record


class MultimodalModel:
    """A model that reads words and pictures; its weights are read when the first item is encoded."""

    def __init__(self, params: MllmEncoder, name: str) -> None:
        """Locate the model.

        Raises:
            InputError: it is not here, or reads text alone.
        """
        slot = f"embed.encoders.{name}.model"
        self.located: PromptedModel = prompted_model(params.model, slot)
        if not self.located.sees:
            raise InputError(
                f"params.yaml:{slot}",
                expected="an image-text-to-text model",
                found=f"a {self.located.config.model_type} that reads text alone",
                remedy="use kind: transformer for it",
            )
        self._params, self._device = params, pick_device()
        self.record: dict[str, object] = {
            "trained_weights": params.model.weights == "pretrained",
            "model": origin(params.model) | {"files": self.located.files},
        }

    def question(self, words: str, picture: bytes | None) -> Question:
        """Return what the model reads of an item."""
        words = words[: self._params.max_characters]
        return Question(Template(self._params.prompt).substitute(item=words), picture)

    def recipe(self) -> dict[str, object]:
        """Return what a vector depends on beside prompt and picture."""
        files = hashlib.sha256(json.dumps(sorted(self.located.files.items())).encode()).hexdigest()
        return {
            "files": files,
            "weights": self._params.model.weights,
            "pooling": self._params.pooling,
            "picture_side": self._params.picture_side,
            "batch_size": self._params.batch_size,
            "step": STEP,
            "torch": torch.__version__,
            "device": self._device.type,
        }

    def encode(self, questions: Sequence[Question], positions: Sequence[int]) -> Batches:
        """Yield the vectors of items, batch by batch; those of one shape and length go together.

        Items are read in the order of picture size and prompt length, so that those of one shape come near each other.
        The vectors do not depend on it: a batch of a shape always has `batch_size` rows.

        Args:
            questions: one per item.
            positions: what each is called in the batches.
        """
        folder = self.located.folder
        expected = "a multimodal model that runs on its own processor's inputs"
        with load_errors_as_input_errors(folder, expected, REMEDY), without_library_output(), one_thread():
            network, inputs = load_prompted(self.located, self._device)
            for batch in self._batches(inputs, questions):
                filled = [encoded for _, encoded in batch]
                filled += filled[-1:] * (self._params.batch_size - len(batch))
                vectors = self._vectors(network, filled)
                yield [positions[index] for index, _ in batch], vectors[: len(batch)].numpy()

    def _batches(self, inputs: ModelInputs, questions: Sequence[Question]) -> Iterator[list[tuple[int, Inputs]]]:
        """Yield all questions by number with what the model reads of them, in batches of one shape and length.

        A shape waits for `batch_size` items; where too many items wait in all, the fullest shape goes ahead.
        """
        sizes = [picture_size(question.picture) for question in questions]
        order = sorted(range(len(questions)), key=lambda index: (sizes[index], len(questions[index].prompt), index))
        waiting: dict[tuple[object, int], list[tuple[int, Inputs]]] = {}
        for index in order:
            encoded = self._padded(inputs, questions[index])
            shape = (batch_shape(encoded), encoded["input_ids"].shape[1])
            waiting.setdefault(shape, []).append((index, encoded))
            if len(waiting[shape]) == self._params.batch_size:
                yield waiting.pop(shape)
            elif sum(map(len, waiting.values())) >= WAITING * self._params.batch_size:
                yield waiting.pop(max(waiting, key=lambda one: len(waiting[one])))
        yield from waiting.values()

    def _padded(self, inputs: ModelInputs, question: Question) -> Inputs:
        """Return a question's inputs, padded on the right to a multiple of STEP, by one token at least.

        A causal model's states do not depend on what follows. A mask that is never full keeps one path of attention,
        so that a vector's bits depend on its own item and on params.
        """
        encoded = inputs.encode(question.prompt, question.picture, self._params.picture_side)
        length = encoded["input_ids"].shape[1]
        limit = self.located.context
        if limit is not None and length > limit:
            raise InputError(
                f"{self.located.folder}",
                expected=f"a prompt and a picture of at most {limit} tokens",
                found=str(length),
                remedy="set max_characters or picture_side of the encoder lower",
            )
        more = STEP - length % STEP
        pad = inputs.tokenizer.pad_token_id or 0
        return {
            name: torch.nn.functional.pad(value, (0, more), value=pad if name == "input_ids" else 0)
            if name in BY_TOKEN
            else value
            for name, value in encoded.items()
        }

    @torch.inference_mode()
    def _vectors(self, network: Any, batch: Sequence[Inputs]) -> Tensor:
        """Return the pooled last hidden states of a batch of one shape, float32 [b, d]."""
        joined = {
            name: value.to(self._device, network.dtype) if value.is_floating_point() else value.to(self._device)
            for name, value in collate(batch, 0).items()
        }
        mask = joined["attention_mask"].bool()
        states = network(**joined, output_hidden_states=True, use_cache=False).hidden_states[-1].float()
        if self._params.pooling == "last":
            last = mask.sum(1) - 1
            return states[torch.arange(len(states), device=states.device), last].cpu()
        return ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).cpu()
