"""Fine-tuning of MME-SID: a fit on the training parts, and with `refit` a second one on validation events too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from sidflow.contracts.errors import InputError
from sidflow.contracts.histories import Histories
from sidflow.hybrid.prior import ContentRows, ScorePrior, prior_inputs
from sidflow.hybrid.task import ValidationChoice, validation_choice
from sidflow.llm.backbones import load_backbone
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.model import MmeSid, MmeSidTask
from sidflow.llm.params import FinetuneParams
from sidflow.llm.results import Finetuned, answer_queries
from sidflow.llm.starting import initialise_from_items
from sidflow.sequences.refit import fit_and_refit
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare_training
from sidflow.training.loop import FitResult, fit
from sidflow.training.processes import shard_frozen_layers


class FinetuneSetup(NamedTuple):
    """What every fit of one stage starts from."""

    stage: str
    params: FinetuneParams
    inputs: ItemInputs
    backbone: Mapping[str, Any]  # the BACKBONE artifact
    fingerprint: Mapping[str, object]  # what training depends on, for its checkpoint
    seed: int
    threads: int
    device: torch.device


class _Fitted(NamedTuple):
    model: MmeSid
    prior: ScorePrior | None
    inputs: ItemInputs
    fitted: FitResult
    checkpoint: Checkpoint


class _FirstFit(NamedTuple):
    """What is kept of the first fit, without the memory of its backbone."""

    choice: ValidationChoice
    fitted: FitResult
    checkpoint: Checkpoint


def finetune(setup: FinetuneSetup, histories: Histories) -> Finetuned:
    """Fit MME-SID to `histories`; with `refit` this fit answers validation queries and a second one test queries.

    The second fit starts anew from the backbone.
    """
    refitted = fit_and_refit(
        histories,
        setup.params.refit,
        lambda training, first: _fit_once(setup, training, first.choice if first else None),
        answer=lambda one: answer_queries(one.model, one.prior, histories),
        choose=lambda one: _FirstFit(validation_choice(one.fitted, one.prior), one.fitted, one.checkpoint),
    )
    last, first = refitted.model, refitted.choice
    checkpoints, epochs = (first.checkpoint,), None
    if setup.params.refit:
        checkpoints, epochs = (first.checkpoint, last.checkpoint), len(last.fitted.curves)
    return Finetuned(last.model, last.prior, last.inputs, first.fitted, refitted.factored, checkpoints, epochs)


def _fit_once(setup: FinetuneSetup, histories: Histories, choice: ValidationChoice | None) -> _Fitted:
    """Return a fresh model, fitted to the training parts of `histories`."""
    params = setup.params
    inputs = setup.inputs._replace(counts=histories.training_counts(len(setup.inputs.counts)))
    backbone = load_backbone(setup.backbone, params.weights)
    name = f"{setup.stage}-refit" if choice else setup.stage
    checkpoint = Checkpoint(name, {**setup.fingerprint, "chosen": choice})
    prepare_training(setup.seed, setup.threads)
    prior = score_prior(histories, inputs, params)
    if prior is not None and choice is not None and choice.own_weight is not None:
        prior.own.fill_(choice.own_weight)
    model = MmeSid(backbone, inputs, histories, params)
    shard_frozen_layers(model.backbone.decoder, setup.device)
    model.to(setup.device)
    if params.start == "settled":
        initialise_from_items(model, params.token_scale)
    fitted = fit(
        name,
        MmeSidTask(model, histories, params, prior),
        params.loop,
        seed=setup.seed,
        device=setup.device,
        checkpoint=checkpoint,
        stop_after=choice.epochs if choice else None,
    )
    return _Fitted(model, prior, inputs, fitted, checkpoint)


def score_prior(histories: Histories, inputs: ItemInputs, params: FinetuneParams) -> ScorePrior | None:
    """Return the score prior that `params` ask for, counted in `histories`; None where they ask for none.

    Raises:
        InputError: a modality of the prior is not among those that items have.
    """
    hybrid = params.hybrid
    if hybrid is None:
        return None
    for name in hybrid.content:
        if name not in inputs.modalities:
            raise InputError(
                "params.yaml:finetune.*.anchoring.modalities",
                expected=f"names out of {list(inputs.modalities)}, which some item has and `without` leaves in",
                found=name,
                remedy="name another modality, or set `anchor: cooccurrence`",
            )
    content = {
        name: ContentRows(inputs.modalities[name].raw, inputs.modalities[name].present) for name in hybrid.content
    }
    return ScorePrior(prior_inputs(histories, len(inputs.counts), content, hybrid), hybrid)
