"""Histories to query states: while training, at its end, and for new histories from the written weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sidflow.artifacts.recommenders import WEIGHTS, ScoreFactors
from sidflow.core.params import validate_params
from sidflow.core.tensors import Tensors
from sidflow.hybrid.params import HybridParams
from sidflow.hybrid.prior import ScorePrior, prior_from_arrays
from sidflow.sequences.slices import new_histories
from sidflow.sequences.windows import Windows, recent_windows, sorted_batches
from sidflow.sequential.encoders import TransformerEncoder
from sidflow.sequential.model import Encoder, build_encoder
from sidflow.sequential.params import from_content
from sidflow.training.checkpoint import weights_from_arrays, weights_to_arrays

if TYPE_CHECKING:
    from jaxtyping import Float


BLOCK = 512  # histories encoded at a time
PRIOR_WEIGHTS, PRIOR_INPUTS = "prior.", "prior_inputs."  # prefixes in WEIGHTS


def readable_length(encoder: Encoder) -> int:
    """Return how many items of a history the encoder can read: one less where a masked position is appended."""
    return encoder.longest if encoder.causal else encoder.longest - 1


@torch.no_grad()
def query_states(encoder: Encoder, item_matrix: Float[Tensor, "n d"], windows: Windows) -> Float[Tensor, "q d"]:
    """Return the state after each window: the last position's, or that of a masked position appended.

    An empty window gives zeros from a causal network: all items tie. The encoder has to be in
    eval mode, and no window longer than `readable_length`. A state does not depend on the windows beside it beyond
    rounding.
    """
    device = item_matrix.device
    states = torch.zeros(len(windows.lengths), item_matrix.shape[1], device=device)
    for rows in sorted_batches(windows.lengths, BLOCK):
        if encoder.causal:
            rows = rows[windows.lengths[rows] > 0]
            if not len(rows):
                continue
        items, lengths = (part.to(device) for part in windows.padded(rows))
        vectors = functional.embedding(items, item_matrix)
        if isinstance(encoder, TransformerEncoder) and not encoder.causal:
            vectors = functional.pad(vectors, (0, 0, 0, 1))
            end = torch.arange(vectors.shape[1], device=device)[None, :] == lengths[:, None]
            vectors = torch.where(end[..., None], encoder.mask_vector, vectors)
            lengths = lengths + 1
        last = encoder(vectors, lengths)[torch.arange(len(rows), device=device), lengths - 1]
        states[rows.to(device)] = last.to(states.dtype)
    return states


@dataclass(frozen=True)
class SequentialRecommender:
    """A trained sequential recommender, ready for any history."""

    encoder: Encoder
    item_matrix: Tensor  # [n, d]
    prior: ScorePrior | None = None  # of a hybrid

    def answer(self, histories: Sequence[np.ndarray]) -> ScoreFactors:
        """Return the two sides of the scores of `histories`; each is its item ids, oldest first."""
        windows = recent_windows(histories, readable_length(self.encoder))
        states = query_states(self.encoder, self.item_matrix, windows)
        if self.prior is not None:
            return self.prior.factors(states, self.item_matrix, new_histories(histories))
        return ScoreFactors(states.cpu().numpy(), self.item_matrix.numpy())

    def encode(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return the query states of `histories`, float32 [q, d]."""
        states = self.answer(histories).states
        assert states is not None
        return states


def prior_to_arrays(prior: ScorePrior) -> dict[str, np.ndarray]:
    """Return the arrays of a WEIGHTS artifact that `load_recommender` makes `prior` of again."""
    inputs = {f"{PRIOR_INPUTS}{name}": array for name, array in prior.arrays().items()}
    return weights_to_arrays(prior, PRIOR_WEIGHTS) | inputs


def _load_prior(file: Tensors, items: int, where: str) -> ScorePrior | None:
    if "hybrid" not in file.metadata:
        return None
    inputs = {name.removeprefix(PRIOR_INPUTS): a for name, a in file.arrays.items() if name.startswith(PRIOR_INPUTS)}
    prior = prior_from_arrays(inputs, items, validate_params(file.metadata["hybrid"], HybridParams, where))
    weights_from_arrays(prior, file.arrays, PRIOR_WEIGHTS)
    return prior.eval()


def load_recommender(model: str) -> SequentialRecommender:
    """Read the weights of recommender `model`.

    Raises:
        InputError: they are absent or broken.
    """
    file = WEIGHTS.read(model=model)
    settings = from_content(file.metadata["settings"], "", str(WEIGHTS.at(model=model)))
    encoder = build_encoder(settings)
    weights_from_arrays(encoder, file.arrays, "encoder.")
    item_matrix = torch.from_numpy(file.arrays["item_matrix"].copy())
    prior = _load_prior(file, len(item_matrix), str(WEIGHTS.at(model=model)))
    return SequentialRecommender(encoder.eval(), item_matrix, prior)
