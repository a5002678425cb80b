"""A fine-tuned MME-SID as artifacts: adapter, heads, factors, item tokens, summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from sidflow.contracts import refits
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import CURVES, FACTORS, SUMMARY
from sidflow.contracts.artifacts.mme_sid import ANCHOR, COLD_ROWS, HEADS, PRIOR_PREFIX, adapter_folder
from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.contracts.workers import is_main_process
from sidflow.hybrid.evidence import query_histories
from sidflow.hybrid.prior import ScorePrior
from sidflow.llm.adapter import save_adapter
from sidflow.llm.cold import cold_rows
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.model import MmeSid
from sidflow.llm.params import FinetuneParams
from sidflow.measures.tau import tau_over_histories
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.loop import FitResult
from sidflow.training.weights import weights_to_arrays

TAU_QUERIES = 1000  # the first validation queries, for tau in the summary


class Finetuned(NamedTuple):
    """A fine-tuned MME-SID, before it is written."""

    model: MmeSid  # of the second fit, where there are two; the prior and the inputs too
    prior: ScorePrior | None
    inputs: ItemInputs
    fitted: FitResult  # the fit on the training parts
    answers: Factored
    checkpoints: tuple[Checkpoint, ...]  # to be discarded once everything is written
    refit_epochs: int | None = None  # of the fit on training and validation events


@torch.no_grad()
def answer_queries(model: MmeSid, prior: ScorePrior | None, histories: Histories) -> Factored:
    """Return the two sides of every score; all processes have to take part, for a model that is sharded."""
    queries = np.arange(histories.query_count)
    states, matrix = model.query_states(histories, queries), model.item_matrix()
    if prior is None:
        return Factored(states.cpu().numpy(), matrix.float().cpu().numpy())
    return prior.factors(states, matrix, query_histories(histories, queries))


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
    metadata = refits.fact(finetuned.refit_epochs is not None)
    save_adapter(model.backbone.model, adapter_folder(name), backbone)  # type: ignore[arg-type]
    heads = weights_to_arrays(model.item_tokens, "item_tokens.") | weights_to_arrays(model.fusion, "fusion.")
    factors = finetuned.answers.arrays()
    parameters = list(model.parameters())
    optional: dict[str, Any] = {}  # entries of the summary
    if prior is not None:
        heads |= weights_to_arrays(prior, PRIOR_PREFIX)
        ANCHOR.write(prior.arrays(), {}, model=name)
        parameters += prior.parameters()
        megabytes = sum(array.nbytes for array in factors.values()) / 1e6
        optional = {"anchor": prior.learned_weights(), "megabytes": megabytes}
    if finetuned.refit_epochs is not None:
        optional |= {"refit_epochs": finetuned.refit_epochs}
    HEADS.write(heads, {}, model=name)
    FACTORS.write(factors, metadata, model=name)
    COLD_ROWS.write(cold_rows(model, inputs, prior)._asdict(), {}, model=name)
    tokens = model.all_tokens().float().cpu().numpy()
    ITEM_TABLE.write({"values": tokens, "present": np.ones(len(tokens), dtype=bool)}, metadata, model=name)
    CURVES.write(fitted.curves, ["epoch", "loss", "valid_ndcg_at_10", "valid_recall_at_10"], model=name)
    SUMMARY.write(
        {
            "params": params.model_dump(),
            "backbone": {key: backbone[key] for key in ("kind", "repo", "commit", "family", "hidden_size", "layers")},
            "modalities": list(inputs.modalities),
            "best_epoch": fitted.best_epoch + 1,
            "steps": fitted.steps,
            "valid_ndcg_at_10": fitted.best_value,
            "device": model.fusion.table.device.type,
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "frozen_parameters": sum(p.numel() for p in parameters if not p.requires_grad),
            "part_weights": dict(zip(["table", *inputs.modalities], mean_part_weights(model), strict=True)),
            "forgetting": forgetting(model, histories, inputs),
            **optional,
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
    for name, part in model.item_tokens.codes.items():
        modality = inputs.modalities[name]
        codes = np.maximum(modality.codes, 0)
        quantized = modality.codebooks[np.arange(codes.shape[1]), codes].sum(1)
        items = torch.arange(len(codes), device=model.fusion.table.device)
        tuned = part.sums(items).float().cpu().numpy()  # type: ignore[operator]
        usable = modality.present & (modality.codes >= 0).all(1)
        before = tau_over_histories(modality.raw, quantized, query_items, targets, usable)
        after = tau_over_histories(modality.raw, tuned, query_items, targets, usable)
        taus[name] = {"tau_quantized": before.value, "tau_finetuned": after.value, "queries": after.references}
    return taus
