"""The fits of MME-SID: one on the training parts, and with `refit` one more, on training and validation events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from sidflow.contracts.factored import by_part
from sidflow.contracts.histories import Histories
from sidflow.llm import anchor, results
from sidflow.llm.anchored_task import AnchoredTask
from sidflow.llm.backbones import load_backbone
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.model import MmeSid, MmeSidTask
from sidflow.llm.params import FinetuneParams
from sidflow.llm.results import Outcome
from sidflow.llm.starting import initialise_from_items
from sidflow.training import processes
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare
from sidflow.training.loop import Fit, fit


class Given(NamedTuple):
    """What every fit of one stage starts from."""

    stage: str
    settings: FinetuneParams
    inputs: ItemInputs
    about: Mapping[str, Any]  # BACKBONE
    facts: Mapping[str, object]  # that training depends on, for its checkpoint's fingerprint
    seed: int
    threads: int
    device: torch.device


class Chosen(NamedTuple):
    """What validation chose in the first fit."""

    epochs: int
    own: float | None  # weight of MME-SID's own part beside an anchor


class _Tuned(NamedTuple):
    model: MmeSid
    inputs: ItemInputs
    fitted: Fit
    checkpoint: Checkpoint


def run(given: Given, histories: Histories) -> Outcome:
    """Fit MME-SID to `histories`; with `refit` validation queries are answered by this fit, test queries by the second.

    The second one is fresh, from the backbone on, and has no validation: it takes over what the first one chose.
    """
    model, inputs, fitted, checkpoint = _tune(given, histories)
    first = results.answer(model, histories)
    if not given.settings.refit:
        return Outcome(model, inputs, fitted, first, (checkpoint,))
    own = None if model.anchor is None else model.anchor.own.item()
    del model  # the memory of a backbone
    second = _tune(given, histories.before_test(), Chosen(fitted.best_epoch + 1, own))
    answers = by_part(histories.query_valid, first, results.answer(second.model, histories))
    checkpoints = (checkpoint, second.checkpoint)
    return Outcome(second.model, second.inputs, fitted, answers, checkpoints, len(second.fitted.curves))


def _tune(given: Given, histories: Histories, chosen: Chosen | None = None) -> _Tuned:
    """Return a fresh model, fitted to the training parts of `histories`."""
    settings, core = given.settings, len(given.inputs.counts)
    inputs = given.inputs._replace(counts=histories.training_counts(core))
    backbone = load_backbone(given.about, settings.weights)
    name = f"{given.stage}-refit" if chosen else given.stage
    checkpoint = Checkpoint(name, {**given.facts, "chosen": chosen})
    prepare(given.seed, given.threads)
    sources = anchor.gather(histories, inputs, settings)
    anchored = anchor.Anchor(sources, core, settings) if sources else None
    if anchored is not None and chosen is not None and chosen.own is not None:
        anchored.own.fill_(chosen.own)
    mme_sid = MmeSid(backbone, inputs, histories, settings, anchored)
    processes.shard(mme_sid.backbone.decoder, given.device)
    mme_sid.to(given.device)
    if settings.start == "settled":
        initialise_from_items(mme_sid, settings.token_scale)
    task = (AnchoredTask if anchored else MmeSidTask)(mme_sid, histories, settings)
    fitted = fit(
        name,
        task,
        settings.loop,
        seed=given.seed,
        device=given.device,
        checkpoint=checkpoint,
        stop_after=chosen.epochs if chosen else None,
    )
    return _Tuned(mme_sid, inputs, fitted, checkpoint)
