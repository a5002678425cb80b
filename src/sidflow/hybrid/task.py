"""Training of next-item recommenders, alone or as hybrids: the module, its parameter groups, its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from sidflow.hybrid.content import ContentScores
from sidflow.hybrid.evidence import training_positions
from sidflow.hybrid.prior import ScorePrior
from sidflow.sequences.histories import Histories
from sidflow.training.devices import full_precision
from sidflow.training.loop import FitResult
from sidflow.training.softmax import TrainingScores
from sidflow.training.validation import Validation, nonzero_coordinates, validation_metrics

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class HybridModel(nn.Module):
    """A base model and a score prior, trained together."""

    def __init__(self, base: nn.Module, prior: ScorePrior, content: ContentScores, histories: Histories) -> None:
        """Join them.

        Args:
            base: `base(batch, rank_loss)` returns named losses, with `rank_loss` of its `TrainingScores` among them.
            prior: over the same items.
            content: the prior's.
            histories: whose events the base model's scores refer to.
        """
        super().__init__()
        self.base, self.prior, self.content, self.histories = base, prior, content, histories

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the base model's losses of `batch`, the ranking loss being that of the hybrid's scores."""
        return self.base(batch, self.rank_loss)

    def rank_loss(self, scores: TrainingScores) -> Tensor:
        """Return the mean cross-entropy of the hybrid's scores."""
        last_event, target_event = (part.cpu().numpy() for part in (scores.last_event, scores.target_event))
        return self.prior.loss(scores, training_positions(self.histories, last_event, target_event), self.content)


class RankingTask(ABC):
    """A next-item recommender as the training loop sees it, without batches; with a prior it is a hybrid."""

    module: nn.Module

    def __init__(self, base: nn.Module, histories: Histories, items: int, prior: ScorePrior | None = None) -> None:
        """Prepare training and validation.

        Args:
            base: as in `HybridModel`.
            histories: training parts and validation queries.
            items: number of core items.
            prior: None where `base` stands alone.
        """
        self.prior = prior
        if prior is None:
            self.module, self.validation = base, Validation(histories, items)
        else:
            content = ContentScores(prior.content_rows, items, histories)
            self.module = HybridModel(base, prior, content, histories)
            self.validation = HybridValidation(histories, items, prior, content)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained; the prior's weights have their own learning rate and no weight decay."""
        prior = [] if self.prior is None else list(self.prior.parameters())
        prior_ids = {id(parameter) for parameter in prior}
        trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in trained if id(parameter) not in prior_ids]}
        ]
        if self.prior is not None:
            groups.append({"params": prior, "weight_decay": 0.0, "rate_factor": self.prior.params.rate_factor})
        return groups

    def validate(self) -> Mapping[str, float]:
        """Return nDCG@10 and recall@10 of the validation queries; of a hybrid, with the best weight of its base."""
        if not len(self.validation.queries):
            return {}
        return self.validation.metrics(*self.validation_factors())

    @abstractmethod
    def validation_factors(self) -> tuple[Float[Tensor, "q d"], Float[Tensor, "n d"]]:
        """Return the base model's states of the validation queries, and its item rows."""


class HybridValidation(Validation):
    """Full ranking of the validation queries by a hybrid's scores; chooses the weight of the base model's score."""

    def __init__(self, histories: Histories, items: int, prior: ScorePrior, content: ContentScores) -> None:
        """Look up the queries' evidence once: counts do not change in training."""
        super().__init__(histories, items)
        self.prior, self.content = prior, content
        query_slices = histories.query_slices(self.queries)
        self.evidence = prior.evidence(query_slices)
        self.last_items = torch.from_numpy(query_slices.last_items(prior.params.last))

    def metrics(self, query_states: Float[Tensor, "q h"], item_matrix: Float[Tensor, "n h"]) -> dict[str, float]:
        """Set the weight of the base model to the best of `own_weights`; return nDCG@10 and recall@10 with it.

        Of equally good weights the first one is taken.
        """
        weights = self.prior.params.own_weights
        metrics = [validation_metrics(ranks) for ranks in self.ranks_by_weight(query_states, item_matrix, weights)]
        best = max(range(len(weights)), key=lambda index: metrics[index]["valid_ndcg_at_10"])
        self.prior.own.fill_(weights[best])
        return metrics[best]

    @torch.no_grad()
    def ranks_by_weight(
        self, query_states: Float[Tensor, "q h"], item_matrix: Float[Tensor, "n h"], weights: tuple[float, ...]
    ) -> Int[Tensor, "w q"]:
        """Return each target's rank among the candidates, 1 = best, ties against the target, for each weight.

        Args:
            query_states: of the base model, rows as in `self.queries`.
            item_matrix: of the base model.
            weights: of the base model's score.
        """
        device = query_states.device
        ranks = torch.zeros(len(weights), len(self.queries), dtype=torch.int64)
        for block in self.blocks(device):
            with full_precision(device):
                base_scores = query_states[block.rows].float() @ item_matrix.float().T
                prior_scores = self.content.of(self.last_items[block.rows].to(device), self.prior.content_weights())
            evidence = csr_matrix(self.evidence[block.rows])
            if evidence.nnz:
                values = self.prior.evidence_scores(torch.from_numpy(evidence.data).to(device)).float()
                prior_scores[nonzero_coordinates(evidence, device)] += values
            scores = torch.empty_like(base_scores)
            for index, weight in enumerate(weights):
                torch.add(prior_scores, base_scores, alpha=weight, out=scores)
                ranks[index, block.rows] = block.ranks(scores).cpu()
        return ranks


class ValidationChoice(NamedTuple):
    """What validation chose in the first fit, for a second one on training and validation events."""

    epochs: int
    own_weight: float | None  # of the base model's score in a hybrid

    def set_weight(self, prior: ScorePrior | None) -> None:
        """Set the weight of the base model in `prior`, where this choice is of a hybrid."""
        if prior is not None and self.own_weight is not None:
            prior.own.fill_(self.own_weight)


def validation_choice(fitted: FitResult, prior: ScorePrior | None) -> ValidationChoice:
    """Return the number of epochs and the weight of the base model that were best on validation."""
    return ValidationChoice(fitted.best_epoch + 1, None if prior is None else prior.own.item())
