"""The tree against brute force, with child tables and without."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.generative.cases import node_prefixes

from sidflow.generative import tree as module
from sidflow.generative.tree import build_tree

ids_of = st.integers(1, 4).flatmap(
    lambda levels: st.tuples(
        st.lists(st.lists(st.integers(0, 3), min_size=levels, max_size=levels), min_size=1, max_size=30),
        st.booleans(),
    )
)


@settings(deadline=None, max_examples=80)
@given(ids_of)
def test_every_prefix_has_exactly_the_children_that_ids_have(drawn):
    rows, dense = drawn
    codes = np.array(rows, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSE_ENTRIES", 1 << 20 if dense else 0)
        tree = build_tree(codes, (4,) * codes.shape[1])
    assert all((table is not None) == dense for table in tree.children)
    prefixes = [{tuple(row[:depth]) for row in rows} for depth in range(codes.shape[1] + 1)]
    for depth in range(codes.shape[1]):
        numbered = [tuple(row) for row in node_prefixes(tree, depth).tolist()]
        below = [tuple(row) for row in node_prefixes(tree, depth + 1).tolist()]
        assert numbered == sorted(prefixes[depth])
        child = tree.child_by_code(depth, torch.arange(len(numbered), dtype=torch.int32))
        for node, prefix in enumerate(numbered):
            expected = [
                below.index((*prefix, code)) if (*prefix, code) in prefixes[depth + 1] else -1 for code in range(4)
            ]
            assert child[node].tolist() == expected
        assert (tree.child_by_code(depth, torch.tensor([-1], dtype=torch.int32)) == -1).all()
        numbers, last_codes = tree.children_of(depth, torch.arange(len(numbered) + 1, dtype=torch.int32) - 1)
        assert (numbers[0] == -1).all()
        for prefix, of_node, code in zip(numbered, numbers[1:], last_codes[1:], strict=True):
            there = of_node >= 0
            assert [below[number] for number in of_node[there]] == [(*prefix, int(one)) for one in code[there]]
            assert int(there.sum()) == sum(one[:depth] == prefix for one in below)
    leaves = [tuple(row) for row in node_prefixes(tree, codes.shape[1]).tolist()]
    items = torch.tensor_split(tree.leaf_items, tree.leaf_starts[1:-1])
    assert [of_leaf.tolist() for of_leaf in items] == [
        [item for item, row in enumerate(rows) if tuple(row) == leaf] for leaf in leaves
    ]
    nodes = tree.prefix_nodes(torch.from_numpy(codes))
    for item, row in enumerate(rows):
        for depth in range(codes.shape[1]):
            assert tuple(node_prefixes(tree, depth)[nodes[item, depth]].tolist()) == tuple(row[:depth])


def test_items_without_an_id_are_in_no_leaf():
    codes = np.array([[0, 1], [-1, -1], [2, 0]])
    tree = build_tree(codes, (3, 2))
    assert tree.leaf_items.tolist() == [0, 2]
    assert tree.prefix_nodes(torch.from_numpy(codes)).tolist()[1] == [-1, -1]


def test_rows_may_be_of_other_items():
    tree = build_tree(np.array([[1], [0], [1]]), (2,), items=np.array([7, 5, 6]))
    items = torch.tensor_split(tree.leaf_items, tree.leaf_starts[1:-1])
    assert [of_leaf.tolist() for of_leaf in items] == [[5], [6, 7]]


def test_a_tree_of_one_item_and_levels_of_one_code():
    tree = build_tree(np.zeros((1, 3), dtype=np.int64), (1, 1, 1))
    assert (tree.leaves, tree.widest) == (1, (1, 1, 1))


def test_memory_of_levels_below_is_that_of_their_nodes(monkeypatch):
    codes = np.random.default_rng(0).integers(256, size=(2000, 4))
    dense = build_tree(codes, (256,) * 4)
    monkeypatch.setattr(module, "DENSE_ENTRIES", 256)
    sparse = build_tree(codes, (256,) * 4)
    assert [table is not None for table in sparse.children] == [True, False, False, False]
    assert sparse.bytes < dense.bytes / 20
