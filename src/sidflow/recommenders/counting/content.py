"""Co-occurrence plus content similarity: the simple baseline for every multimodal method.

    score(i) = sum over the last items s steps back:  s**-recency * (co-occurrence(that item, i)
               + content * cosine of the two items' content vectors);   popularity breaks ties.

The knobs of co-occurrence are chosen first, then the weight `content`. Cosines are of the file's L2-normalised rows;
an item without content has cosine zero with all items. The tie break is exact for co-occurrence alone. With
`content` > 0, popularity can reorder two scores that differ by less than 2**-14.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from sidflow.contracts.artifacts.embeddings import EMBEDDING, MODALITY
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored
from sidflow.contracts.histories import Histories
from sidflow.counting.events import Events, training_events
from sidflow.counting.ties import SCORE_STEP, tie_breaks
from sidflow.measures.directions import unit_rows
from sidflow.recommenders.counting.cooccurrence import (
    CooccurrenceParams,
    choose_cooccurrence,
    cooccurrence_factors,
    cooccurrence_relation,
    recency_weights,
)
from sidflow.recommenders.counting.search import METRIC, Choice
from sidflow.recommenders.counting.validation import dense_ranks, mean_ndcg, validation_set

BLOCK = 512  # queries scored at once


class ContentParams(CooccurrenceParams):
    """Co-occurrence plus the similarity of contents; its weight is chosen on validation."""

    features: str = Field(description="embedding or modality whose rows' cosines are the content")
    contents: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
        min_length=1,
        description="weight of a cosine against one neighbouring pair; 0 is co-occurrence alone",
    )


def load_content_rows(path: Path, items: int) -> np.ndarray:
    """Return the core items' content vectors, L2-normalised, float32 [n, d]; zero where absent.

    Raises:
        InputError: the file has fewer rows than the core has items.
    """
    kind = MODALITY if path.parent.name == "modalities" else EMBEDDING
    arrays = kind.read_from(path).arrays
    if len(arrays["values"]) < items:
        raise InputError(
            str(path),
            expected=f"a row for each of {items} core items",
            found=f"{len(arrays['values'])} rows",
            remedy="rerun the stage that writes it",
        )
    return unit_rows(arrays["values"][:items], arrays["present"][:items])


def content_factors(histories: Histories, events: Events, setting: dict[str, float], content: np.ndarray) -> Factored:
    """Return co-occurrence as sparse factors, content and popularity as dense factors."""
    base = cooccurrence_factors(histories, events, setting)
    if not setting["content"]:
        return base
    assert base.evidence is not None and base.states is not None and base.matrix is not None
    similar = np.float32(setting["content"]) * (base.evidence @ content)
    return base._replace(states=np.hstack([base.states, similar]), matrix=np.hstack([base.matrix, content]))


def choose_content(histories: Histories, items: int, params: ContentParams, content: np.ndarray) -> Choice:
    """Return the setting with the highest validation NDCG@10: co-occurrence's knobs first, then the content weight."""
    best_cooccurrence, trials = choose_cooccurrence(histories, items, params)
    events = training_events(histories, items)
    queries, masked, targets = validation_set(histories, items, params.choose_on)
    recent = recency_weights(histories, items, best_cooccurrence)[queries]
    related = csr_matrix(recent @ cooccurrence_relation(events, best_cooccurrence))
    similar, tie = recent @ content, tie_breaks(events.counts(), SCORE_STEP)
    ranks = {weight: np.empty(len(queries), dtype=np.int64) for weight in params.contents}
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        base, cosine = related[block].toarray() + tie, similar[block] @ content.T
        for weight in params.contents:
            scores = base + np.float32(weight) * cosine
            ranks[weight][block] = dense_ranks(scores, masked[block], targets[block])
    ndcg = {weight: mean_ndcg(ranks[weight]) for weight in params.contents}
    best = max(params.contents, key=lambda weight: (ndcg[weight], -weight))
    weight_trials = [{**best_cooccurrence, "content": weight, METRIC: ndcg[weight]} for weight in params.contents]
    return Choice({**best_cooccurrence, "content": best}, trials + weight_trials)
