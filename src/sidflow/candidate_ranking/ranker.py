"""A trained candidate ranker: scores of any history, and its weights as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.artifacts.recommenders import WEIGHTS, ScoreFactors
from sidflow.candidate_ranking.features import CandidateSelector, feature_names
from sidflow.candidate_ranking.network import EvidenceNetwork, score_candidates
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.relations import Relations
from sidflow.core.params import validate_params
from sidflow.sequences.cooccurrence import tie_breaks
from sidflow.sequences.slices import HistorySlices, new_histories
from sidflow.training.checkpoint import weights_from_arrays, weights_to_arrays

HISTORIES = 4096  # scored at a time: the features of all queries together are large
TIE_STEP = 2.0**-20  # less than any difference of scores that decides between items with evidence
COUNTED, COMPARED, NETWORK = "counted", "compared", "network."  # of the names in WEIGHTS
CSR_PARTS = ("indptr", "indices", "data")


@dataclass(frozen=True)
class CandidateRanker:
    """A network, and what selects the candidates that it scores."""

    network: EvidenceNetwork
    selector: CandidateSelector

    @torch.no_grad()
    def scores(self, histories: HistorySlices) -> csr_matrix:
        """Return the scores of the candidates of `histories`, float32 CSR [p, n]."""
        candidates, relations = self.selector.select(histories), self.selector.relations
        device = next(self.network.parameters()).device
        log_popularity = torch.from_numpy(relations.log_popularity).to(device)
        scores = score_candidates(self.network, candidates, slice(None), log_popularity).cpu().numpy()
        shape = (len(histories.stop), len(relations.popularity))
        return csr_matrix((scores, candidates.items, candidates.indptr), shape=shape)

    def factors(self, histories: HistorySlices) -> ScoreFactors:
        """Return the two sides of the scores of `histories`: those of candidates, with popularity as the tie break."""
        count = len(histories.stop)
        blocks = [self.scores(histories.rows(slice(start, start + HISTORIES))) for start in range(0, count, HISTORIES)]
        ties = popularity_ties(self.selector.relations)[:, None]
        scores = csr_matrix(sparse.vstack(blocks), dtype=np.float32)
        return ScoreFactors(np.ones((count, 1), dtype=np.float32), ties).plus(scores)

    def answer(self, histories: Sequence[np.ndarray]) -> ScoreFactors:
        """Return the two sides of the scores of `histories`; each is its item ids, oldest first."""
        return self.factors(new_histories(histories))

    def write(self, name: str) -> None:
        """Write the weights of recommender `name`, from which `load_ranker` makes this ranker again."""
        arrays = weights_to_arrays(self.network, NETWORK)
        relations = self.selector.relations
        arrays |= {"scales": self.selector.scales, "popularity": relations.popularity.astype(np.int64)}
        for kind in (COUNTED, COMPARED):
            for relation, matrix in getattr(relations, kind).items():
                arrays |= {f"{kind}.{relation}.{part}": getattr(matrix, part) for part in CSR_PARTS}
        metadata: dict[str, object] = {
            "settings": self.selector.params.model_dump(mode="json"),
            "exclude_history": self.selector.exclude_history,
            COUNTED: list(relations.counted),  # the order of the features
            COMPARED: list(relations.compared),
        }
        WEIGHTS.write(arrays, metadata, model=name)


def popularity_ties(relations: Relations) -> np.ndarray:
    """Return what decides between items of equal score, float32 [n], far below a difference that evidence makes."""
    return tie_breaks(relations.popularity, TIE_STEP)


def load_ranker(name: str) -> CandidateRanker:
    """Read the weights of recommender `name`.

    Raises:
        InputError: they are absent or broken.
    """
    arrays, metadata = WEIGHTS.read(model=name)
    items = len(arrays["popularity"])
    counted, compared = (
        {relation: _csr(arrays, f"{kind}.{relation}", items) for relation in _names(metadata, kind)}
        for kind in (COUNTED, COMPARED)
    )
    relations = Relations(counted, compared, arrays["popularity"])
    settings = validate_params(metadata["settings"], CandidateRankerParams, str(WEIGHTS.at(model=name)))
    network = EvidenceNetwork(len(feature_names(relations)), settings.hidden)
    weights_from_arrays(network, arrays, NETWORK)
    selector = CandidateSelector(relations, arrays["scales"], settings, bool(metadata["exclude_history"]))
    return CandidateRanker(network.eval(), selector)


def _names(metadata: Mapping[str, object], kind: str) -> list[str]:
    names = metadata[kind]
    assert isinstance(names, list)
    return names


def _csr(arrays: Mapping[str, np.ndarray], name: str, items: int) -> csr_matrix:
    indptr, indices, data = (arrays[f"{name}.{part}"] for part in CSR_PARTS)
    return csr_matrix((data, indices, indptr), shape=(items, items))
