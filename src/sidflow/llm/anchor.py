"""The anchor: scores start from a strong simple recommender, and MME-SID learns what is beyond it.

    score(q, i) = own * (o . W_eff[i])  +  lambda_k * log(1 + K[q, i] / epsilon)  +  sum over s: lambda_s * cos

K is the co-occurrence evidence of the history's last items for item i, cos the cosine of the content rows of the item
s steps back and of item i, summed over modalities. The lambdas and epsilon are positive (softplus) and learned with
the rest, from the start values in the params.

`own` is chosen on validation, from a list: MME-SID fits the positions that it is trained on far better than others
(its collaborative rows were trained on them already), so that a weight learned there is too large. For the same reason
a share of the training histories sees no anchor: what MME-SID adds has to stand by itself.

Everything but K's logarithm is an inner product: own * o and the weighed content of the last items are one query
state, W_eff[i] and the content of i one item row; the logarithm is the sparse pair of factors.

Source: none; the paper (MME-SID, arXiv 2509.02017) has no such terms.
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

from sidflow.contracts.errors import InputError
from sidflow.contracts.histories import Histories
from sidflow.counting import ties
from sidflow.llm import evidence
from sidflow.llm.evidence import Counts, Ends, Positions
from sidflow.llm.inputs import ItemInputs
from sidflow.llm.params import FinetuneParams
from sidflow.losses.catalogue_softmax import Evidence, Places, catalogue_cross_entropy, sampled_cross_entropy
from sidflow.losses.negatives import Candidates
from sidflow.measures.directions import unit_rows

if TYPE_CHECKING:
    from jaxtyping import Float, Int


CONTENT = "content."
POPULARITY_WEIGHT = 0.5  # of log-popularity in training, at the start


class Sources(NamedTuple):
    """What the anchor knows before it is trained."""

    counts: Counts | None
    content: dict[str, Float[np.ndarray, "n d"]]  # rows of length one of all catalogue items, by modality
    popularity: Float[np.ndarray, " core"]  # log(1 + count in training parts)


def gather(histories: Histories, inputs: ItemInputs, params: FinetuneParams) -> Sources | None:
    """Count and normalise what `params.anchor` asks for; None where it asks for nothing.

    Raises:
        InputError: a modality of the content term is not among those that items have.
    """
    if params.anchor == "none":
        return None
    counts, content = None, {}
    if params.anchor in ("cooccurrence", "both"):
        counts = evidence.count(histories, len(inputs.counts), params.anchoring)
    if params.anchor in ("content", "both"):
        for name in params.anchoring.modalities:
            if name not in inputs.modalities:
                raise InputError(
                    "params.yaml:finetune.*.anchoring.modalities",
                    expected=f"names out of {list(inputs.modalities)}, which some item has and `without` leaves in",
                    found=name,
                    remedy="name another modality, or set `anchor: cooccurrence`",
                )
            content[name] = unit_rows(inputs.modalities[name].raw, inputs.modalities[name].present)
    return Sources(counts, content, np.log1p(inputs.counts).astype(np.float32))


class Anchor(nn.Module):
    """The terms beside MME-SID's own, and the weight of its own."""

    own: Tensor
    popularity: Tensor
    popularity_raw: nn.Parameter | None

    def __init__(self, sources: Sources, core: int, params: FinetuneParams) -> None:
        """Start from the weights that `params.anchoring` says, over `core` candidates."""
        super().__init__()
        settings = params.anchoring
        self.counts, self.core, self.last = sources.counts, core, settings.last
        self.dropout, self.mask_history = settings.dropout, settings.mask_history
        self.training_weight = settings.own_weight
        self.register_buffer("own", torch.tensor([settings.own_weight]))
        if self.counts is not None:
            self.cooccurrence_raw = nn.Parameter(before_softplus([settings.cooccurrence_weight]))
            self.epsilon_raw = nn.Parameter(before_softplus([settings.epsilon]))
        self.popularity_raw = None
        if settings.discount_popularity:
            self.popularity_raw = nn.Parameter(before_softplus([POPULARITY_WEIGHT]))
        self.register_buffer("popularity", torch.from_numpy(sources.popularity), persistent=False)
        start = [settings.content_weight * step**-settings.recency for step in range(1, settings.last + 1)]
        self.content_raw = nn.ParameterDict({name: nn.Parameter(before_softplus(start)) for name in sources.content})
        for name, rows in sources.content.items():
            self.register_buffer(f"rows_{name}", torch.from_numpy(rows), persistent=False)

    def item_matrix(self, matrix: Float[Tensor, "n h"], items: Int[Tensor, " n"] | None = None) -> Float[Tensor, "n d"]:
        """Return `matrix` with content rows beside it: W_eff, or its rows of `items` alone."""
        which = slice(self.core) if items is None else items
        return torch.cat([matrix, *(rows[which] for rows in self.content_rows())], 1)

    def content_rows(self) -> list[Float[Tensor, "n d"]]:
        """Return the content rows of all catalogue items, modality by modality, in the order of the columns."""
        return [getattr(self, f"rows_{name}") for name in self.content_raw]

    def states(self, states: Float[Tensor, "p h"], ends: Ends) -> Float[Tensor, "p d"]:
        """Return MME-SID's states, weighed, with the weighed content of each history's last items beside them."""
        return torch.cat([self.own * states, self.content(states, ends)], 1)

    def content(self, states: Float[Tensor, "p h"], ends: Ends) -> Float[Tensor, "p c"]:
        """Return the weighed content of each history's last items, on the device of `states`."""
        last = torch.from_numpy(ends.last(self.last)).to(states.device)
        there = (last >= 0).to(states.dtype)
        parts = [states[:, :0]]
        for name, raw in self.content_raw.items():
            rows = functional.embedding(last.clamp(min=0), getattr(self, f"rows_{name}"))
            parts.append(torch.einsum("pl,pld->pd", there * functional.softplus(raw), rows))
        return torch.cat(parts, 1)

    def weigh(self, found: Float[Tensor, " nonzero"]) -> Float[Tensor, " nonzero"]:
        """Return what evidence K adds to the score."""
        return functional.softplus(self.cooccurrence_raw) * torch.log1p(found / functional.softplus(self.epsilon_raw))

    def evidence(self, ends: Ends, part: np.ndarray | int | None = None) -> csr_matrix:
        """Return K, float32 CSR [p, n]; `part` is the fold that is left out, by default none is."""
        if self.counts is None:
            return csr_matrix((len(ends.end), self.core), dtype=np.float32)
        return self.counts.evidence(ends.last(self.last), self.counts.everybody if part is None else part)

    @torch.no_grad()
    def added(self, ends: Ends) -> csr_matrix:
        """Return lambda_k * log(1 + K / epsilon) of queries, float32 CSR [q, n]."""
        found = self.evidence(ends)
        if self.counts is not None:
            values = torch.from_numpy(found.data).to(self.own.device)
            found.data = self.weigh(values).float().cpu().numpy()
        return found

    def loss(
        self,
        states: Float[Tensor, "p h"],
        item_matrix: Float[Tensor, "n h"],
        positions: Positions,
        candidates: Candidates | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the anchored scores at training positions.

        Args:
            states: of MME-SID, a row a position.
            item_matrix: W_eff, or its rows of `candidates.items`.
            positions: which they are.
            candidates: what is scored; None: all core items.
        """
        device = states.device
        fold = None if self.counts is None else self.counts.fold[positions.user]
        found = self.evidence(positions.ends, fold)
        if candidates is not None:
            found = evidence.at_candidates(found, positions.target, candidates.drawn())
        values = torch.from_numpy(found.data).to(device)
        values = values if self.counts is None else self.weigh(values)
        content, weight = self.content(states, positions.ends), self.training_weight
        if self.training and self.dropout:
            keep = self._kept(positions, device)[:, None]
            content, weight = content * keep, self.training_weight * keep + 1 - keep
            values = values * keep[:, 0].repeat_interleave(torch.from_numpy(np.diff(found.indptr)).to(device))
        both = torch.cat([weight * states, content], 1)
        items = None if candidates is None else candidates.items
        matrix = self.item_matrix(item_matrix, items)
        if self.popularity_raw is not None:
            both = torch.cat([both, functional.softplus(self.popularity_raw).expand(len(both), 1)], 1)
            popularity = self.popularity if items is None else self.popularity[items]
            matrix = torch.cat([matrix, popularity[:, None]], 1)
        added = None if self.counts is None else Evidence(_places(found.indptr, found.indices, device), values)
        barred = self._barred(positions, candidates, device) if self.mask_history else None
        if candidates is None:
            target = torch.from_numpy(positions.target).to(device)
            return catalogue_cross_entropy(both, matrix, target, evidence=added, barred=barred)
        return sampled_cross_entropy(both, matrix, *candidates.scored, evidence=added, barred=barred)

    def _barred(self, positions: Positions, candidates: Candidates | None, device: torch.device) -> Places:
        indptr, columns = positions.barred()
        if candidates is not None:
            held = csr_matrix((np.ones(len(columns), dtype=bool), columns, indptr), (len(indptr) - 1, self.core))
            held = evidence.at_candidates(held, positions.target, candidates.drawn())
            indptr, columns = held.indptr, held.indices
        return _places(indptr, columns, device)

    def _kept(self, positions: Positions, device: torch.device) -> Float[Tensor, " p"]:
        users, place = np.unique(positions.user, return_inverse=True)
        keep = (torch.rand(len(users)) >= self.dropout).float()
        return keep[torch.from_numpy(place)].to(device)

    def kept(self) -> dict[str, np.ndarray]:
        """Return the arrays of an ANCHOR artifact: what new histories are scored with, beside the learned weights."""
        arrays = {f"{CONTENT}{name}": getattr(self, f"rows_{name}").cpu().numpy() for name in self.content_raw}
        if self.counts is not None:
            relation = self.counts.relation()
            arrays["relation_indptr"] = relation.indptr.astype(np.int64)
            arrays["relation_indices"] = relation.indices.astype(np.int32)
            arrays["relation_values"] = relation.data.astype(np.float32)
        return arrays

    def learned(self) -> dict[str, float | list[float]]:
        """Return the weights as they are now, by their names in the formula."""
        found: dict[str, float | list[float]] = {"own": self.own.item()}
        for name, raw in self.named_parameters():
            values = functional.softplus(raw).tolist()
            found[name.replace("_raw", "").replace(".", "_")] = values if len(values) > 1 else values[0]
        return found


def before_softplus(values: list[float]) -> Tensor:
    """Return the arguments whose softplus is `values`, positive."""
    return torch.tensor([value + math.log(-math.expm1(-value)) for value in values])


def _places(indptr: np.ndarray, columns: np.ndarray, device: torch.device) -> Places:
    return Places(*(torch.from_numpy(part.astype(np.int64)).to(device) for part in (indptr, columns)))


def load(arrays: Mapping[str, np.ndarray], core: int, params: FinetuneParams) -> Anchor:
    """Return the anchor whose `kept()` is `arrays`, with the weights of a fresh one."""
    counts = None
    if "relation_indptr" in arrays:
        parts = (arrays["relation_values"], arrays["relation_indices"], arrays["relation_indptr"])
        weights = ties.decaying(params.anchoring.last, params.anchoring.recency)
        counts = Counts(csr_matrix(parts, shape=(core, core)), weights, np.zeros(0, dtype=np.int64), core, 0)
    content = {name.removeprefix(CONTENT): rows for name, rows in arrays.items() if name.startswith(CONTENT)}
    return Anchor(Sources(counts, content, np.zeros(core, dtype=np.float32)), core, params)
