"""Co-occurrence plus content: the opponent that every multimodal method owes an answer to.

    score(i) = sum over the last items s steps back:  s**-recency * (co-occurrence(that item, i)
               + content * cosine of the two items' content vectors);   popularity decides between equals.

The knobs of co-occurrence are chosen first, as `cooccurrence` does; `content` is chosen given them. Cosines are of the
rows as the file has them, L2-normalised; an item without content has cosine zero with all. The tie break is exact
against co-occurrence alone (see `ties`); cosines are no multiples of a step, so that with `content` > 0 two scores
nearer than one step, 2**-14 whatever `content` is, may be ordered by popularity instead.
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
from sidflow.counting import ties
from sidflow.counting.events import Events, training
from sidflow.measures.directions import unit_rows
from sidflow.recommenders.counting import cooccurrence, search, validation
from sidflow.recommenders.counting.cooccurrence import CooccurrenceParams
from sidflow.recommenders.counting.search import METRIC, Choice

BLOCK = 512  # queries scored at once


class ContentParams(CooccurrenceParams):
    """Co-occurrence plus the similarity of contents, weighed on validation."""

    features: str = Field(description="embedding or modality whose rows' cosines are the content")
    contents: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
        min_length=1,
        description="weight of a cosine against one neighbouring pair; 0 is co-occurrence alone",
    )


def directions(path: Path, items: int) -> np.ndarray:
    """Return the core items' content vectors at length one, float32 [n, d]; zero where absent.

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


def factors(histories: Histories, events: Events, setting: dict[str, float], content: np.ndarray) -> Factored:
    """Return co-occurrence as the sparse pair, content and popularity as the dense one."""
    base = cooccurrence.factors(histories, events, setting)
    if not setting["content"]:
        return base
    assert base.evidence is not None and base.states is not None and base.matrix is not None
    similar = np.float32(setting["content"]) * (base.evidence @ content)
    return base._replace(states=np.hstack([base.states, similar]), matrix=np.hstack([base.matrix, content]))


def choose(histories: Histories, items: int, params: ContentParams, content: np.ndarray) -> Choice:
    """Return the setting with the highest NDCG@10 on validation queries: co-occurrence's, then the content's weight."""
    chosen, trials = cooccurrence.choose(histories, items, params)
    events = training(histories, items)
    queries = search.validation_sample(histories, params.choose_on)
    barred, targets = histories.barred(items, queries), histories.targets[queries]
    recent = cooccurrence.evidence(histories, items, chosen)[queries]
    related = csr_matrix(recent @ cooccurrence.relation(events, chosen))
    similar, tie = recent @ content, ties.below(events.counts(), ties.STEP)
    ranks = {weight: np.empty(len(queries), dtype=np.int64) for weight in params.contents}
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        base, cosine = related[block].toarray() + tie, similar[block] @ content.T
        for weight in params.contents:
            scores = base + np.float32(weight) * cosine
            ranks[weight][block] = validation.dense_ranks(scores, barred[block], targets[block])
    reached = {weight: validation.ndcg(ranks[weight]) for weight in params.contents}
    best = max(params.contents, key=lambda weight: (reached[weight], -weight))
    weighed = [{**chosen, "content": weight, METRIC: reached[weight]} for weight in params.contents]
    return Choice({**chosen, "content": best}, trials + weighed)
