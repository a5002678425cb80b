"""The prefix tree of all valid IDs as flat arrays.

A node is a prefix. The nodes of a level are numbered in the order of their prefixes, so that the children of a node are
consecutive: those of `node` at depth d are `starts[d][node]` to `starts[d][node + 1]` among the nodes of depth d + 1.
Where nodes times codes is small enough, a table gives the child of a node by its code at once; below that, children are
looked up in their range. The leaves are the distinct IDs in order; several items may share one.

Source: the idea of flat arrays, dense above and compressed below, is that of STATIC (arXiv 2602.22647).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, Int64


DENSE_ENTRIES = 1 << 24  # entries of a level's child table at most: 64 MB as int32


@dataclass(frozen=True)
class PrefixTree:
    """The tree on one device. Depth 0 has one node, the empty prefix."""

    sizes: tuple[int, ...]  # codes of each level
    starts: tuple[Int[Tensor, " nodes_plus_1"], ...]  # by depth: where a node's children start
    codes: tuple[Int[Tensor, " nodes"], ...]  # by depth, from depth 1 on: the last code of each node
    children: tuple[Int[Tensor, "nodes k"] | None, ...]  # by depth: child by code, -1 where there is none
    widest: tuple[int, ...]  # by depth: children of a node at most
    ids: tuple[Int[Tensor, " nodes"], ...]  # by depth: how many IDs go on from a node
    leaf_starts: Int[Tensor, " leaves_plus_1"]  # where a leaf's items start in `leaf_items`
    leaf_items: Int[Tensor, " m"]  # items by leaf, ascending within one

    @property
    def levels(self) -> int:
        """Codes in an ID."""
        return len(self.sizes)

    @property
    def leaves(self) -> int:
        """Number of distinct IDs."""
        return len(self.leaf_starts) - 1

    @property
    def bytes(self) -> int:
        """Memory of all arrays."""
        tables = [table for table in self.children if table is not None]
        arrays = [*self.starts, *self.codes, *self.ids, *tables]
        return sum(array.nbytes for array in (*arrays, self.leaf_starts, self.leaf_items))

    def to(self, device: torch.device) -> PrefixTree:
        """Return the tree on `device`."""
        return PrefixTree(
            self.sizes,
            tuple(array.to(device) for array in self.starts),
            tuple(array.to(device) for array in self.codes),
            tuple(None if table is None else table.to(device) for table in self.children),
            self.widest,
            tuple(array.to(device) for array in self.ids),
            self.leaf_starts.to(device),
            self.leaf_items.to(device),
        )

    def child_by_code(self, depth: int, nodes: Int[Tensor, "*b"]) -> Int[Tensor, "*b k"]:
        """Return the child of each node for every code, -1 where the tree has none.

        Args:
            depth: of the nodes.
            nodes: their numbers; -1 has no children.
        """
        table = self.children[depth]
        real = nodes.clamp(min=0)
        if table is not None:
            found = table[real]
            return torch.where((nodes >= 0)[..., None], found, -1)
        first = self.starts[depth][real]
        count = torch.where(nodes >= 0, self.starts[depth][real + 1] - first, 0)
        offset = torch.arange(self.widest[depth], device=nodes.device)
        child = first[..., None] + offset
        valid = offset < count[..., None]
        code = self.codes[depth][torch.where(valid, child, 0).long()]
        size = self.sizes[depth]
        spread = torch.full((*nodes.shape, size + 1), -1, dtype=torch.int32, device=nodes.device)
        column = torch.where(valid, code.long(), size)  # what is no child goes to a column that is cut off
        return spread.scatter_(-1, column, child.to(torch.int32))[..., :size]

    def children_of(self, depth: int, nodes: Int[Tensor, "*b"]) -> tuple[Int[Tensor, "*b c"], Int64[Tensor, "*b c"]]:
        """Return number and code of the children of each node, ascending; the number is -1 where there is none.

        Where a node has most of the codes as children, all codes are returned.

        Args:
            depth: of the nodes.
            nodes: their numbers; -1 has no children.
        """
        if self.children[depth] is not None and 2 * self.widest[depth] >= self.sizes[depth]:
            child = self.child_by_code(depth, nodes)
            return child, torch.arange(self.sizes[depth], device=nodes.device).expand(child.shape)
        real = nodes.clamp(min=0)
        first = self.starts[depth][real]
        end = torch.where(nodes >= 0, self.starts[depth][real + 1], 0)
        child = first[..., None] + torch.arange(self.widest[depth], dtype=first.dtype, device=nodes.device)
        valid = child < end[..., None]
        codes = self.codes[depth][child.clamp(max=len(self.codes[depth]) - 1)]
        return child.masked_fill_(~valid, -1), codes.long()

    def first_child(self, depth: int, nodes: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """Return the first child of each node of `depth`, the only one of a node that does not branch; -1 of -1."""
        return torch.where(nodes >= 0, self.starts[depth][nodes.clamp(min=0)], -1)

    def branches(self, depth: int, nodes: Int[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Return whether several IDs go on from each node of `depth`; none do from -1."""
        return (self.ids[depth][nodes.clamp(min=0)] > 1) & (nodes >= 0)

    def parents(self, depth: int, children: Int[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
        """Return the node of `depth` above each node of the next depth."""
        bounds = self.starts[depth]
        return torch.searchsorted(bounds, children.to(bounds.dtype), right=True) - 1

    def prefix_nodes(self, codes: Int[Tensor, "n l"]) -> Int[Tensor, "n l"]:
        """Return the node of every prefix of IDs of the tree, the empty one first, the whole ID left out.

        Args:
            codes: of the IDs; a row of -1 gives -1.
        """
        node = torch.where(codes[:, 0] >= 0, 0, -1).to(torch.int32)
        nodes = [node]
        for level in range(self.levels - 1):
            child = self.child_by_code(level, node)
            node = child.gather(1, codes[:, level : level + 1].clamp(min=0).long())[:, 0]
            nodes.append(node)
        return torch.stack(nodes, dim=1)


def build_tree(codes: Int64[np.ndarray, "n l"], sizes: tuple[int, ...], items: np.ndarray | None = None) -> PrefixTree:
    """Return the tree of the IDs `codes`.

    Args:
        codes: of the items, each row an ID; rows with -1 are left out.
        sizes: codes of each level.
        items: number of each row's item, by default the row's.
    """
    item = np.arange(len(codes)) if items is None else np.asarray(items)
    present = (codes >= 0).all(axis=1)
    codes, item = codes[present], item[present]
    order = np.lexsort((item, *codes.T[::-1]))
    codes, item = codes[order], item[order]
    starts, node_codes, children, widest, paths = [], [], [], [], []
    parent = np.zeros(len(codes), dtype=np.int64)  # of each row at the current depth
    count = 1
    for level, size in enumerate(sizes):
        paths.append(parent)
        new = np.ones(len(codes), dtype=bool)
        new[1:] = (parent[1:] != parent[:-1]) | (codes[1:, level] != codes[:-1, level])
        first_rows = np.flatnonzero(new)
        child_parent, child_code = parent[first_rows], codes[first_rows, level]
        child_counts = np.bincount(child_parent, minlength=count)
        starts.append(torch.from_numpy(np.concatenate([[0], np.cumsum(child_counts)]).astype(np.int32)))
        node_codes.append(torch.from_numpy(child_code.astype(np.int32)))
        widest.append(int(child_counts.max(initial=0)))
        table = None
        if count * size <= DENSE_ENTRIES:
            flat = np.full(count * size, -1, dtype=np.int32)
            flat[child_parent * size + child_code] = np.arange(len(first_rows))
            table = torch.from_numpy(flat.reshape(count, size))
        children.append(table)
        parent = np.cumsum(new) - 1
        count = len(first_rows)
    last_rows = np.flatnonzero(np.diff(parent, append=count))  # one of each ID
    ids = [np.bincount(path[last_rows], minlength=len(ends) - 1) for path, ends in zip(paths, starts, strict=True)]
    leaf_counts = np.bincount(parent, minlength=count) if len(codes) else np.zeros(0, dtype=np.int64)
    return PrefixTree(
        sizes=tuple(sizes),
        starts=tuple(starts),
        codes=tuple(node_codes),
        children=tuple(children),
        widest=tuple(widest),
        ids=tuple(torch.from_numpy(below.astype(np.int32)) for below in ids),
        leaf_starts=torch.from_numpy(np.concatenate([[0], np.cumsum(leaf_counts)]).astype(np.int64)),
        leaf_items=torch.from_numpy(item.astype(np.int64)),
    )
