"""A score prior beside a base recommender: co-occurrence and content, with learned weights.

    score(q, i) = own * (o . W[i])  +  lambda_k * log(1 + K[q, i] / epsilon)  +  sum over s: lambda_s * cos

`o . W[i]` is the score of the base model, which does not know of the prior. K is the co-occurrence evidence of the
history's last items for item i. `cos` is the cosine of the content rows of item i and of the item s steps back,
summed over the kinds of content. The lambdas and epsilon are positive (softplus). They are learned together with the
base model, from the start values in the params.

`own` is chosen on validation from a list. A base model fits the positions that it is trained on better than others,
so that a weight learned there is too large. For the same reason a share of the training histories sees no prior: the
base model learns to stand alone.

All but K's logarithm is an inner product: `own * o` and the weighted content of the last items are one query state,
W[i] and the content of i one item row. The logarithm is the sparse pair of factors.

Source: none; MME-SID (arXiv 2509.02017) and DMESR (arXiv 2602.13715) have no such terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional

from sidflow.artifacts.features import ItemRows
from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.hybrid.content import ContentScores, weighted_rows
from sidflow.hybrid.evidence import (
    CrossFittedCounts,
    TrainingPositions,
    at_candidates,
    count_cooccurrence,
)
from sidflow.hybrid.params import HybridParams
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import decaying_weights
from sidflow.sequences.histories import Histories
from sidflow.sequences.negatives import SampledCandidates
from sidflow.sequences.slices import NO_ITEM, HistorySlices
from sidflow.training.checkpoint import module_key
from sidflow.training.softmax import (
    DenseLogits,
    SparseEntries,
    SparseLogits,
    TrainingScores,
    catalogue_cross_entropy,
    sampled_cross_entropy,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


CONTENT = "content."
POPULARITY_WEIGHT = 0.5  # of log-popularity in training, at the start


class PriorInputs(NamedTuple):
    """What the prior is built from."""

    counts: CrossFittedCounts | None
    content: Mapping[str, Float[np.ndarray, "n d"]]  # by `module_key`; rows of length one, zero where absent
    popularity: Float[np.ndarray, " core"]  # log(1 + count in training parts)
    exclude_history: bool = True  # whether what a history holds is no candidate when ranking


def prior_inputs(
    histories: Histories, items: int, content: Mapping[str, ItemRows[np.ndarray]], params: HybridParams
) -> PriorInputs:
    """Return the counts of `histories`' training parts over `items` core items, and normalised content rows."""
    counts = count_cooccurrence(histories, items, params) if params.cooccurrence else None
    unit = {module_key(name): unit_rows(rows.values, rows.present) for name, rows in content.items()}
    popularity = np.log1p(histories.training_counts(items)).astype(np.float32)
    return PriorInputs(counts, unit, popularity, histories.exclude_history)


class ScorePrior(nn.Module):
    """The terms beside the base model's score, and the weight of that score."""

    own: Tensor
    popularity: Tensor
    popularity_raw: nn.Parameter | None

    def __init__(self, inputs: PriorInputs, params: HybridParams) -> None:
        """Start from the weights in `params`."""
        super().__init__()
        self.params, self.counts, self.items = params, inputs.counts, len(inputs.popularity)
        self.mask_history = params.mask_history and inputs.exclude_history
        self.register_buffer("own", torch.tensor([params.own_weight]))
        if self.counts is not None:
            self.cooccurrence_raw = nn.Parameter(before_softplus([params.cooccurrence_weight]))
            self.epsilon_raw = nn.Parameter(before_softplus([params.epsilon]))
        self.popularity_raw = None
        if params.discount_popularity:
            self.popularity_raw = nn.Parameter(before_softplus([POPULARITY_WEIGHT]))
        self.register_buffer("popularity", torch.from_numpy(inputs.popularity), persistent=False)
        start = [params.content_weight * step**-params.recency for step in range(1, params.last + 1)]
        self.content_raw = nn.ParameterDict({name: nn.Parameter(before_softplus(start)) for name in inputs.content})
        for name, rows in inputs.content.items():
            self.register_buffer(f"rows_{name}", torch.from_numpy(rows), persistent=False)

    def item_matrix(self, matrix: Float[Tensor, "n h"]) -> Float[Tensor, "n d"]:
        """Return the base model's rows of all core items with content rows beside them."""
        return torch.cat([matrix, *(rows[: self.items] for rows in self.content_rows().values())], 1)

    def content_rows(self) -> dict[str, Float[Tensor, "n d"]]:
        """Return the rows of each kind of content, in the order of the columns."""
        return {name: getattr(self, f"rows_{name}") for name in self.content_raw}

    def query_states(self, states: Float[Tensor, "q h"], histories: HistorySlices) -> Float[Tensor, "q d"]:
        """Return the base model's states, weighted, with the weighted content of the histories beside them."""
        last_items = torch.from_numpy(histories.last_items(self.params.last)).to(states.device)
        content = self.content_states(last_items, self.content_weights()).to(states.dtype)
        return torch.cat([self.own * states, content], 1)

    def content_states(
        self, last_items: Int[Tensor, "p last"], weights: Float[Tensor, "kinds last"]
    ) -> Float[Tensor, "p c"]:
        """Return the content of each history's last items by `weights`, kind beside kind."""
        kinds = zip(self.content_rows().values(), weights, strict=True)
        parts = [weighted_rows(last_items, rows, weight) for rows, weight in kinds]
        return torch.cat(parts, 1) if parts else weights.new_zeros(len(last_items), 0)

    def content_weights(self) -> Float[Tensor, "kinds last"]:
        """Return lambda_s of each kind of content, 1, 2, ... `last` steps back."""
        raw = list(self.content_raw.values())
        return functional.softplus(torch.stack(raw)) if raw else self.own.new_zeros(0, self.params.last)

    def evidence_scores(self, evidence: Float[Tensor, " nonzero"]) -> Float[Tensor, " nonzero"]:
        """Return lambda_k * log(1 + K / epsilon) of entries of K."""
        weight, epsilon = functional.softplus(self.cooccurrence_raw), functional.softplus(self.epsilon_raw)
        return weight * torch.log1p(evidence / epsilon)

    def evidence(self, histories: HistorySlices) -> csr_matrix:
        """Return K of queries, float32 CSR [q, n]: no fold is left out."""
        if self.counts is None:
            return csr_matrix((len(histories.stop), self.items), dtype=np.float32)
        return self.counts.evidence(histories.last_items(self.params.last), self.counts.all_users)

    @torch.no_grad()
    def cooccurrence_scores(self, histories: HistorySlices) -> csr_matrix:
        """Return lambda_k * log(1 + K / epsilon) of queries, float32 CSR [q, n]."""
        scores = self.evidence(histories)
        if self.counts is not None:
            scores.data = self.evidence_scores(torch.from_numpy(scores.data).to(self.own.device)).float().cpu().numpy()
        return scores

    @torch.no_grad()
    def factors(
        self, states: Float[Tensor, "q h"], item_matrix: Float[Tensor, "n h"], histories: HistorySlices
    ) -> ScoreFactors:
        """Return the two sides of the hybrid's scores of queries, from those of its base model."""
        matrix = self.item_matrix(item_matrix).float().cpu().numpy()
        factored = ScoreFactors(self.query_states(states, histories).cpu().numpy(), matrix)
        return factored if self.counts is None else factored.plus(self.cooccurrence_scores(histories))

    def loss(self, scores: TrainingScores, positions: TrainingPositions, content: ContentScores) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the hybrid's scores at training positions.

        Where a position's user sees no prior in this step it has no last items, and the base model's score weighs one.

        Args:
            scores: of the base model.
            positions: that they belong to.
            content: over the same items.
        """
        candidates, device = scores.candidates, scores.states.device
        last_items, own_weight = positions.histories.last_items(self.params.last), self.params.own_weight
        if self.training and self.params.dropout:
            sees_prior = self._sample_prior_mask(positions)
            last_items[~sees_prior] = NO_ITEM
            own_weight = torch.where(torch.from_numpy(sees_prior).to(device), own_weight, 1.0)[:, None]
        states, matrix = own_weight * scores.states, scores.item_matrix
        if self.popularity_raw is not None:
            states = torch.cat([states, functional.softplus(self.popularity_raw).expand(len(states), 1)], 1)
            popularity = self.popularity if candidates is None else self.popularity[candidates.items]
            matrix = torch.cat([matrix, popularity[:, None]], 1)
        evidence = self._evidence_logits(last_items, positions, candidates, device)
        mask = self._history_mask(positions, candidates, device) if self.mask_history else None
        dense = self._content_logits(torch.from_numpy(last_items).to(device), candidates, content)
        if candidates is None:
            return catalogue_cross_entropy(
                states, matrix, scores.targets, evidence=evidence, dense=dense, excluded=mask
            )
        return sampled_cross_entropy(states, matrix, *candidates.scored, evidence=evidence, dense=dense, excluded=mask)

    def _evidence_logits(
        self,
        last_items: Int[np.ndarray, "p last"],
        positions: TrainingPositions,
        candidates: SampledCandidates | None,
        device: torch.device,
    ) -> SparseLogits | None:
        """Return what cross-fitted evidence adds to single logits."""
        if self.counts is None:
            return None
        evidence = self.counts.evidence(last_items, self.counts.fold[positions.user])
        if candidates is not None:
            evidence = at_candidates(evidence, positions.target, candidates.negative_ids())
        values = self.evidence_scores(torch.from_numpy(evidence.data).to(device))
        return SparseLogits(_entries(evidence.indptr, evidence.indices, device), values)

    def _content_logits(
        self, last_items: Int[Tensor, "p last"], candidates: SampledCandidates | None, content: ContentScores
    ) -> DenseLogits | None:
        """Return what content adds to the logits of the positions that have last items."""
        if not len(self.content_raw):
            return None
        positions = (last_items[:, 0] != NO_ITEM).nonzero()[:, 0]
        last_items = last_items[positions]
        if candidates is None:
            return DenseLogits(positions, self.content_weights(), lambda rows, w: content.of(last_items[rows], w))
        targets, negatives = (candidates.items[part] for part in (candidates.targets[positions], candidates.negatives))
        return DenseLogits(
            positions,
            self.content_weights(),
            lambda rows, w: content.of_candidates(last_items[rows], w, targets[rows], negatives),
        )

    def _history_mask(
        self, positions: TrainingPositions, candidates: SampledCandidates | None, device: torch.device
    ) -> SparseEntries:
        indptr, columns = positions.masked_items()
        if candidates is not None:
            mask = csr_matrix((np.ones(len(columns), dtype=bool), columns, indptr), (len(indptr) - 1, self.items))
            mask = at_candidates(mask, positions.target, candidates.negative_ids())
            indptr, columns = mask.indptr, mask.indices
        return _entries(indptr, columns, device)

    def _sample_prior_mask(self, positions: TrainingPositions) -> Bool[np.ndarray, " p"]:
        """Return whether each position's user sees the prior in this step."""
        users, index = np.unique(positions.user, return_inverse=True)
        return (torch.rand(len(users)) >= self.params.dropout).numpy()[index]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what new histories are scored with beside the learned weights: content rows and counts."""
        arrays = {f"{CONTENT}{name}": getattr(self, f"rows_{name}").cpu().numpy() for name in self.content_raw}
        if self.counts is not None:
            relation = self.counts.relation()
            arrays["relation_indptr"] = relation.indptr.astype(np.int64)
            arrays["relation_indices"] = relation.indices.astype(np.int32)
            arrays["relation_values"] = relation.data.astype(np.float32)
        return arrays

    def learned_weights(self) -> dict[str, float | list[float]]:
        """Return the weights as they are now, by their names in the formula."""
        weights: dict[str, float | list[float]] = {"own": self.own.item()}
        for name, raw in self.named_parameters():
            values = functional.softplus(raw).tolist()
            part, _, kind = name.removesuffix("-").partition(".")
            term = part.removesuffix("_raw")
            weights[f"{term}_{kind}" if kind else term] = values if len(values) > 1 else values[0]
        return weights


def before_softplus(values: list[float]) -> Tensor:
    """Return the arguments whose softplus is `values`, positive."""
    return torch.tensor([value + math.log(-math.expm1(-value)) for value in values])


def _entries(indptr: np.ndarray, columns: np.ndarray, device: torch.device) -> SparseEntries:
    return SparseEntries(*(torch.from_numpy(part.astype(np.int64)).to(device) for part in (indptr, columns)))


def prior_from_arrays(arrays: Mapping[str, np.ndarray], items: int, params: HybridParams) -> ScorePrior:
    """Return the prior over `items` core items whose `arrays()` are `arrays`, with the weights of a fresh one."""
    counts = None
    if "relation_indptr" in arrays:
        parts = (arrays["relation_values"], arrays["relation_indices"], arrays["relation_indptr"])
        weights = decaying_weights(params.last, params.recency)
        relation = csr_matrix(parts, shape=(items, items))
        counts = CrossFittedCounts(relation, weights, np.zeros(0, dtype=np.int64), items, 0)
    content = {name.removeprefix(CONTENT): rows for name, rows in arrays.items() if name.startswith(CONTENT)}
    return ScorePrior(PriorInputs(counts, content, np.zeros(items, dtype=np.float32)), params)
