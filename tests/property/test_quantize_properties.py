import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.assign import (
    KeyedVectors,
    assign_ids,
    assign_ids_beside_frozen,
    collision_suffixes,
)
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.equal_rows import group_rows
from sidflow.semantic_ids.residual_pass import scale_distances, sinkhorn_plan


def codec(seed, d=4, counts=(5, 4, 3), width=3):
    """A quantizer with random codebooks and one linear layer with a skip."""
    rng = np.random.default_rng(seed)
    padded = np.zeros((len(counts), max(counts), width), dtype=np.float32)
    for level, count in enumerate(counts):
        padded[level, :count] = rng.normal(size=(count, width)) / 2**level
    arrays = {
        "codebooks.m": padded,
        "mean.m": rng.normal(size=d).astype(np.float32),
        "scale.m": np.array([1.5], dtype=np.float32),
        "encoder.m.0.weight": rng.normal(size=(width, d)).astype(np.float32),
        "encoder.m.0.bias": rng.normal(size=width).astype(np.float32),
        "encoder.m.skip.weight": rng.normal(size=(width, d)).astype(np.float32),
    }
    return Codec(Tensors(arrays, {"modalities": {"m": {"codes": list(counts)}}, "order": ["m"]}), "m")


def rows(seed, n, d=4, copies=False):
    found = np.random.default_rng(seed + 1000).normal(size=(n, d)).astype(np.float32)
    if copies:
        found[n // 2 :] = found[: n - n // 2]
    return found


SIZES = (st.integers(0, 200), st.integers(1, 60))


@settings(max_examples=40)
@given(*SIZES)
def test_codes_are_greedily_nearest_and_vectors_add_up(seed, n):
    one = codec(seed)
    z = one.encode(rows(seed, n))
    codes = one.quantize(z)
    residual = z.copy()
    for level, codebook in enumerate(one.codebooks):
        distances = np.square(residual[:, None, :] - codebook[None, :, :]).sum(2)
        own = distances[np.arange(n), codes[:, level]]
        assert (own <= distances.min(1) + 1e-9).all()
        residual -= codebook[codes[:, level]]
    assert np.allclose(one.dequantize(codes) + residual, z)


@settings(max_examples=40)
@given(*SIZES, st.booleans(), st.booleans())
def test_ids_are_injective_and_suffixes_dense(seed, n, copies, reassign):
    values = rows(seed, n, copies=copies)
    present = np.random.default_rng(seed).random(n) < 0.8
    found = assign_ids(codec(seed), values, present, reassign=reassign)
    full = np.column_stack([found.codes, found.suffix])
    assert len(full) == present.sum() == len(np.unique(full, axis=0))
    groups = group_rows(found.codes)
    for label, size in enumerate(groups.size):
        assert found.suffix[groups.label == label].tolist() == list(range(size))  # in item order
    assert (found.codes >= 0).all() and (found.codes < [5, 4, 3]).all()


@settings(max_examples=40)
@given(*SIZES)
def test_permuting_items_permutes_codes(seed, n):
    values, order = rows(seed, n), np.random.default_rng(seed).permutation(n)
    everyone = np.ones(n, dtype=bool)
    found, moved = assign_ids(codec(seed), values, everyone), assign_ids(codec(seed), values[order], everyone)
    assert (found.codes[order] == moved.codes).all()


@settings(max_examples=40)
@given(*SIZES)
def test_reassignment_only_helps(seed, n):
    one, values = codec(seed), rows(seed, n, copies=True)
    everyone = np.ones(n, dtype=bool)
    plain, moved = assign_ids(one, values, everyone), assign_ids(one, values, everyone, reassign=True)
    assert (plain.codes == plain.nearest).all() and (moved.nearest == plain.nearest).all()
    assert (moved.codes[:, :-1] == plain.codes[:, :-1]).all()
    assert len(group_rows(moved.codes).size) >= len(group_rows(plain.codes).size)
    alone = group_rows(plain.codes)
    kept = alone.size[alone.label] == 1
    assert (moved.codes[kept] == plain.codes[kept]).all()
    inputs = group_rows(values)
    for label in range(len(inputs.size)):  # copies stay together: nothing tells them apart but the suffix
        assert len(np.unique(moved.codes[inputs.label == label], axis=0)) == 1


@settings(max_examples=40)
@given(*SIZES, st.integers(0, 60))
def test_new_items_leave_frozen_ids_as_they_are(seed, n, frozen_count):
    one, values = codec(seed), rows(seed, n, copies=True)
    keys = [f"key {i}" for i in range(n)]
    everyone = np.ones(n, dtype=bool)
    frozen_rows = np.random.default_rng(seed).permutation(n)[: min(frozen_count, n)]
    first = assign_ids(one, values[frozen_rows], everyone[: len(frozen_rows)])
    frozen = pl.DataFrame(
        {"item_key": [keys[i] for i in frozen_rows], "codes": first.codes, "suffix": first.suffix},
        schema_overrides={"item_key": pl.String, "codes": pl.Array(pl.Int32, 3)},
    )
    found = assign_ids_beside_frozen(one, KeyedVectors(keys, values, everyone), frozen)
    assert found["item_key"].to_list() == keys
    assert found["new"].sum() == n - len(frozen_rows)
    again = frozen.join(found, on="item_key")
    assert (again["codes"].to_list(), again["suffix"].to_list()) == (
        again["codes_right"].to_list(),
        again["suffix_right"].to_list(),
    )
    full = {(*codes, suffix) for codes, suffix in found.select("codes", "suffix").iter_rows()}
    assert len(full) == n
    assert [list(codes) for codes in found["codes"]] == one.quantize(one.encode(values)).tolist()


@settings(max_examples=40)
@given(st.integers(0, 200), st.integers(1, 20), st.integers(1, 12), st.floats(0.05, 5))
def test_sinkhorns_marginals(seed, b, k, epsilon):
    costs = scale_distances(np.random.default_rng(seed).random((b, k)))
    kernel = np.exp((costs.min(1, keepdims=True) - costs) / epsilon)
    plan = sinkhorn_plan(kernel, 3000)
    assert plan.sum(1) == pytest.approx(np.ones(b))
    assert plan.sum(0) == pytest.approx(np.full(k, b / k), rel=1e-3)  # at worst they near it as 1 / iterations
    assert np.allclose(sinkhorn_plan(torch.from_numpy(kernel), 3000).numpy(), plan)


def test_equally_near_codes_take_the_lowest():
    one = codec(0)
    one.codebooks[0][:] = one.codebooks[0][2]
    assert (one.quantize(one.encode(rows(0, 9)))[:, 0] == 0).all()


def test_suffixes_count_on():
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 2]])
    assert collision_suffixes(codes).tolist() == [0, 0, 1, 2]
    assert collision_suffixes(codes, {(1, 2): 5}).tolist() == [5, 0, 6, 7]
