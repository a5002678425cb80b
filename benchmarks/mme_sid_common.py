"""What MME-SID's benchmarks share: a finished run, the model around it, sides in processes of their own, the facts."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rectools_common import ROOT, in_turn

from sidflow.contracts import histories as past
from sidflow.contracts import params
from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.artifacts.mme_sid import HEADS, adapter_folder
from sidflow.contracts.histories import Histories
from sidflow.llm import adapter, backbones, inputs, prompt, starting
from sidflow.llm.backbones import Backbone
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.model import MmeSid
from sidflow.llm.params import FinetuneParams
from sidflow.llm.prompt import Prompt
from sidflow.training.device import prepare
from sidflow.training.weights import from_arrays

MODEL = "mme_sid"


class Project(NamedTuple):
    """What fine-tuning reads in a finished run."""

    name: str
    settings: FinetuneParams
    histories: Histories
    inputs: ItemInputs
    backbone: Backbone
    seed: int


def name_of(argument: str) -> str:
    """Return NAME of NAME=FOLDER."""
    return Path(argument.partition("=")[0]).name


@contextmanager
def inside(argument: str) -> Iterator[str]:
    """Stand in the folder of NAME=FOLDER, a project in which the preset has run, and give NAME."""
    name, _, folder = argument.partition("=")
    here = Path.cwd()
    os.chdir(folder or name)
    try:
        yield name_of(name)
    finally:
        os.chdir(here)


def load(argument: str, threads: int, seed: int | None = None) -> Project:
    """Read NAME=FOLDER, and seed everything: with the run's own seed, or with another."""
    with inside(argument) as name:
        settings = params.load(f"finetune.{MODEL}", FinetuneParams)
        seed = params.load_value("seed") if seed is None else seed
        prepare(seed, threads)
        histories = past.load()
        known = inputs.load(
            list(params.load_value("modality")), settings.without, histories.training_counts(core_count())
        )
        backbone = backbones.load(BACKBONE.read(), settings.weights)
        prepare(seed, threads)
        return Project(name, settings, histories, known, backbone, seed)


def fresh(project: Project) -> MmeSid:
    """Return the model as fine-tuning starts from it."""
    model = MmeSid(project.backbone, project.inputs, project.histories, project.settings)
    if project.settings.start == "settled":
        starting.settle(model, project.settings.token_scale)
    return model


def tuned(argument: str, project: Project) -> MmeSid:
    """Return the model as the run fine-tuned it, ready to answer."""
    with inside(argument):
        inner = project.backbone._replace(model=adapter.load(project.backbone.model, adapter_folder(MODEL)))
        lora = project.settings.lora.model_copy(update={"enabled": False})  # the saved one is on already
        settings = project.settings.model_copy(update={"lora": lora})
        model = MmeSid(inner, project.inputs, project.histories, settings)
        heads = HEADS.read(model=MODEL).arrays
        from_arrays(model.item_tokens, heads, "item_tokens.")
        from_arrays(model.fusion, heads, "fusion.")
        return model.eval()


def words(project: Project) -> Prompt:
    """Return the words around a history."""
    return prompt.render(project.backbone.tokenizer, project.settings.prompt)


def arguments(text: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, metavar="NAME=FOLDER", help="a project in which the preset has run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=rounds, help="each side is run as often, in turn")
    parser.add_argument("--dry", action="store_true", help="print the result, and write no file")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser


def own(script: str, side: str, given: argparse.Namespace, *more: str) -> list[str]:
    """Return the command that runs one side."""
    return [
        sys.executable, str(Path(__file__).with_name(script)), "--side", side, "--run", given.run,
        "--threads", str(given.threads), *more,
    ]  # fmt: skip


def apart(sides: dict[str, list[str]], given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run every side in processes of its own, in turn, and return the medians of its figures."""
    return in_turn(sides, given.rounds, given.threads)


def facts(threads: int, rounds: int) -> dict[str, Any]:
    """Return what every result says of how it came about."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {threads} thread{'s' * (threads > 1)}, "
        f"torch {torch.__version__}",
        "commit": head.stdout.strip(),
        "rounds": rounds,
        "load_average": round(os.getloadavg()[0], 1),
    }
