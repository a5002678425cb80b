"""Trains the small writer in two steps: the vision tower names what pictures show, then the whole model answers.

Pictures are shifted by a few pixels at each step, so that the tower does not learn where a shape stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sidflow.catalog.synthetic.products import Grammar, read_grammar
from sidflow.core.stage import print_progress
from sidflow.semantics.params import View
from sidflow.semantics.requests import Prompt, Request
from sidflow.models.inputs import Encoder, Inputs
from sidflow.small_writer.lessons import Example, Lesson, catalogue_lessons, examples
from sidflow.small_writer.model import build_model, build_processor
from sidflow.small_writer.params import TrainWriterParams
from sidflow.small_writer.tokenizer import END, train_tokenizer
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.loop import FitResult, fit

SHIFT = 3  # pixels, at most, in each direction
ATTRIBUTES = ("category", "colour", "style", "pattern")  # that a picture shows
FORWARD = frozenset({"input_ids", "attention_mask", "pixel_values"})


class TrainedWriter(NamedTuple):
    """A trained writer, and the logs of its trainings."""

    model: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    tower: FitResult
    answers: FitResult


class Material(NamedTuple):
    """Questions as tensors; pictures are kept once a product."""

    pictures: Tensor  # uint8 or float32 [products with a picture, 3, side, side], as the tower reads them
    picture_row: dict[int, int]  # product -> row of `pictures`
    tokens: list[Tensor]  # of each question with its answer, int64 [t]
    answer_start: list[int]
    lesson: list[int]  # product of each question
    has_picture: list[bool]


def grammar_phrases(grammar: Grammar) -> set[str]:
    """Return the runs of words that a shop's texts repeat."""
    phrases = {f" {brand}" for brand in grammar.brands} | set(grammar.brands)
    for style in grammar.styles.values():
        phrases |= {mood.rstrip(".") for mood in style.moods} | {f" {mood}" for mood in style.moods}
    for category in grammar.categories.values():
        phrases |= {text for use in category.uses for text in (use, f" {use}")}
        phrases |= {f" {noun}" for noun in category.nouns}
    return phrases | {f" {care}" for care in grammar.care}


def prepare(lessons: Sequence[Lesson], rows: Sequence[Example], folder: Path, end: int) -> Material:
    """Return the questions as the `transformers` writer reads them: by the same code, from the saved processor."""
    from transformers import AutoConfig

    encoder = Encoder(folder, AutoConfig.from_pretrained(folder), FORWARD, sees=True)
    pictures: list[Tensor] = []
    picture_row: dict[int, int] = {}
    tokens: list[Tensor] = []
    starts: list[int] = []
    for row in rows:
        inputs: Inputs = encoder.encode(row.request, side=10_000)
        if row.request.picture is not None and row.lesson not in picture_row:
            picture_row[row.lesson] = len(pictures)
            pictures.append(inputs["pixel_values"][0])
        answer = encoder.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        starts.append(inputs["input_ids"].shape[1])
        tokens.append(torch.cat([inputs["input_ids"][0], torch.tensor([*answer, end])]))
    return Material(
        torch.stack(pictures),
        picture_row,
        tokens,
        starts,
        [row.lesson for row in rows],
        [row.request.picture is not None for row in rows],
    )


def shifted(pictures: Tensor, shift: Tensor) -> Tensor:
    """Return pictures [b, 3, side, side] moved by `shift` [2] pixels, down and right; edges are repeated."""
    side = pictures.shape[-1]
    down, right = int(shift[0]), int(shift[1])
    padded = F.pad(pictures, (SHIFT, SHIFT, SHIFT, SHIFT), mode="replicate")
    return padded[..., SHIFT - down : SHIFT - down + side, SHIFT - right : SHIFT - right + side]


class _Tower(nn.Module):
    """The tower with a linear classifier for each attribute, over the mean of its patches."""

    def __init__(self, tower: nn.Module, width: int, labels: Tensor, pictures: Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.labels: Tensor
        self.pictures: Tensor
        self.register_buffer("labels", labels, persistent=False)  # int64 [pictures, attributes]
        self.register_buffer("pictures", pictures, persistent=False)
        self.heads = nn.ModuleList([nn.Linear(width, int(count) + 1) for count in labels.max(dim=0).values])

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        rows, shift = batch
        pixels = shifted(self.pictures[rows], shift)
        features = self.tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:].mean(dim=1)
        losses = {
            name: F.cross_entropy(head(features), self.labels[rows, column])
            for column, (name, head) in enumerate(zip(ATTRIBUTES, self.heads, strict=True))
        }
        return {"loss": torch.stack(list(losses.values())).mean()} | losses


class _Answers(nn.Module):
    """The whole model; the loss is that of the answers' tokens."""

    def __init__(self, model: LlavaForConditionalGeneration, material: Material, pad: int) -> None:
        super().__init__()
        self.model, self._material, self._pad = model, material, pad

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        rows, shift = batch[0].tolist(), batch[1]
        own = self._material
        tokens = nn.utils.rnn.pad_sequence([own.tokens[row] for row in rows], True, self._pad)
        positions = torch.arange(tokens.shape[1])
        lengths = torch.tensor([len(own.tokens[row]) for row in rows])
        starts = torch.tensor([own.answer_start[row] for row in rows])
        inputs = {"input_ids": tokens, "attention_mask": (positions < lengths[:, None]).long()}
        if own.has_picture[rows[0]]:
            pixels = own.pictures[[own.picture_row[own.lesson[row]] for row in rows]]
            inputs["pixel_values"] = shifted(pixels, shift)
        device = self.model.device
        hidden = self.model.model(**{name: value.to(device) for name, value in inputs.items()}).last_hidden_state
        asked = (positions >= starts[:, None]) & (positions < lengths[:, None])
        rows_of, columns = asked.nonzero(as_tuple=True)
        logits = self.model.lm_head(hidden[rows_of, columns - 1])
        return {"loss": F.cross_entropy(logits.float(), tokens[rows_of, columns].to(device))}


class _Task:
    """Batches of rows in random order, each with its shift of the pictures; rows of one group stand together."""

    def __init__(self, module: nn.Module, groups: Sequence[Tensor], batch_size: int) -> None:
        self.module, self._groups, self._batch_size = module, groups, batch_size

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the epoch's batches."""
        parts = [
            part
            for group in self._groups
            for part in group[torch.randperm(len(group), generator=generator)].split(self._batch_size)
        ]
        order = torch.randperm(len(parts), generator=generator).tolist()
        shifts = torch.randint(-SHIFT, SHIFT + 1, (len(parts), 2), generator=generator)
        return [(parts[index], shift) for index, shift in zip(order, shifts, strict=True)]

    def validate(self) -> Mapping[str, float]:
        """Return nothing: the last epoch stays."""
        return {}


def train_small_writer(
    params: TrainWriterParams,
    prompts: Mapping[View, Prompt],
    *,
    seed: int,
    device: torch.device,
    settings: Mapping[str, object],
) -> TrainedWriter:
    """Train tokenizer, tower and model on the catalogues of `params.seeds`.

    Args:
        params: catalogues, sizes, and the trainings' lengths.
        prompts: the questions of each view.
        seed: of batches and shifts; initial weights come from torch's global generator.
        device: to train on.
        settings: what names the checkpoints from which a killed training resumes.
    """
    grammar_path = Path(params.grammar)
    lessons = [lesson for own in params.seeds for lesson in catalogue_lessons(grammar_path, own, params.items)]
    print_progress(f"train_writer: {len(lessons)} products drawn")
    rows = examples(lessons, prompts)
    tokenizer = train_tokenizer(rows, grammar_phrases(read_grammar(grammar_path)))
    model = build_model(tokenizer, params.sizes)
    with TemporaryDirectory() as name:
        build_processor(tokenizer, params.sizes).save_pretrained(name)
        model.config.save_pretrained(name)
        ids = tokenizer.get_vocab()
        material = prepare(lessons, rows, Path(name), ids[END])
    print_progress(f"train_writer: {len(rows)} questions, {len(tokenizer)} tokens in the vocabulary")
    tower = _train_tower(model, lessons, material, params, seed, device, settings)
    groups = _groups(rows)
    task = _Task(_Answers(model, material, tokenizer.pad_token_id), groups, params.batch_size)  # type: ignore[arg-type]
    checkpoint = Checkpoint("train_writer@answers", settings)
    answers = fit("train_writer", task, params.loop, seed=seed, device=device, checkpoint=checkpoint)
    return TrainedWriter(model.cpu(), tokenizer, tower, answers)


def _groups(rows: Sequence[Example]) -> list[Tensor]:
    """Return the questions of each view."""
    views = sorted({row.request.view for row in rows})
    return [torch.tensor([index for index, row in enumerate(rows) if row.request.view == view]) for view in views]


def _train_tower(
    model: LlavaForConditionalGeneration,
    lessons: Sequence[Lesson],
    material: Material,
    params: TrainWriterParams,
    seed: int,
    device: torch.device,
    settings: Mapping[str, object],
) -> FitResult:
    owners = sorted(material.picture_row, key=material.picture_row.__getitem__)
    columns = []
    for name in ATTRIBUTES:
        values = [lessons[owner].truth[name] for owner in owners]
        columns.append(np.unique(values, return_inverse=True)[1])
    labels = torch.from_numpy(np.stack(columns, axis=1)).long()
    module = _Tower(model.model.vision_tower, params.sizes.vision_hidden, labels, material.pictures)
    task = _Task(module, [torch.arange(len(owners))], params.batch_size)
    checkpoint = Checkpoint("train_writer@tower", settings)
    return fit("train_writer tower", task, params.tower_loop, seed=seed, device=device, checkpoint=checkpoint)
