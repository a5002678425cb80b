"""Decoding under the prefix tree: beam search, and the exact log-probability of every ID.

A model reads a history once. Prefixes of IDs are then laid out as further positions of the same sequence, each of which
sees the history, its own ancestors and itself. So beams share the history's keys and values, and nothing is copied when
beams change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sidflow.generative.tree import PrefixTree
from sidflow.generative.vocabulary import IdVocabulary, Normalise

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class Prompt(Protocol):
    """Histories that a model has read: what it keeps of them, and of the prefixes that were added since."""

    state: Float[Tensor, "b d"]  # from which the first code is predicted


class Predictions(NamedTuple):
    """States of padded histories that predict items of these."""

    states: Float[Tensor, "b s l d"]  # one for each token of an item
    items: Int[Tensor, "b s"]  # which item of its history each predicts, from 0; -1 is padding


class IdModel(Protocol):
    """What training and decoding need of a model."""

    ids: IdVocabulary

    def predictions(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Predictions:
        """Return what predicts the targets of histories, as ID tokens padded on the right, of `lengths` items."""
        ...

    def read(self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], room: int = 0) -> Any:
        """Return the prompt of histories, as ID tokens padded on the right, of `lengths` tokens.

        Args:
            tokens: of the histories.
            lengths: of the histories.
            room: positions that will be kept at most; with 0 none can be counted on to be quick to keep.
        """
        ...

    def extend(
        self,
        prompt: Any,
        tokens: Int[Tensor, "b p"],
        depths: Int[Tensor, " p"],
        visible: Bool[Tensor, "b p s"],
        *,
        keep: bool,
    ) -> Float[Tensor, "b p d"]:
        """Return the states after further positions.

        Args:
            prompt: of the histories.
            tokens: of the positions.
            depths: level of each position's code, from 0.
            visible: which positions each sees beside the history: those that were kept before, then these.
            keep: whether later positions may see these.
        """
        ...

    def level_logits(self, states: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b k"]:
        """Return the logit of each code of `level` as the next token."""
        ...

    def vocabulary_logits(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Return the logits of the model's whole vocabulary, those of ID tokens last."""
        ...


def next_log_probs(
    model: IdModel, tree: PrefixTree, states: Float[Tensor, "*b d"], depth: int, nodes: Int[Tensor, "*b"], by: Normalise
) -> tuple[Float[Tensor, "*b k"], Int[Tensor, "*b k"]]:
    """Return the log-probability of each code after `nodes`, -inf where no ID goes on with it, and the child by code.

    Args:
        model: that gave the states.
        tree: of the valid IDs.
        states: after the nodes.
        depth: of the nodes.
        nodes: -1 is none, and has no children.
        by: `children`: probabilities of the codes with which an ID goes on sum to 1, so those of all IDs do, too;
            `vocabulary`: those of all tokens do, as in `generate` of transformers.
    """
    child = tree.child_by_code(depth, nodes)
    logits = torch.where(child >= 0, model.level_logits(states, depth).float(), -torch.inf)
    normaliser = (logits if by == "children" else model.vocabulary_logits(states).float()).logsumexp(-1)
    return torch.where(child >= 0, logits - normaliser[..., None], -torch.inf), child


def _child_log_probs(
    model: IdModel, tree: PrefixTree, states: Float[Tensor, "*b d"], depth: int, nodes: Int[Tensor, "*b"], by: Normalise
) -> tuple[Float[Tensor, "*b c"], Int[Tensor, "*b c"], Int[Tensor, "*b c"]]:
    """Return log-probability, number and code of each child of `nodes`, as `next_log_probs` has them by code.

    Logits of no other codes are touched, and one product gives logits and normaliser. Where a node has fewer children
    than others, the rest is -inf, -1 and any code.
    """
    children, codes = tree.children_of(depth, nodes)
    if by == "vocabulary":
        every = model.vocabulary_logits(states).float()
        normaliser = every.logsumexp(-1, keepdim=True)
        logits = every[..., model.ids.last_columns(depth)].gather(-1, codes)
    else:
        logits = model.level_logits(states, depth).float().gather(-1, codes).masked_fill_(children < 0, -torch.inf)
        normaliser = logits.logsumexp(-1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)  # of no children
    return (logits - normaliser).masked_fill_(children < 0, -torch.inf), children, codes


class Excluded(NamedTuple):
    """The prefixes of one length that lead to no candidate of a history: all of their IDs are excluded."""

    rows: Int[Tensor, " e"]  # the history's
    nodes: Int[Tensor, " e"]
    parents: Int[Tensor, " e"]

    def masked(
        self, log_probs: Float[Tensor, "b w c"], nodes: Int[Tensor, "b w"], children: Int[Tensor, "b w c"]
    ) -> Float[Tensor, "b w c"]:
        """Return `log_probs` of the `children` of `nodes`, -inf for these."""
        which, beam = (nodes[self.rows] == self.parents[:, None]).nonzero(as_tuple=True)
        rows = self.rows[which]
        same, child = (children[rows, beam] == self.nodes[which, None]).nonzero(as_tuple=True)
        return log_probs.index_put((rows[same], beam[same], child), log_probs.new_tensor(-torch.inf))


def excluded_nodes(tree: PrefixTree, rows: Int[Tensor, " e"], leaves: Int[Tensor, " e"]) -> list[Excluded]:
    """Return what is excluded with the IDs `leaves` of the histories `rows`, by length of the prefix from 1 on.

    Work and memory depend on the number of excluded IDs, and not on the catalogue.
    """
    key = (rows.long() * tree.leaves + leaves.long()).unique()
    row, node = key // tree.leaves, key % tree.leaves
    parent = tree.parents(tree.levels - 1, node)
    result = [Excluded(row, node, parent)]
    for depth in range(tree.levels - 1, 0, -1):
        node = parent
        (prefix_row, prefix), count = torch.stack([row, node]).unique_consecutive(dim=1, return_counts=True)
        whole = count == tree.ids[depth][prefix]
        result.append(Excluded(prefix_row[whole], prefix[whole], tree.parents(depth - 1, prefix[whole])))
        parent = tree.parents(depth - 1, node)
    return result[::-1]


class Beams(NamedTuple):
    """The most probable IDs of each history that beam search met, best first."""

    leaves: Int[Tensor, "b w"]  # of the tree; -1 where there were fewer
    log_probs: Float[Tensor, "b w"]  # -inf where there were fewer


@torch.no_grad()
def beam_search(
    model: IdModel,
    tree: PrefixTree,
    first_tokens: Int[Tensor, " l"],
    tokens: Int[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    width: int,
    excluded: Sequence[Excluded] | None = None,
    by: Normalise = "children",
) -> Beams:
    """Return the IDs that a beam of `width` prefixes a level ends with.

    Scores are sums of log-probabilities. Only codes with which an ID goes on can be chosen. By `children`, prefixes
    of one ID alone are not put through the model: what is left of them has the probability 1.

    Args:
        model: in eval mode.
        tree: of the valid IDs, on the model's device.
        first_tokens: token of code 0 at each level.
        tokens: histories as ID tokens, padded on the right.
        lengths: of the histories, in tokens.
        width: prefixes kept at each level.
        excluded: what is no candidate for a history, from `excluded_nodes`. A list is shorter than `width` only where
            fewer IDs are left.
        by: as in `next_log_probs`.
    """
    prompt = model.read(tokens, lengths, room=width * (tree.levels - 1))
    rows = len(tokens)
    nodes = torch.zeros(rows, 1, dtype=torch.int32, device=tokens.device)
    scores = torch.zeros(rows, 1, device=tokens.device)
    states = prompt.state[:, None]
    visible = torch.zeros(rows, 1, 0, dtype=torch.bool, device=tokens.device)
    decided, decided_scores = nodes[:, :0], scores[:, :0]  # prefixes of one ID alone
    for level in range(tree.levels):
        log_probs, children, codes = _child_log_probs(model, tree, states, level, nodes, by)
        if excluded is not None:  # of what is decided none is excluded: it was reached
            log_probs = excluded[level].masked(log_probs, nodes, children)
        total = torch.cat([(scores[..., None] + log_probs).flatten(1), decided_scores], dim=1)
        child = torch.cat([children.flatten(1), tree.first_child(level, decided)], dim=1)
        reached_scores, best = total.topk(min(width, total.shape[1]), dim=1)
        reached = child.gather(1, best).masked_fill_(reached_scores == -torch.inf, -1)
        if level == tree.levels - 1:
            return Beams(reached, reached_scores)
        goes_on = reached >= 0
        if by == "children":  # what is left of a decided ID has the probability 1, so that it needs no position
            goes_on = tree.branches(level + 1, reached)
            decided = reached.masked_fill(goes_on, -1)
            decided_scores = reached_scores.masked_fill(goes_on, -torch.inf)
        # the others come first, as many columns as the row with most of them has
        column = goes_on.byte().argsort(dim=1, descending=True, stable=True)[:, : int(goes_on.sum(1).max())]
        nodes = reached.masked_fill(~goes_on, -1).gather(1, column)
        scores = reached_scores.masked_fill(~goes_on, -torch.inf).gather(1, column)
        if not nodes.shape[1]:
            states = states[:, :0]
            continue
        best = best.gather(1, column).clamp_(max=codes.flatten(1).shape[1] - 1)  # what does not go on: any code
        parents, code = best // children.shape[-1], codes.flatten(1).gather(1, best)
        before = visible.gather(1, parents[..., None].expand(-1, -1, visible.shape[2]))
        itself = torch.eye(nodes.shape[1], dtype=torch.bool, device=tokens.device).expand(rows, -1, -1)
        visible = torch.cat([before, itself], dim=2)
        depths = torch.full((nodes.shape[1],), level, device=tokens.device)
        states = model.extend(prompt, code + first_tokens[level], depths, visible, keep=True)
    raise AssertionError("an ID has one level at least")


class _Chunk(NamedTuple):
    """Some inner nodes of the tree, all ancestors included, laid out as positions."""

    tokens: Int[Tensor, " p"]
    depths: Int[Tensor, " p"]
    visible: Bool[Tensor, "p p"]
    nodes: tuple[Int[Tensor, " c"], ...]  # of each depth from 1 on, those that are positions, ascending
    starts: tuple[int, ...]  # position of the first of them
    leaves: slice


@torch.no_grad()
def exact_log_probs(
    model: IdModel,
    tree: PrefixTree,
    first_tokens: Int[Tensor, " l"],
    tokens: Int[Tensor, "b t"],
    lengths: Int[Tensor, " b"],
    positions: int = 192,
    by: Normalise = "children",
) -> Float[Tensor, "b leaves"]:
    """Return the log-probability of every ID of the tree for each history.

    The tree is walked in chunks of about `positions` inner nodes, each laid out behind the history at once. By
    `children`, the only child of a node has the probability 1, so that what hangs on one chain needs no position. The
    other arguments are as in `beam_search`.
    """
    prompt = model.read(tokens, lengths)
    root = torch.zeros(1, dtype=torch.int32, device=tokens.device)
    first, _ = next_log_probs(model, tree, prompt.state[:, None], 0, root, by)
    result = torch.empty(len(tokens), tree.leaves, device=tokens.device)
    inner = tree.ids[1:]
    needed = [below > 1 if by == "children" else torch.ones_like(below, dtype=torch.bool) for below in inner]
    for chunk in _chunks(tree, needed, first_tokens, positions):
        states = prompt.state[:, None][:, :0]
        if len(chunk.tokens):
            visible = chunk.visible.expand(len(tokens), -1, -1)
            states = model.extend(prompt, chunk.tokens.expand(len(tokens), -1), chunk.depths, visible, keep=False)
        scores = first[:, 0, tree.codes[0][_range_at(tree, 1, chunk.leaves)].long()]
        for depth in range(1, tree.levels):
            nodes, start = chunk.nodes[depth - 1], chunk.starts[depth - 1]
            children = _range_at(tree, depth + 1, chunk.leaves)
            parent = tree.parents(depth, _nodes_of(children, tree))
            scores = scores[:, parent - _range_at(tree, depth, chunk.leaves).start]
            if len(nodes):
                block, _ = next_log_probs(model, tree, states[:, start : start + len(nodes)], depth, nodes, by)
                place = torch.searchsorted(nodes, parent.to(nodes.dtype)).clamp(max=len(nodes) - 1)
                added = block[:, place, tree.codes[depth][children].long()]
                scores = scores + torch.where(nodes[place] == parent, added, 0.0)
        result[:, chunk.leaves] = scores
    return result


def _range_at(tree: PrefixTree, depth: int, leaves: slice) -> slice:
    """Return the nodes of `depth` that lie above `leaves`."""
    start, last = leaves.start, leaves.stop - 1
    for level in range(tree.levels - 1, depth - 1, -1):
        start, last = tree.parents(level, torch.tensor([start, last], device=tree.leaf_starts.device)).tolist()
    return slice(start, last + 1)


def _nodes_of(numbers: slice, tree: PrefixTree) -> Int[Tensor, " c"]:
    """Return consecutive nodes as a tensor on the tree's device."""
    return torch.arange(numbers.start, numbers.stop, device=tree.leaf_starts.device)


def _chunks(tree: PrefixTree, needed: list[Tensor], first_tokens: Tensor, positions: int) -> Iterator[_Chunk]:
    """Cut the leaves into runs whose needed inner nodes are at most `positions`, or one leaf's."""
    zero = torch.zeros(1, dtype=torch.int64, device=first_tokens.device)
    before = [torch.cat([zero, of_depth.long().cumsum(0)]) for of_depth in needed]  # how many of the nodes before

    def count(leaves: slice) -> int:
        ranges = [_range_at(tree, depth, leaves) for depth in range(1, tree.levels)]
        return sum(int(sums[nodes.stop] - sums[nodes.start]) for sums, nodes in zip(before, ranges, strict=True))

    start = 0
    while start < tree.leaves:
        low, high = start + 1, tree.leaves  # the largest stop that fits; one leaf always does
        while low < high:
            middle = (low + high + 1) // 2
            if count(slice(start, middle)) <= positions:
                low = middle
            else:
                high = middle - 1
        yield _lay_out(tree, needed, first_tokens, slice(start, low))
        start = low


def _lay_out(tree: PrefixTree, needed: list[Tensor], first_tokens: Tensor, leaves: slice) -> _Chunk:
    device = first_tokens.device
    nodes: list[Tensor] = []
    starts, parents = [0], []
    for depth in range(1, tree.levels):
        whole = _range_at(tree, depth, leaves)
        nodes.append(torch.nonzero(needed[depth - 1][whole])[:, 0] + whole.start)
        if depth > 1:  # an ancestor of a needed node is needed
            parents.append(torch.searchsorted(nodes[-2], tree.parents(depth - 1, nodes[-1])) + starts[-2])
        starts.append(starts[-1] + len(nodes[-1]))
    visible = torch.eye(starts[-1], dtype=torch.bool, device=device)
    for start, of_depth in zip(starts[1:-1], parents, strict=True):
        rows = torch.arange(start, start + len(of_depth), device=device)
        visible[rows] |= visible[of_depth]  # a node sees what its parent sees, and itself
    levels = range(tree.levels - 1)
    tokens = [tree.codes[level][nodes[level]].long() + first_tokens[level] for level in levels]
    depths = [torch.full_like(nodes[level], level) for level in levels]
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    return _Chunk(
        torch.cat([empty, *tokens]), torch.cat([empty, *depths]), visible, tuple(nodes), tuple(starts[:-1]), leaves
    )
