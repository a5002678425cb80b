"""Train a recommender that generates IDs, and write its artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sidflow.artifacts.recommenders import (
    CURVES,
    FACTORS,
    IDS,
    LISTS_KEY,
    SUMMARY,
    WEIGHTS,
    ScoreFactors,
    adapter_folder,
    refit_metadata,
)
from sidflow.backbones.adapter import save_adapter
from sidflow.backbones.models import BACKBONE_KEY, backbone_digest, backbone_summary
from sidflow.core.errors import InputError
from sidflow.generative.alignment import AlignedLosses
from sidflow.generative.audit import audit_beams, new_item_share
from sidflow.generative.causal import scratch_causal_model
from sidflow.generative.encoder_decoder import EncoderDecoderIdModel, scratch_encoder_decoder
from sidflow.generative.language_model import LanguageIdModel, fresh_language_model
from sidflow.generative.objective import IdLosses, IdModule
from sidflow.generative.params import CausalParams, EncoderDecoderParams, GenerativeParams, LanguageParams
from sidflow.generative.ranking import (
    EXACT_SCORES,
    CandidateTree,
    Decoder,
    answer_queries,
    beam_factors,
    exact_factors,
    ranks_by_beam,
)
from sidflow.generative.vocabulary import ItemIds
from sidflow.sequences.histories import Histories, evenly_spread, require_next_items
from sidflow.sequences.refit import Refitted, fit_and_refit
from sidflow.sequences.windows import (
    SeededBatch,
    prefix_windows,
    query_windows,
    seeded_batches,
    shuffled_batches,
    training_windows,
)
from sidflow.training.checkpoint import Checkpoint, weights_to_arrays
from sidflow.training.devices import full_precision, prepare_training
from sidflow.training.loop import FitResult, fit
from sidflow.training.validation import validation_metrics

CODEBOOKS_KEY = "codebooks"  # of the fingerprint, and of the weights' metadata: a digest of those that gave the IDs


class GenerativeTask:
    """Train on histories as ID tokens, validate by nDCG@10 of beam search."""

    def __init__(
        self,
        model: IdModule,
        histories: Histories,
        ids: ItemIds,
        candidates: CandidateTree,
        params: GenerativeParams,
        titles: Sequence[str] = (),
    ) -> None:
        """Cut `histories` into windows for `model`; `titles` of all items are for alignment tasks.

        Raises:
            InputError: no user has two training items.
        """
        windows = training_windows(histories, params.max_length + 1, overlap=1)
        if isinstance(model, EncoderDecoderIdModel):
            windows = prefix_windows(histories, params.max_length)
        require_next_items(len(windows.lengths))
        self.aligned = isinstance(params, LanguageParams) and params.alignment.any
        if isinstance(params, LanguageParams) and params.alignment.any:
            assert isinstance(model, LanguageIdModel)
            self.module: nn.Module = AlignedLosses(model, windows, ids, candidates, params, titles)
        else:
            self.module = IdLosses(model, windows, ids, candidates, params.normalise)
        self.windows, self.model, self.histories, self.params = windows, model, histories, params
        self.ids, self.candidates = ids, candidates
        self.queries = evenly_spread(np.flatnonzero(histories.query_valid), params.validate_on)

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor | SeededBatch]:
        """Return the epoch's batches of window numbers, of similar length each; with seeds for alignment tasks."""
        batches = shuffled_batches(self.windows.lengths, self.params.batch_size, generator)
        return seeded_batches(batches, generator) if self.aligned else batches

    def validate(self) -> Mapping[str, float]:
        """Return nDCG@10 and recall@10 of the lists that a beam gives for some validation queries."""
        if not len(self.queries):
            return {}
        decoder = Decoder.of(self.model, self.ids, self.candidates, self.params.normalise)
        with full_precision(decoder.tokens.device):
            ranks, sharing = ranks_by_beam(
                decoder, self.histories, self.queries, self.params.max_length, self.params.validate_beam
            )
        return validation_metrics(torch.from_numpy(ranks), sharing)


def make_model(ids: ItemIds, params: GenerativeParams, backbone: Mapping[str, Any] | None = None) -> IdModule:
    """Return the untrained model of `params`; `backbone` is the content of backbone.json, of a language model."""
    if isinstance(params, LanguageParams):
        assert backbone is not None
        return fresh_language_model(backbone, ids.vocabulary, params)
    if isinstance(params, EncoderDecoderParams):
        return scratch_encoder_decoder(ids.vocabulary, params)
    assert isinstance(params, CausalParams)
    return scratch_causal_model(ids.vocabulary, params)


class GenerateSetup(NamedTuple):
    """What every fit of one stage starts from."""

    stage: str
    params: GenerativeParams
    ids: ItemIds
    count: int  # core items
    histories: Histories
    fingerprint: Mapping[str, object]  # what training depends on, for its checkpoint
    seed: int
    threads: int
    device: torch.device
    backbone: Mapping[str, Any] | None = None  # the BACKBONE artifact, of a language model
    titles: Sequence[str] = ()  # of all items, of alignment tasks


class Trained(NamedTuple):
    """A trained recommender, and how it was trained."""

    model: IdModule
    fitted: FitResult
    windows: int  # training windows
    checkpoints: tuple[Checkpoint, ...]


class FirstFit(NamedTuple):
    """What stays of the fit on training parts; its model is freed before a second fit."""

    fitted: FitResult
    windows: int
    checkpoints: tuple[Checkpoint, ...]
    audit: dict[str, object]  # entries of the summary


def generate(setup: GenerateSetup) -> Refitted[Trained, FirstFit]:
    """Fit a recommender that generates IDs; with `refit` a second fit answers the test queries.

    Raises:
        InputError: no core item has an ID, no user has two training items, or an exact ranking would not fit in memory.
    """
    params, histories = setup.params, setup.histories
    candidates = CandidateTree(setup.ids, setup.count, setup.device)
    if params.ranking == "exact" and histories.query_count * setup.count > EXACT_SCORES:
        raise InputError(
            f"params.yaml:{setup.stage.replace('@', '.')}.ranking",
            expected=f"`beam` for more than {EXACT_SCORES:,} scores",
            found=f"`exact` for {histories.query_count:,} queries and {setup.count:,} items",
            remedy="set it to beam",
        )

    def fit_once(training: Histories, first: FirstFit | None) -> Trained:
        name = setup.stage if first is None else f"{setup.stage}-refit"
        epochs = None if first is None else first.fitted.best_epoch + 1
        checkpoint = Checkpoint(name, {**setup.fingerprint, "chosen": epochs})
        prepare_training(setup.seed, setup.threads)
        model = make_model(setup.ids, params, setup.backbone)
        task = GenerativeTask(model, training, setup.ids, candidates, params, setup.titles)
        fitted = fit(
            name, task, params.loop, seed=setup.seed, device=setup.device, checkpoint=checkpoint, stop_after=epochs
        )
        earlier = () if first is None else first.checkpoints
        return Trained(task.model, fitted, len(task.windows.lengths), (*earlier, checkpoint))

    return fit_and_refit(
        histories,
        params.refit,
        fit_once,
        answer=lambda trained: answer_all(trained.model, setup, candidates),
        choose=lambda trained: FirstFit(
            trained.fitted, trained.windows, trained.checkpoints, audit_entries(trained.model, setup, candidates)
        ),
    )


def answer_all(model: IdModule, setup: GenerateSetup, candidates: CandidateTree) -> ScoreFactors:
    """Return the scores of all queries, exact or of the beam's items."""
    decoder, params = Decoder.of(model, setup.ids, candidates, setup.params.normalise), setup.params
    queries = np.arange(setup.histories.query_count)
    if params.is_exact(len(queries), setup.count):
        return exact_factors(decoder.exact(query_windows(setup.histories, queries, params.max_length)))
    return beam_factors(answer_queries(decoder, setup.histories, queries, params.max_length, params.beam), candidates)


def audit_entries(model: IdModule, setup: GenerateSetup, candidates: CandidateTree) -> dict[str, object]:
    """Return what the summary says of beams and of new items, over some validation queries."""
    params, histories = setup.params, setup.histories
    queries = evenly_spread(np.flatnonzero(histories.query_valid), params.audit_on)
    decoder = Decoder.of(model, setup.ids, candidates, params.normalise)
    audit = audit_beams(decoder, histories, queries, params.max_length, params.beam)
    return {
        "beam_recall_of_exact_top_10": audit.recall,
        "audit_queries": len(queries),
        "audit_exact": audit.exact,
        "audit_beam": audit.beam,
        "new_items": new_item_share(model, setup.ids, setup.count, histories, queries, params),
    }


def write_generated(name: str, refitted: Refitted[Trained, FirstFit], setup: GenerateSetup) -> None:
    """Write factors, weights, summary and curves of recommender `name`.

    Curves and summary are of the fit on training parts, weights of the last fit, factors of both.
    """
    first, last, is_refit = refitted.choice, refitted.model, setup.params.refit
    params, ids, fitted = setup.params, setup.ids, first.fitted
    arrays = refitted.factored.arrays()
    sharing = ItemIds(ids.codes[: setup.count], ids.vocabulary).sharing()  # an ID that cold items share is no tie
    if (sharing > 1).any():
        leaf = CandidateTree(ids, setup.count, torch.device("cpu")).leaf
        own = leaf.max() + 1 + np.arange(setup.count)  # an item without an ID shares none
        arrays[IDS] = np.where(leaf >= 0, leaf, own).astype(np.int32)
    is_exact = params.is_exact(setup.histories.query_count, setup.count)
    metadata = refit_metadata(is_refit) | ({} if is_exact else {LISTS_KEY: True})
    FACTORS.write(arrays, metadata, model=name)
    settings = {"params": params.model_dump(mode="json"), "sizes": list(ids.vocabulary.sizes)}
    settings |= {CODEBOOKS_KEY: setup.fingerprint[CODEBOOKS_KEY]}
    if setup.backbone is not None:
        settings |= {BACKBONE_KEY: backbone_digest(setup.backbone)}
    if isinstance(last.model, LanguageIdModel):  # all that it learned is in the adapter
        assert setup.backbone is not None
        save_adapter(last.model.model, adapter_folder(name), setup.backbone)  # type: ignore[arg-type]
        WEIGHTS.write({}, settings, model=name)
    else:
        WEIGHTS.write(weights_to_arrays(last.model), settings, model=name)
    CURVES.write(fitted.curves, list(fitted.curves[0]) if fitted.curves else ["epoch"], model=name)
    summary: dict[str, object] = {
        "best_epoch": fitted.best_epoch + 1,
        "best_valid_ndcg_at_10": fitted.best_value,
        "device": str(next(last.model.parameters()).device.type),
        "epochs": len(fitted.curves),
        "items": setup.count,
        "items_with_id": int((sharing > 0).sum()),
        "id_levels": list(ids.vocabulary.sizes),
        "id_collision_rate": float((sharing > 1).mean()),
        **first.audit,
        "ranking": "exact" if is_exact else "beam",
        "parameters": sum(parameter.numel() for parameter in last.model.parameters()),
        "steps": fitted.steps,
        "threads": setup.threads,
        "users": setup.histories.user_count,
        "windows": first.windows,
        **setup.fingerprint,
    }
    if setup.backbone is not None:
        trained_weights = [parameter for parameter in last.model.parameters() if parameter.requires_grad]
        summary |= {"trained_parameters": sum(parameter.numel() for parameter in trained_weights)}
        summary |= {"backbone": backbone_summary(setup.backbone)}
    if is_refit:
        summary |= {"refit_epochs": len(last.fitted.curves)}
    SUMMARY.write(summary, model=name)
