"""Text embeddings by a model that is fine-tuned on the catalogue itself: views of one item attract, others repel.

A view is an item's text with some of its pieces left out: title, brand, categories, attributes, sentences. What two
views of an item share, and other items lack, is what its vector has to keep. No interactions are read. LoRA changes
the model; its adapters are merged before the whole texts are encoded as kind `transformer` encodes them.

Source: LLMEmb (arXiv 2409.20059), attribute-level augmentation and contrastive loss; InfoNCE (arXiv 1807.03748). Ours:
any encoder or decoder, and no adapter to collaborative embeddings, since every recommender here learns its own.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from sidflow.core.errors import InputError
from sidflow.core.stage import print_progress
from sidflow.features.documents import Pieces, joined_text
from sidflow.features.model_vectors import one_thread
from sidflow.features.params import ContrastiveEncoder
from sidflow.features.sentence_layers import pool
from sidflow.features.text_model import EncodedDocuments, TextModel, encode_by
from sidflow.models.loading import without_library_output
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import LoopParams, fit

STEP = 16  # tokens; lengths of training batches are multiples of it


def encode_contrastively(
    documents: Sequence[Pieces], params: ContrastiveEncoder, name: str, seed: int
) -> EncodedDocuments:
    """Return the documents' vectors by the model that was fine-tuned on them, each scaled to length 1.

    Args:
        documents: the pieces of each; their order is kept.
        params: of the encoder and its training.
        name: of the encoder, for messages.
        seed: of views and batches.

    Raises:
        InputError: the model is not here or cannot be read, or fewer than two items can be told apart.
    """
    model = ContrastiveModel(documents, params, name, seed)
    encoded = encode_by(model, [joined_text(document) for document in documents])
    model.checkpoint().discard()  # not before every vector is stored: a run that is killed while encoding goes on
    return encoded


class ContrastiveModel(TextModel):
    """A text model that is trained when its first vector is needed."""

    def __init__(self, documents: Sequence[Pieces], params: ContrastiveEncoder, name: str, seed: int) -> None:
        """Locate the model; nothing is trained yet."""
        super().__init__(params, name, seed)
        self._documents, self._training, self._training_seed = documents, params, seed
        self._tuned: PreTrainedModel | None = None

    def recipe(self) -> dict[str, object]:
        """Return what a vector depends on beside its tokens: the whole catalogue, and the training's params."""
        catalogue = hashlib.sha256(json.dumps([list(document) for document in self._documents]).encode()).hexdigest()
        training = self._training.model_dump(mode="json", exclude={"storage", "centre", "model"})
        return super().recipe() | {"catalogue": catalogue, "training": training, "seed": self._training_seed}

    def network(self) -> PreTrainedModel:
        """Return the fine-tuned model; the first call trains it."""
        if self._tuned is None:
            self._tuned = self._fine_tuned(super().network())
        return self._tuned

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the training."""
        return Checkpoint(f"embed-{self.name}", {"recipe": self.recipe()})

    def _fine_tuned(self, network: PreTrainedModel) -> PreTrainedModel:
        params = self._training
        device = prepare_training(self._training_seed, 1)
        module = ContrastiveModule(with_adapters(network, params), self, self._documents, params)
        if len(module.trainable) < 2:
            raise InputError(
                f"params.yaml:embed.encoders.{self.name}",
                expected="two items or more whose text has two pieces or more, such as title and category",
                found=str(len(module.trainable)),
                remedy="use kind: transformer for this catalogue",
            )
        print_progress(f"{self.name}: fine-tunes {module.trained_weights()} weights on {len(module.trainable)} items")
        task = _Task(module, params.items_per_batch)
        loop = LoopParams(
            epochs=params.epochs, learning_rate=params.learning_rate, warmup_steps=params.warmup_steps, patience=0
        )
        with one_thread(), without_library_output():
            fit(self.name, task, loop, seed=self._training_seed, device=device, checkpoint=self.checkpoint())
        merged = module.network.merge_and_unload()
        return merged.requires_grad_(False).eval()


def with_adapters(network: PreTrainedModel, params: ContrastiveEncoder) -> Any:
    """Return the frozen model with adapters in every linear layer but the unused pooler; they alone are trained."""
    lora = params.lora
    has_pooler = any("pooler" in name for name, _ in network.named_modules())
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        exclude_modules=r".*pooler.*" if has_pooler else None,
    )
    with without_library_output():
        return get_peft_model(network, config)


class Batch(NamedTuple):
    """Items of a step, and the seed of what their views leave out."""

    rows: list[int]
    seed: int


class ContrastiveModule(nn.Module):
    """The model with adapters, and InfoNCE between two views of the batch's items."""

    def __init__(self, network: Any, model: TextModel, documents: Sequence[Pieces], params: ContrastiveEncoder) -> None:
        super().__init__()
        self.network, self._params = network, params
        self.layers = copy.deepcopy(model.layers)  # frozen; the model's own stay where they are
        self._chunk, self._documents = model.first_chunk, documents
        self.trainable = [row for row, document in enumerate(documents) if len(document) > 1]
        self._texts = [joined_text(document) for document in documents]

    def trained_weights(self) -> int:
        """Return how many numbers are trained."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch: each view must find the other view of its item among those of all items."""
        generator = torch.Generator().manual_seed(batch.seed)
        views = [view(self._documents[row], self._params.drop, generator) for _ in range(2) for row in batch.rows]
        first, second = self._vectors([joined_text(pieces) for pieces in views]).chunk(2)
        scores = first @ second.T / self._params.temperature
        texts = [self._texts[row] for row in batch.rows]
        same = torch.tensor([[one == other for other in texts] for one in texts], device=scores.device)
        same.fill_diagonal_(False)  # items of one text do not repel each other
        scores = scores.masked_fill(same, float("-inf"))
        targets = torch.arange(len(batch.rows), device=scores.device)
        loss = (functional.cross_entropy(scores, targets) + functional.cross_entropy(scores.T, targets)) / 2
        return {"loss": loss, "agreement": (scores.argmax(1) == targets).float().mean()}

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the pooled states of texts at length 1, [b, d]."""
        device = next(self.network.parameters()).device
        rows = [self._chunk(text, self._params.view_tokens) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        longest = -(-int(lengths.max()) // STEP) * STEP
        tokens = torch.zeros((len(rows), longest), dtype=torch.long)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
        mask = torch.arange(longest) < lengths[:, None]
        states = self.network(input_ids=tokens.to(device), attention_mask=mask.long().to(device)).last_hidden_state
        vectors = pool(states, mask.to(device), lengths.to(device), self._params.pooling)
        return functional.normalize(self.layers(vectors.float()), dim=1)


def view(pieces: Pieces, drop: float, generator: torch.Generator) -> list[str]:
    """Return an item's pieces in order, each left out with probability `drop`; one at least stays.

    >>> view(("Red lamp", "Lights"), 0.0, torch.Generator())
    ['Red lamp', 'Lights']
    """
    kept = torch.rand(len(pieces), generator=generator) >= drop
    if not kept.any():
        kept[torch.randint(len(pieces), (1,), generator=generator)] = True
    return [piece for piece, stays in zip(pieces, kept.tolist(), strict=True) if stays]


class _Task:
    """Every item once an epoch, in batches of items drawn anew."""

    def __init__(self, module: ContrastiveModule, items_per_batch: int) -> None:
        self.module: nn.Module = module
        self._rows, self._size = torch.tensor(module.trainable), items_per_batch

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Batch]:
        order = self._rows[torch.randperm(len(self._rows), generator=generator)]
        parts = [part.tolist() for part in order.split(self._size)]
        if len(parts) > 1 and len(parts[-1]) < 2:
            parts.pop()  # one item has nothing to be told from
        seeds = torch.randint(2**62, (len(parts),), generator=generator).tolist()
        return [Batch(rows, seed) for rows, seed in zip(parts, seeds, strict=True)]

    def validate(self) -> Mapping[str, float]:
        return {}
