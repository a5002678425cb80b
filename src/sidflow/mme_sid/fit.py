"""Fine-tuning of MME-SID: one fit or two, the answers to all queries, and the artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from sidflow.artifacts.features import ITEM_TABLE, ItemRows
from sidflow.artifacts.recommenders import (
    ANCHOR,
    COLD_ROWS,
    CURVES,
    FACTORS,
    HEADS,
    PRIOR_PREFIX,
    SUMMARY,
    ScoreFactors,
    adapter_folder,
    refit_metadata,
)
from sidflow.backbones.adapter import save_adapter
from sidflow.backbones.models import BACKBONE_KEY, backbone_digest, backbone_summary, load_backbone
from sidflow.core.errors import InputError
from sidflow.core.runtime import is_main_process
from sidflow.hybrid.prior import ScorePrior, prior_inputs
from sidflow.hybrid.task import ValidationChoice, validation_choice
from sidflow.metrics.geometry import tau_over_histories
from sidflow.mme_sid.fusion import cold_rows
from sidflow.mme_sid.item_tokens import ItemInputs
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.mme_sid.start import initialise_from_items
from sidflow.sequences.histories import Histories
from sidflow.sequences.refit import fit_and_refit
from sidflow.training.checkpoint import Checkpoint, weights_to_arrays
from sidflow.training.devices import prepare_training, shard_frozen_layers
from sidflow.training.loop import FitResult, fit

TAU_QUERIES = 1000  # the first validation queries, for tau in the summary


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


class Finetuned(NamedTuple):
    """A fine-tuned MME-SID, before it is written."""

    model: MmeSid  # of the second fit, where there are two; the prior and the inputs too
    prior: ScorePrior | None
    inputs: ItemInputs
    fitted: FitResult  # the fit on the training parts
    answers: ScoreFactors
    checkpoints: tuple[Checkpoint, ...]  # to be discarded once everything is written
    refit_epochs: int | None = None  # of the fit on training and validation events


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
        answer=lambda fitted: answer_queries(fitted.model, fitted.prior, histories),
        choose=lambda fitted: _FirstFit(
            validation_choice(fitted.fitted, fitted.prior), fitted.fitted, fitted.checkpoint
        ),
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
    if choice is not None:
        choice.set_weight(prior)
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
    content = {name: ItemRows(inputs.modalities[name].raw, inputs.modalities[name].present) for name in hybrid.content}
    return ScorePrior(prior_inputs(histories, len(inputs.counts), content, hybrid), hybrid)


@torch.no_grad()
def answer_queries(model: MmeSid, prior: ScorePrior | None, histories: Histories) -> ScoreFactors:
    """Return the two sides of every score; all processes have to take part, for a model that is sharded."""
    queries = np.arange(histories.query_count)
    states, matrix = model.query_states(histories, queries), model.item_matrix()
    if prior is None:
        return ScoreFactors(states.cpu().numpy(), matrix.float().cpu().numpy())
    return prior.factors(states, matrix, histories.query_slices(queries))


@torch.no_grad()
def write_finetuned(
    name: str, finetuned: Finetuned, histories: Histories, params: FinetuneParams, backbone: Mapping[str, Any]
) -> None:
    """Write everything under recommenders/<name>, from the main process.

    Of two fits the first leaves curves and metrics of validation. The second leaves what encodes new histories:
    adapter, heads, prior, item tokens, cold rows. Factors are of both.
    """
    if not is_main_process():
        return
    model, prior, fitted, inputs = finetuned.model, finetuned.prior, finetuned.fitted, finetuned.inputs
    metadata = refit_metadata(finetuned.refit_epochs is not None)
    save_adapter(model.backbone.model, adapter_folder(name), backbone)  # type: ignore[arg-type]
    heads = weights_to_arrays(model.item_tokens, "item_tokens.") | weights_to_arrays(model.fusion, "fusion.")
    factors = finetuned.answers.arrays()
    parameters = list(model.parameters())
    optional_entries: dict[str, Any] = {}  # entries of the summary
    if prior is not None:
        heads |= weights_to_arrays(prior, PRIOR_PREFIX)
        ANCHOR.write(prior.arrays(), {}, model=name)
        parameters += prior.parameters()
        megabytes = sum(array.nbytes for array in factors.values()) / 1e6
        optional_entries = {"anchor": prior.learned_weights(), "megabytes": megabytes}
    if finetuned.refit_epochs is not None:
        optional_entries |= {"refit_epochs": finetuned.refit_epochs}
    HEADS.write(heads, {BACKBONE_KEY: backbone_digest(backbone)}, model=name)
    FACTORS.write(factors, metadata, model=name)
    COLD_ROWS.write(cold_rows(model.fusion, inputs, prior)._asdict(), {}, model=name)
    tokens = model.all_tokens().float().cpu().numpy()
    ITEM_TABLE.write({"values": tokens, "present": np.ones(len(tokens), dtype=bool)}, metadata, model=name)
    CURVES.write(fitted.curves, ["epoch", "loss", "valid_ndcg_at_10", "valid_recall_at_10"], model=name)
    SUMMARY.write(
        {
            "params": params.model_dump(),
            "backbone": backbone_summary(backbone),
            "modalities": list(inputs.modalities),
            "best_epoch": fitted.best_epoch + 1,
            "steps": fitted.steps,
            "valid_ndcg_at_10": fitted.best_value,
            "device": model.fusion.table.device.type,
            "trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            "frozen_parameters": sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
            "part_weights": dict(zip(["table", *inputs.modalities], mean_part_weights(model), strict=True)),
            "forgetting": forgetting(model, histories, inputs),
            **optional_entries,
        },
        model=name,
    )


def mean_part_weights(model: MmeSid) -> list[float]:
    """Return the mean over core items of each part's weight in the score."""
    return [float(weight) for weight in model.fusion.part_weights().mean(0)]


def forgetting(model: MmeSid, histories: Histories, inputs: ItemInputs) -> dict[str, dict[str, float | int]]:
    """Return, per modality, Kendall's tau between raw rows and code vectors, as quantized and as fine-tuned.

    Source: MME-SID (arXiv 2509.02017), the claim on forgetting.
    """
    queries = np.flatnonzero(histories.query_valid)[:TAU_QUERIES]
    query_items, targets = [histories.history(query) for query in queries], histories.targets[queries]
    taus: dict[str, dict[str, float | int]] = {}
    for (name, modality), part in zip(inputs.modalities.items(), model.item_tokens.codes.values(), strict=False):
        codes = np.maximum(modality.codes, 0)
        quantized = modality.codebooks[np.arange(codes.shape[1]), codes].sum(1)
        items = torch.arange(len(codes), device=model.fusion.table.device)
        tuned = part.sums(items).float().cpu().numpy()  # type: ignore[operator]
        usable = modality.present & (modality.codes >= 0).all(1)
        quantized_tau = tau_over_histories(modality.raw, quantized, query_items, targets, usable)
        finetuned_tau = tau_over_histories(modality.raw, tuned, query_items, targets, usable)
        taus[name] = {
            "tau_quantized": quantized_tau.value,
            "tau_finetuned": finetuned_tau.value,
            "queries": finetuned_tau.references,
        }
    return taus
