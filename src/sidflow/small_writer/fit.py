"""Trains the small writer in two steps: the vision tower names what pictures show, then the whole model answers.

Pictures are shifted by a few pixels at each step, so that the tower does not learn where a shape stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sidflow.artifacts.features import IMAGE
from sidflow.catalog.synthetic.products import Grammar, read_grammar
from sidflow.core.stage import print_progress
from sidflow.models.inputs import ModelInputs
from sidflow.models.loading import without_library_output
from sidflow.semantics.params import View, default_prompts
from sidflow.semantics.requests import Prompt, read_prompt
from sidflow.small_writer.lessons import Example, Lesson, catalogue_lessons, examples
from sidflow.small_writer.model import build_model, build_processor
from sidflow.small_writer.params import TrainWriterParams
from sidflow.small_writer.tokenizer import END, PAD, train_tokenizer
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.loop import fit

SHIFT = 3  # pixels, at most, in each direction
ATTRIBUTES = ("category", "colour", "style", "pattern")  # that a picture shows
FORWARD = frozenset({"input_ids", "attention_mask", "pixel_values"})


class TrainedWriter(NamedTuple):
    """A trained writer, and the checkpoints of its two trainings."""

    model: LlavaForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    checkpoints: tuple[Checkpoint, ...]

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints: the folder is written."""
        for checkpoint in self.checkpoints:
            checkpoint.discard()


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


def prepare(rows: Sequence[Example], folder: Path, end: int) -> Material:
    """Return the questions as the `transformers` writer reads them: by the same code, from the saved processor."""
    encoder = ModelInputs(folder, AutoConfig.from_pretrained(folder), FORWARD, sees=True)
    pictures: list[Tensor] = []
    picture_row: dict[int, int] = {}
    tokens: list[Tensor] = []
    starts: list[int] = []
    for row in rows:
        inputs = encoder.encode(row.request.prompt, row.request.picture, side=10_000)
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

    def __init__(
        self, tower: nn.Module, width: int, names: list[list[str]], material: Material, lessons: Sequence[Lesson]
    ) -> None:
        super().__init__()
        self.tower, self.names = tower, names
        self.labels: Tensor
        self.pictures: Tensor
        self.register_buffer("labels", self.labels_of(material, lessons), persistent=False)
        self.register_buffer("pictures", material.pictures, persistent=False)
        self.heads = nn.ModuleList([nn.Linear(width, len(values)) for values in names])

    def labels_of(self, material: Material, lessons: Sequence[Lesson]) -> Tensor:
        """Return the true values of each picture, int64 [pictures, attributes]; -1 where it is none of `names`."""
        owners = sorted(material.picture_row, key=material.picture_row.__getitem__)
        rows = [
            [
                values.index(lessons[owner].truth[name]) if lessons[owner].truth[name] in values else -1
                for name, values in zip(ATTRIBUTES, self.names, strict=True)
            ]
            for owner in owners
        ]
        return torch.tensor(rows)

    def logits(self, pixels: Tensor) -> list[Tensor]:
        """Return the logits of each attribute, [b, values]."""
        features = self.tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:].mean(dim=1)
        return [head(features) for head in self.heads]

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        rows, shift = batch
        logits = self.logits(shifted(self.pictures[rows], shift))
        losses = {
            name: F.cross_entropy(own, self.labels[rows, column])
            for column, (name, own) in enumerate(zip(ATTRIBUTES, logits, strict=True))
        }
        return {"loss": torch.stack(list(losses.values())).mean()} | losses


class _Answers(nn.Module):
    """The whole model with its tower frozen, as LLaVA is trained; the loss is that of the answers' tokens."""

    def __init__(self, model: LlavaForConditionalGeneration, material: Material, pad: int) -> None:
        super().__init__()
        self.model, self._material, self._pad = model, material, pad
        model.model.vision_tower.requires_grad_(False).zero_grad()  # what is left would count when norms are clipped

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
        hidden = self.model.model(
            **{name: value.to(device) for name, value in inputs.items()}, use_cache=False
        ).last_hidden_state
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


class _TowerTask(_Task):
    """Batches of pictures; the epoch that is right most often about unseen ones stays."""

    def __init__(self, module: _Tower, batch_size: int, unseen: Material, lessons: Sequence[Lesson]) -> None:
        super().__init__(module, [torch.arange(len(module.pictures))], batch_size)
        self._tower, self._unseen, self._labels = module, unseen.pictures, module.labels_of(unseen, lessons)

    def validate(self) -> Mapping[str, float]:
        """Return the share of right answers, over all attributes and of each."""
        device = self._tower.pictures.device
        parts = [self._tower.logits(pixels.to(device)) for pixels in self._unseen.split(128)]
        chosen = torch.stack([torch.cat([part[column] for part in parts]).argmax(dim=1) for column in range(4)], dim=1)
        right = (chosen.cpu() == self._labels).float().mean(dim=0)
        return {"right": float(right.mean())} | {
            f"{name}_right": float(share) for name, share in zip(ATTRIBUTES, right, strict=True)
        }


def train_small_writer(params: TrainWriterParams, *, seed: int, threads: int, device: torch.device) -> TrainedWriter:
    """Train tokenizer, tower and model on the catalogues of `params.seeds`.

    Args:
        params: catalogues, sizes, and the trainings' lengths.
        seed: of batches and shifts; initial weights come from torch's global generator.
        threads: that torch uses; part of what a checkpoint belongs to.
        device: to train on.
    """
    grammar_path = Path(params.grammar)
    prompts: dict[View, Prompt] = {view: read_prompt(name, view) for view, name in default_prompts().items()}
    lessons = [lesson for own in params.seeds for lesson in catalogue_lessons(grammar_path, own, params.items)]
    held_out = catalogue_lessons(grammar_path, params.held_out_seed, params.held_out_items)
    print_progress(f"train_writer: {len(lessons)} products drawn")
    rows = examples(lessons, prompts)
    tokenizer = train_tokenizer(rows, grammar_phrases(read_grammar(grammar_path)))
    model = build_model(tokenizer, params.sizes)
    with TemporaryDirectory() as name, without_library_output():
        folder = Path(name)
        build_processor(tokenizer, params.sizes).save_pretrained(folder)
        model.config.save_pretrained(folder)
        end = tokenizer.get_vocab()[END]
        material = prepare(rows, folder, end)
        unseen = prepare([one for one in examples(held_out, prompts) if one.request.view == IMAGE], folder, end)
    print_progress(f"train_writer: {len(rows)} questions, a vocabulary of {len(tokenizer)} tokens")
    settings = {"params": params.model_dump(), "seed": seed, "threads": threads}
    checkpoints = Checkpoint("train_writer@tower", settings), Checkpoint("train_writer@answers", settings)
    tower = _Tower(model.model.vision_tower, params.sizes.vision_hidden, _names(lessons), material, lessons)
    fit(
        "train_writer: tower",
        _TowerTask(tower, params.tower_batch_size, unseen, held_out),
        params.tower_loop,
        seed=seed,
        device=device,
        checkpoint=checkpoints[0],
    )
    answers = _Answers(model, material, tokenizer.get_vocab()[PAD])
    fit(
        "train_writer: answers",
        _Task(answers, _groups(rows), params.batch_size),
        params.loop,
        seed=seed,
        device=device,
        checkpoint=checkpoints[1],
    )
    return TrainedWriter(model.cpu(), tokenizer, checkpoints)


def _groups(rows: Sequence[Example]) -> list[Tensor]:
    """Return the questions of each view."""
    views = sorted({row.request.view for row in rows})
    return [torch.tensor([index for index, row in enumerate(rows) if row.request.view == view]) for view in views]


def _names(lessons: Sequence[Lesson]) -> list[list[str]]:
    """Return the values of each attribute."""
    return [sorted({lesson.truth[name] for lesson in lessons if lesson.picture}) for name in ATTRIBUTES]
