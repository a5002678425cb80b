from itertools import pairwise

import numpy as np
import pytest
import torch

from sidflow.semantic_ids.residual_pass import residual_levels, scale_distances, sinkhorn_plan


def rows_and_codebooks(n=20, d=3, counts=(5, 4, 3)):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), [rng.normal(size=(count, d)) / 2**level for level, count in enumerate(counts)]


def nearest_in(codebooks):
    def choose(level, residual):
        return ((residual[:, None, :] - codebooks[level][None, :, :]) ** 2).sum(2).argmin(1)

    return choose


def test_numpy_and_torch_give_the_same_levels():
    z, codebooks = rows_and_codebooks()
    tensors = [torch.from_numpy(codebook) for codebook in codebooks]
    pairs = list(
        zip(
            residual_levels(z, codebooks, nearest_in(codebooks)),
            residual_levels(torch.from_numpy(z), tensors, nearest_in(tensors)),
            strict=True,
        )
    )
    assert [ours.index for ours, _ in pairs] == [0, 1, 2]
    for ours, theirs in pairs:
        assert np.array_equal(ours.codes, theirs.codes.numpy())
        np.testing.assert_array_equal(ours.remainder, theirs.remainder.numpy())


def test_residuals_add_up_to_the_rows():
    z, codebooks = rows_and_codebooks()
    levels = list(residual_levels(z, codebooks, nearest_in(codebooks)))
    np.testing.assert_allclose(sum(level.quantized for level in levels) + levels[-1].remainder, z)
    for level, following in pairwise(levels):
        np.testing.assert_array_equal(following.residual, level.residual - codebooks[level.index][level.codes])


def test_the_loop_may_replace_what_a_level_takes_from_the_residual():
    z, codebooks = rows_and_codebooks()
    levels = []
    for level in residual_levels(z, codebooks, nearest_in(codebooks)):
        level.quantized = np.zeros_like(z)
        levels.append(level)
    assert all(level.residual is z or np.array_equal(level.residual, z) for level in levels)


def test_a_codebook_may_be_fitted_while_its_codes_are_chosen():
    z, codebooks = rows_and_codebooks(counts=(1, 1))

    def fit_mean(level, residual):
        codebooks[level][:] = residual.mean(0)
        return np.zeros(len(residual), dtype=int)

    first, second = residual_levels(z, codebooks, fit_mean)
    np.testing.assert_allclose(first.remainder.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(second.quantized, 0, atol=1e-12)


@pytest.mark.parametrize("rows", [0, 3])
def test_without_codebooks_there_are_no_levels(rows):
    assert list(residual_levels(np.zeros((rows, 2)), [], nearest_in([]))) == []


def test_distances_are_scaled_to_one_around_the_middle_of_their_range():
    found = scale_distances(np.array([[1.0, 5.0], [2.0, 3.0]]))
    assert found.tolist() == [[-1.0, 1.0], [-0.5, 0.0]]
    assert scale_distances(torch.tensor([[1.0, 5.0], [2.0, 3.0]])).tolist() == found.tolist()
    assert scale_distances(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_one_round_of_scaling_by_hand():
    """Columns are brought to 2 rows / 2 codes each, then rows to 1."""
    kernel = np.array([[1.0, 0.5], [1.0, 0.25]])
    columns = np.array([[1 / 2, 2 / 3], [1 / 2, 1 / 3]])
    expected = columns / columns.sum(1, keepdims=True)
    np.testing.assert_allclose(sinkhorn_plan(kernel, 1), expected, rtol=1e-12)
    wide = np.array([[1.0, 0.5, 0.25], [1.0, 0.25, 0.125]])
    columns = wide / wide.sum(0) * (2 / 3)
    np.testing.assert_allclose(sinkhorn_plan(wide, 1), columns / columns.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(sinkhorn_plan(wide, 500).sum(0), [2 / 3] * 3, rtol=1e-9)
