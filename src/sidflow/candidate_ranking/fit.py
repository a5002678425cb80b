"""Fits a candidate ranker and writes its factors, curves and summary.

Each user's last training event is held back. Counts of what is left are the features, the event held back is the
target: so the network meets in training what it meets at validation and test, counts that do not know what follows.
For the answers everything is counted anew over the whole training parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from sidflow.artifacts.features import EMBEDDING, read_core_rows
from sidflow.artifacts.recommenders import CURVES, FACTORS, SUMMARY, ScoreFactors, refit_metadata
from sidflow.candidate_ranking.features import (
    Candidates,
    CandidateSelector,
    feature_names,
    feature_scales,
    item_counts,
)
from sidflow.candidate_ranking.network import CandidateLosses, EvidenceNetwork, RankingExamples, score_candidates
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.ranker import CandidateRanker, popularity_ties
from sidflow.candidate_ranking.relations import Relations, count_relations, similar_items
from sidflow.core.errors import InputError
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.histories import Histories, require_next_items
from sidflow.sequences.refit import fit_and_refit
from sidflow.sequences.slices import HistorySlices
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import FitResult, fit
from sidflow.training.validation import Validation, validation_metrics

if TYPE_CHECKING:
    from jaxtyping import Int


class HeldBack(NamedTuple):
    """Histories without their last training event."""

    shortened: Histories  # training parts end before it
    before: HistorySlices  # of the users who learn: they have an event before it, and it can be recommended after these
    targets: Int[np.ndarray, " p"]  # the event held back of each


class Trained(NamedTuple):
    """A trained ranker, and how it was trained."""

    ranker: CandidateRanker
    fitted: FitResult
    examples: int
    candidate_targets: float  # share of the training targets that are candidates
    checkpoint: Checkpoint


def read_compared(names: Sequence[str], items: int, similar: int) -> dict[str, csr_matrix]:
    """Return the largest cosines between the core items, of each embedding of `names`.

    Raises:
        InputError: an embedding is absent, broken, too short or of text units.
    """
    compared = {}
    for name in names:
        rows = read_core_rows(EMBEDDING.at(name=name), items)
        compared[name] = similar_items(unit_rows(rows.values, rows.present), similar)
    return compared


def hold_back_last(histories: Histories) -> HeldBack:
    """Return `histories` without the last training event of each user.

    Where what a history holds is never recommended, a user whose last training event is such an item teaches nothing.

    Raises:
        InputError: no user has two training events, or none a last one that can be recommended.
    """
    users = np.flatnonzero(histories.train_end >= 2)
    require_next_items(len(users))
    start, last = histories.offsets[users], histories.offsets[users] + histories.train_end[users] - 1
    before, targets = HistorySlices(histories.items, start, last), histories.items[last].astype(np.int64)
    if histories.exclude_history:
        row, items = before.events()
        new = np.bincount(row, items == targets[row], len(targets)) == 0
        before, targets = before.rows(new), targets[new]
        if not len(targets):
            raise InputError(
                "artifacts/split/sequences.parquet",
                expected="a user whose last training event is of an item that the user has not had",
                found="none",
                remedy="set `rank.exclude_history: false`, or take more data",
            )
    return HeldBack(histories._replace(train_end=np.maximum(histories.train_end - 1, 0)), before, targets)


class RankerTask:
    """Train on each user's last training event, validate by nDCG@10 of the validation queries."""

    module: nn.Module

    def __init__(
        self,
        network: EvidenceNetwork,
        examples: RankingExamples,
        validation: Validation,
        queries: Candidates,
        earlier: Relations,
        relations: Relations,
        batch_size: int,
    ) -> None:
        """Join them.

        Args:
            network: to be trained.
            examples: the histories that it learns from.
            validation: its queries.
            queries: their candidates.
            earlier: of the training parts without what is held back, as the examples' candidates are.
            relations: of the whole training parts, as the queries' candidates are.
            batch_size: histories per step.
        """
        self.module = CandidateLosses(network, examples, earlier.log_popularity)
        self.network, self.validation, self.queries = network, validation, queries
        self.examples = len(examples.target_positions)
        self.ties = torch.from_numpy(popularity_ties(relations))
        self.log_popularity = torch.from_numpy(relations.log_popularity)
        self.size = batch_size

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Return the epoch's batches of numbers of histories."""
        return torch.randperm(self.examples, generator=generator).split(self.size)

    def validate(self) -> Mapping[str, float]:
        """Return nDCG@10 and recall@10 of the validation queries."""
        if not len(self.validation.queries):
            return {}
        device = next(self.network.parameters()).device
        log_popularity, ties = self.log_popularity.to(device), self.ties.to(device)
        indptr, ranks = self.queries.indptr, []
        for block in self.validation.blocks(device):
            rows = slice(int(indptr[block.rows.start]), int(indptr[block.rows.stop]))
            counts = torch.from_numpy(np.diff(indptr[block.rows.start : block.rows.stop + 1])).to(device)
            row = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
            items = torch.from_numpy(self.queries.items[rows]).to(device)
            scores = ties.repeat(len(counts), 1)
            scores[row, items] += score_candidates(self.network, self.queries, rows, log_popularity)
            ranks.append(block.ranks(scores).cpu())
        return validation_metrics(torch.cat(ranks))


def fit_candidate_ranker(
    name: str, settings: CandidateRankerParams, histories: Histories, items: int, seed: int, threads: int
) -> None:
    """Fit the candidate ranker `name` and write its artifacts; a killed fit resumes from its checkpoint.

    Raises:
        InputError: an embedding is absent or too short, or no user has two training events.
    """
    compared = read_compared(settings.content, items, settings.similar)
    fingerprint: dict[str, object] = {"params": settings.model_dump(mode="json"), "seed": seed, "threads": threads}
    fingerprint |= {"exclude_history": histories.exclude_history}

    def fit_once(training: Histories, first: Trained | None) -> Trained:
        stage = f"train_ranker@{name}" + ("-refit" if first else "")
        epochs = first.fitted.best_epoch + 1 if first else None
        checkpoint = Checkpoint(stage, fingerprint | {"chosen": epochs})
        device = prepare_training(seed, threads)
        return _train(stage, settings, training, items, compared, seed, device, checkpoint, epochs)

    refitted = fit_and_refit(
        histories,
        settings.refit,
        fit_once,
        answer=lambda trained: trained.ranker.factors(histories.query_slices()),
        choose=lambda trained: trained,
    )
    _write(name, refitted.factored, refitted.choice, settings.refit, fingerprint)
    refitted.model.ranker.write(name)
    for checkpoint in {refitted.choice.checkpoint, refitted.model.checkpoint}:
        checkpoint.discard()


def _train(
    stage: str,
    settings: CandidateRankerParams,
    histories: Histories,
    items: int,
    compared: Mapping[str, csr_matrix],
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint,
    stop_after: int | None,
) -> Trained:
    held_back = hold_back_last(histories)
    earlier = count_relations(training_events(held_back.shortened, items), compared, settings)
    relations = count_relations(training_events(histories, items), compared, settings)
    scales = feature_scales(held_back.before, earlier, settings)
    exclude = histories.exclude_history
    candidates = CandidateSelector(earlier, scales, settings, exclude).select(held_back.before)
    examples = RankingExamples(
        candidates,
        candidates.positions(held_back.targets, items),
        _rankable(held_back.before, items, exclude),
    )
    validation = Validation(histories, items)
    selector = CandidateSelector(relations, scales, settings, exclude)
    network = EvidenceNetwork(len(feature_names(relations)), settings.hidden)
    task = RankerTask(
        network,
        examples,
        validation,
        selector.select(histories.query_slices(validation.queries)),
        earlier,
        relations,
        settings.batch_size,
    )
    fitted = fit(stage, task, settings.loop, seed=seed, device=device, checkpoint=checkpoint, stop_after=stop_after)
    share = float((examples.target_positions >= 0).mean())
    return Trained(CandidateRanker(network.eval(), selector), fitted, len(held_back.targets), share, checkpoint)


def _rankable(histories: HistorySlices, items: int, exclude_history: bool) -> np.ndarray:
    """Return how many items can follow each history, int64 [p]; all but its own where these are excluded."""
    if not exclude_history:
        return np.full(len(histories.stop), items)
    return items - np.diff(item_counts(histories, items).indptr)


def _write(name: str, factors: ScoreFactors, trained: Trained, refit: bool, fingerprint: dict[str, object]) -> None:
    FACTORS.write(factors.arrays(), refit_metadata(refit), model=name)
    fitted, ranker = trained.fitted, trained.ranker
    CURVES.write(fitted.curves, list(fitted.curves[0]) if fitted.curves else ["epoch"], model=name)
    linear = ranker.network.linear.weight[0].tolist()
    SUMMARY.write(
        {
            "best_epoch": fitted.best_epoch + 1,
            "best_valid_ndcg_at_10": fitted.best_value,
            "device": str(next(ranker.network.parameters()).device.type),
            "epochs": len(fitted.curves),
            "examples": trained.examples,
            "share_of_targets_among_candidates": trained.candidate_targets,
            "features": feature_names(ranker.selector.relations),
            "feature_scales": ranker.selector.scales.tolist(),
            "linear_weights": linear,
            "parameters": sum(parameter.numel() for parameter in ranker.network.parameters()),
            "steps": fitted.steps,
            **fingerprint,
        },
        model=name,
    )
