"""What MME-SID's benchmarks share: a finished run, the model around it, a share of its training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import side_by_side
import torch
from finished_run import add_run_option, enter_run
from torch import Tensor

from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.recommenders import BACKBONE, HEADS, adapter_folder
from sidflow.backbones.adapter import load_adapter
from sidflow.backbones.models import Backbone, load_backbone
from sidflow.backbones.prompted_backbone import Prompt, tokenize_prompt
from sidflow.core import params
from sidflow.mme_sid.item_tokens import ItemInputs, load_item_inputs
from sidflow.mme_sid.model import MmeSid
from sidflow.mme_sid.params import FinetuneParams
from sidflow.mme_sid.start import initialise_from_items
from sidflow.sequences.histories import Histories, load_histories
from sidflow.training.checkpoint import weights_from_arrays
from sidflow.training.devices import prepare_training
from sidflow.training.loop import Task

MODEL = "mme_sid"


class Project(NamedTuple):
    """What fine-tuning reads in a finished run."""

    name: str
    settings: FinetuneParams
    histories: Histories
    inputs: ItemInputs
    backbone: Backbone
    seed: int


def load(argument: str, threads: int, seed: int | None = None) -> Project:
    """Read NAME=FOLDER, and seed everything: with the run's own seed, or with another."""
    with enter_run(argument) as name:
        settings = params.load_section(f"finetune.{MODEL}", FinetuneParams)
        seed = int(params.load_param("seed")) if seed is None else seed
        prepare_training(seed, threads)
        histories = load_histories()
        inputs = load_item_inputs(
            list(params.load_param("modality")), settings.without, histories.training_counts(core_count())
        )
        backbone = load_backbone(BACKBONE.read(), settings.weights)
        prepare_training(seed, threads)
        return Project(name, settings, histories, inputs, backbone, seed)


def new_model(project: Project) -> MmeSid:
    """Return the model as fine-tuning starts from it."""
    model = MmeSid(project.backbone, project.inputs, project.histories, project.settings)
    if project.settings.start == "settled":
        initialise_from_items(model, project.settings.token_scale)
    return model


def fine_tuned_model(argument: str, project: Project) -> MmeSid:
    """Return the model as the run fine-tuned it, ready to answer."""
    with enter_run(argument):
        inner = project.backbone._replace(
            model=load_adapter(project.backbone.model, adapter_folder(MODEL), project.settings.lora)
        )
        lora = project.settings.lora.model_copy(update={"enabled": False})  # the saved one is on already
        settings = project.settings.model_copy(update={"lora": lora})
        model = MmeSid(inner, project.inputs, project.histories, settings)
        heads = HEADS.read(model=MODEL).arrays
        weights_from_arrays(model.item_tokens, heads, "item_tokens.")
        weights_from_arrays(model.fusion, heads, "fusion.")
        return model.eval()


def prompt(project: Project) -> Prompt:
    """Return the words around a history."""
    return tokenize_prompt(project.backbone.tokenizer, project.settings.prompt)


class PartOfEpoch:
    """An epoch's first batches of a task (0: all), without validation."""

    def __init__(self, task: Task, limit: int) -> None:
        self.module: torch.nn.Module = task.module
        self.task, self.limit = task, limit
        self.chosen: Sequence[Tensor] = []

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Return them, and keep them for a count of what was learned from."""
        every = self.task.batches(epoch, generator)
        self.chosen = every[: self.limit or len(every)]
        return self.chosen

    def validate(self) -> dict[str, float]:
        """Return nothing."""
        return {}


def benchmark_parser(text: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = side_by_side.benchmark_parser(text, rounds, threads=1)
    add_run_option(parser)
    return parser


def side_command(script: str, side: str, args: argparse.Namespace, *more: object) -> list[str]:
    """Return the command that runs one side on the same run, with as many threads."""
    return side_by_side.side_command(script, side, "--run", args.run, "--threads", args.threads, *more)
