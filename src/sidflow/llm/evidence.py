"""What the last items of a history say for every item: counts of other people's histories, and content.

Co-occurrence is cross-fitted over users: users are dealt into folds, and a training position sees what the users of
all other folds did, so that no transition predicts itself; queries see what everybody did in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csr_matrix

from sidflow.contracts.histories import Histories
from sidflow.counting import events, pairs, ties
from sidflow.counting.hashing import mix
from sidflow.llm.params import AnchoringParams

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NOBODY = -1  # in the place of an item: the history is shorter


class Ends(NamedTuple):
    """Histories inside one array of items: history p is `items[begin[p]:end[p]]`."""

    items: Int[np.ndarray, " events"]
    begin: Int[np.ndarray, " p"]
    end: Int[np.ndarray, " p"]

    def last(self, count: int) -> Int[np.ndarray, "p count"]:
        """Return the items 1, 2, ... `count` steps back, NOBODY where there are fewer."""
        place = self.end[:, None] - 1 - np.arange(count)
        return np.where(place >= self.begin[:, None], self.items[np.maximum(place, 0)], NOBODY).astype(np.int64)


class Positions(NamedTuple):
    """Training positions: what each one sees, who it belongs to, and what it foretells."""

    ends: Ends
    user: Int[np.ndarray, " p"]
    target: Int[np.ndarray, " p"]

    def barred(self) -> tuple[Int[np.ndarray, " p_plus_1"], Int[np.ndarray, " nonzero"]]:
        """Return, as CSR without values, the items that a history holds already, less its target."""
        lengths = self.ends.end - self.ends.begin
        starts = np.cumsum(lengths) - lengths
        row = np.repeat(np.arange(len(lengths)), lengths)
        held = self.ends.items[np.arange(len(row)) - starts[row] + self.ends.begin[row]]
        keep = held != self.target[row]
        kept = np.bincount(row[keep], minlength=len(lengths))
        return np.concatenate([[0], np.cumsum(kept)]), held[keep].astype(np.int64)


def at_candidates(found: csr_matrix, targets: Int[np.ndarray, " p"], negatives: Int[np.ndarray, " m"]) -> csr_matrix:
    """Return what `found` [p, n] holds of each row's own target, then of `negatives`, CSR [p, 1 + m]."""
    own = csr_matrix(found[np.arange(len(targets)), targets]).T
    return csr_matrix(sparse.hstack([own, found[:, negatives]], format="csr"))


def of_places(histories: Histories, read: Int[np.ndarray, " p"], target: Int[np.ndarray, " p"]) -> Positions:
    """Return positions that have read up to the events `read` and foretell the events `target` of the same users.

    Each sees its user's whole history before it, what a window cuts off or skips too.
    """
    user = np.searchsorted(histories.offsets, read, side="right") - 1
    ends = Ends(histories.items, histories.offsets[user], read + 1)
    return Positions(ends, user, histories.items[target].astype(np.int64))


def of_queries(histories: Histories, queries: Int[np.ndarray, " p"]) -> Ends:
    """Return the histories of `queries`."""
    begin = histories.offsets[histories.query_user[queries]]
    return Ends(histories.items, begin, begin + histories.query_end[queries])


def fold_of(users: Int[np.ndarray, " u"], folds: int) -> Int[np.ndarray, " u"]:
    """Return each user's fold by a hash of the id (ids are sorted by key, so that neighbours may be alike)."""
    mixed = mix((users.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return (mixed % np.uint64(folds)).astype(np.int64)


class Counts(NamedTuple):
    """What one item says for another, counted by everybody and without each fold of users."""

    relations: csr_matrix  # float32 [(folds + 1) * n, n]: without fold 0, without fold 1, ..., of everybody
    recency: Float[np.ndarray, " last"]  # weight of an item by its steps back
    fold: Int[np.ndarray, " users"]
    items: int  # of the core
    everybody: int  # the part of `relations` that no fold is left out of

    def relation(self) -> csr_matrix:
        """Return what everybody's training part says, float32 [n, n]."""
        return csr_matrix(self.relations[self.everybody * self.items :])

    def evidence(self, last: Int[np.ndarray, "p last"], part: Int[np.ndarray, " p"] | int) -> csr_matrix:
        """Return K: the evidence of each history's last items for every core item, exact, float32 CSR [p, n].

        Args:
            last: as `Ends.last` gives them; items outside the core say nothing.
            part: the fold whose users are left out, or `everybody`.
        """
        known = (last >= 0) & (last < self.items)
        columns = (last + np.reshape(part, (-1, 1)) * self.items)[known]
        weights = np.broadcast_to(self.recency, last.shape)[known].astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(known.sum(1))])
        found = csr_matrix((weights, columns, indptr), shape=(len(last), (self.everybody + 1) * self.items))
        found = csr_matrix(found @ self.relations)
        found.sort_indices()
        return found


def count(histories: Histories, items: int, settings: AnchoringParams) -> Counts:
    """Count co-occurrence in the training parts, `settings.folds` times without a fold and once with all."""
    everything = events.training(histories, items)
    fold = fold_of(np.arange(histories.users), settings.folds)
    weights = ties.decaying(settings.window, settings.decay)

    def related(keep: np.ndarray) -> csr_matrix:
        kept = events.Events(everything.user[keep], everything.item[keep], items)
        return pairs.strongest(pairs.relation(kept, weights, settings.backward, settings.damping), settings.neighbours)

    own = fold[everything.user]
    parts = [related(own != one) for one in range(settings.folds)] + [related(own >= 0)]
    relations = csr_matrix(sparse.vstack(parts, format="csr"))
    return Counts(relations, ties.decaying(settings.last, settings.recency), fold, items, settings.folds)
