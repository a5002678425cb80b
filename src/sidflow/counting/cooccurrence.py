"""Windowed co-occurrence, alone and with content similarity.

    score(i) = sum over the last items s steps back (1 = the last):
               s**-recency * (co-occurrence(that item, i) + content * cosine(that item, i))

    co-occurrence(j, i) = sum over training pairs (j, i) d apart, d <= window:  d**-decay, times `backward` where i
               came first, divided by popularity(j)**damping

Popularity breaks ties. All knobs are chosen on validation from lists in params: those of co-occurrence first, then the
weight `content` (0 without content). Cosines are of the file's L2-normalised rows; an item without content has cosine
zero with all items. The tie break is exact for co-occurrence alone. With `content` > 0, popularity can reorder two
scores that differ by less than 2**-14.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import Matrix
from sidflow.artifacts.recommenders import ScoreFactors
from sidflow.counting.search import (
    METRIC,
    QUERIES_PER_BLOCK,
    Choice,
    ChosenParams,
    coordinate_search,
    dense_ranks,
    mean_ndcg,
    sparse_ranks,
    validation_set,
)
from sidflow.sequences.cooccurrence import (
    SCORE_STEP,
    Events,
    damped_cooccurrence,
    decaying_weights,
    tie_breaks,
    tie_broken_factors,
    training_events,
)
from sidflow.sequences.histories import Histories
from sidflow.sequences.slices import HistorySlices, recent_items

Steps = Annotated[int, Field(ge=1, le=1000)]
Exponent = Annotated[float, Field(ge=0, le=4)]
Share = Annotated[float, Field(ge=0, le=1)]


class CooccurrenceParams(ChosenParams):
    """Windowed co-occurrence: values to try of each knob; the search starts from the first of each list."""

    windows: tuple[Steps, ...] = Field(
        default=(10, 5, 20, 2, 1), min_length=1, description="steps; furthest apart that two items count as a pair"
    )
    decays: tuple[Exponent, ...] = Field(
        default=(0.5, 0.25, 1.0, 2.0), min_length=1, description="exponent of 1 / distance"
    )
    lasts: tuple[Steps, ...] = Field(
        default=(5, 3, 10, 1), min_length=1, description="most recent items of the history that give evidence"
    )
    recencies: tuple[Exponent, ...] = Field(
        default=(1.0, 0.75, 0.5, 1.5, 2.5), min_length=1, description="exponent of 1 / steps back"
    )
    backwards: tuple[Share, ...] = Field(
        default=(0.25, 0.0, 0.5, 1.0),
        min_length=1,
        description="weight of a pair in the other order; 1 = order is ignored",
    )
    dampings: tuple[Share, ...] = Field(
        default=(0.25, 0.0, 0.5), min_length=1, description="exponent of 1 / popularity of the history's item"
    )

    def grid(self) -> dict[str, tuple[float, ...]]:
        """Return the candidate values by the knob's name in a setting."""
        return {
            "window": self.windows,
            "decay": self.decays,
            "last": self.lasts,
            "recency": self.recencies,
            "backward": self.backwards,
            "damping": self.dampings,
        }


def cooccurrence_relation(events: Events, setting: dict[str, float]) -> csr_matrix:
    """Return the weighted co-occurrence of item i with a later item j, exact in float32, CSR [n, n]."""
    weights = decaying_weights(int(setting["window"]), setting["decay"])
    return damped_cooccurrence(events, weights, setting["backward"], setting["damping"])


def recency_weights(histories: HistorySlices, items: int, setting: dict[str, float]) -> csr_matrix:
    """Return the recency weights of the last items of each history, float32 CSR [p, n]."""
    return recent_items(histories, decaying_weights(int(setting["last"]), setting["recency"]), items)


def cooccurrence_factors(histories: Histories, events: Events, setting: dict[str, float]) -> ScoreFactors:
    """Return the factors of a setting: recency weights times co-occurrence, with popularity as the tie break."""
    recent = recency_weights(histories.query_slices(), events.items, setting)
    return tie_broken_factors(recent, cooccurrence_relation(events, setting), events, SCORE_STEP)


def choose_cooccurrence(histories: Histories, items: int, params: CooccurrenceParams) -> Choice:
    """Return the setting with the highest validation nDCG@10 of a fit on the training parts."""
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    query_slices, tie = histories.query_slices(queries), tie_breaks(events.counts(), SCORE_STEP)
    relation_cache: dict[tuple[float, ...], csr_matrix] = {}  # only the latest; recency needs no new one

    def score(setting: dict[str, float]) -> float:
        key = tuple(setting[knob] for knob in ("window", "decay", "backward", "damping"))
        if key not in relation_cache:
            relation_cache.clear()
            relation_cache[key] = cooccurrence_relation(events, setting)
        scores = csr_matrix(recency_weights(query_slices, items, setting) @ relation_cache[key])
        return mean_ndcg(sparse_ranks(scores, tie, masked, targets))

    return coordinate_search(params.grid(), score)


class ContentParams(CooccurrenceParams):
    """Co-occurrence plus the similarity of contents; its weight is chosen on validation."""

    features: str = Field(description="embedding or modality whose rows' cosines are the content")
    contents: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
        min_length=1,
        description="weight of a cosine against one neighbouring pair; 0 is co-occurrence alone",
    )


def content_factors(histories: Histories, events: Events, setting: dict[str, float], content: Matrix) -> ScoreFactors:
    """Return co-occurrence as sparse factors, popularity as dense ones, and content on the side that it belongs to.

    Args:
        histories: of every query.
        events: what is counted.
        setting: the knobs, `content` among them.
        content: rows of length 1, or zero where absent.
    """
    base = cooccurrence_factors(histories, events, setting)
    if not setting["content"]:
        return base
    assert base.evidence is not None and base.states is not None and base.matrix is not None
    similar = np.float32(setting["content"]) * (base.evidence @ content)
    if isinstance(content, np.ndarray):
        return base._replace(states=np.hstack([base.states, similar]), matrix=np.hstack([base.matrix, content]))
    evidence = csr_matrix(sparse.hstack([base.evidence, similar]), dtype=np.float32)
    return base._replace(evidence=evidence, relation=csr_matrix(sparse.vstack([base.relation, content.T])))


def choose_content(histories: Histories, items: int, params: ContentParams, content: Matrix) -> Choice:
    """Return the setting with the highest validation nDCG@10: co-occurrence's knobs first, then the content weight."""
    best_cooccurrence, trials = choose_cooccurrence(histories, items, params)
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    recent = recency_weights(histories.query_slices(queries), items, best_cooccurrence)
    related = csr_matrix(recent @ cooccurrence_relation(events, best_cooccurrence))
    similar, tie = recent @ content, tie_breaks(events.counts(), SCORE_STEP)
    ranks = {weight: np.empty(len(queries), dtype=np.int64) for weight in params.contents}
    for start in range(0, len(queries), QUERIES_PER_BLOCK):
        block = slice(start, start + QUERIES_PER_BLOCK)
        cosine = similar[block] @ content.T
        cosine = cosine if isinstance(cosine, np.ndarray) else cosine.toarray()
        base = related[block].toarray() + tie
        for weight in params.contents:
            scores = base + np.float32(weight) * cosine
            ranks[weight][block] = dense_ranks(scores, masked[block], targets[block])
    ndcg = {weight: mean_ndcg(ranks[weight]) for weight in params.contents}
    best = max(params.contents, key=lambda weight: (ndcg[weight], -weight))
    weight_trials = [{**best_cooccurrence, "content": weight, METRIC: ndcg[weight]} for weight in params.contents]
    return Choice({**best_cooccurrence, "content": best}, trials + weight_trials)
