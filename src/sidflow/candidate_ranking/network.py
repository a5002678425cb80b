"""The network that scores candidates, and its loss over the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sidflow.candidate_ranking.features import Candidates
from sidflow.sequences.slices import rows_and_positions
from sidflow.training.devices import full_precision

if TYPE_CHECKING:
    from jaxtyping import Float, Int


CHUNK = 65_536  # candidates that are scored at a time: the hidden layer is several times as wide as their features


class EvidenceNetwork(nn.Module):
    """Scores items by their evidence e and their log-popularity p; an item without evidence scores zero.

    score = w . e + MLP(e, p) - MLP(0, p)
    """

    def __init__(self, features: int, hidden: int) -> None:
        """Make it for `features` features; weights are drawn by the global generator."""
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.hidden = nn.Linear(features + 1, hidden)
        self.output = nn.Linear(hidden, 1, bias=False)

    def forward(self, values: Float[Tensor, "c f"], log_popularity: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Return the scores of candidates."""
        popularity = log_popularity[:, None]
        with_evidence = functional.gelu(self.hidden(torch.cat([values, popularity], 1)))
        without = functional.gelu(self.hidden(torch.cat([torch.zeros_like(values), popularity], 1)))
        return (self.linear(values) + self.output(with_evidence - without)).squeeze(1)


class RankingExamples(NamedTuple):
    """Histories whose next item is known, with their candidates."""

    candidates: Candidates
    target_positions: Int[np.ndarray, " p"]  # of each target among all candidates; -1 where it is none
    ranked_items: Int[np.ndarray, " p"]  # items that each history may be followed by

    def rows(self, histories: Int[np.ndarray, " b"]) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Return the candidates of `histories`, and for each the history's number in `histories`."""
        segments, position = rows_and_positions(np.diff(self.candidates.indptr)[histories])
        return self.candidates.indptr[histories][segments] + position, segments


def catalogue_loss(
    scores: Float[Tensor, " k"], segments: Int[Tensor, " k"], targets: Int[Tensor, " b"], others: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the targets over all items, of which all but the candidates score zero.

    Args:
        scores: of the candidates of b histories, one history after another.
        segments: the history of each candidate.
        targets: each target's position in `scores`; -1 where it is no candidate.
        others: number of items that are no candidates of the history and could follow it.
    """
    largest = torch.zeros_like(others).scatter_reduce(0, segments, scores.detach(), "amax")  # at least the others' zero
    total = torch.zeros_like(others).index_add(0, segments, (scores - largest[segments]).exp())
    total = total + others * (-largest).exp()
    is_candidate = targets >= 0
    own = torch.zeros_like(others)
    if len(scores):
        own = torch.where(is_candidate, scores[targets.clamp(min=0)], own)
    return (total.log() + largest - own).mean()


class CandidateLosses(nn.Module):
    """A network as the training loop wants it: its batches are numbers of histories."""

    log_popularity: Tensor

    def __init__(self, network: EvidenceNetwork, examples: RankingExamples, log_popularity: np.ndarray) -> None:
        """Join `network` with the examples that it learns from."""
        super().__init__()
        self.network, self.examples = network, examples
        self.register_buffer("log_popularity", torch.from_numpy(log_popularity), persistent=False)

    def forward(self, histories: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Return the loss of the histories with these numbers."""
        numbers, candidates = histories.numpy(), self.examples.candidates
        rows, segments = self.examples.rows(numbers)
        scores = score_candidates(self.network, candidates, rows, self.log_popularity)
        counts = np.diff(candidates.indptr)[numbers]
        first = np.cumsum(counts) - counts
        targets = self.examples.target_positions[numbers]
        targets = np.where(targets >= 0, targets - candidates.indptr[numbers] + first, -1)
        others = (self.examples.ranked_items[numbers] - counts).astype(np.float32)
        parts = (torch.from_numpy(part).to(scores.device) for part in (segments, targets, others))
        return {"loss": catalogue_loss(scores, *parts)}


def score_candidates(
    network: EvidenceNetwork, candidates: Candidates, rows: np.ndarray | slice, log_popularity: Tensor
) -> Float[Tensor, " k"]:
    """Return the scores of the candidates `rows`, in float32 under autocast too: in bf16 they would tie."""
    device = log_popularity.device
    values = torch.from_numpy(candidates.values[rows]).split(CHUNK)
    items = torch.from_numpy(candidates.items[rows]).split(CHUNK)
    with full_precision(device):
        scores = [
            network(value.to(device).float(), log_popularity[item.to(device)])
            for value, item in zip(values, items, strict=True)
        ]
        return torch.cat(scores)
