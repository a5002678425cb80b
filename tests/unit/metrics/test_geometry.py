import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import kendalltau

from sidflow.metrics import geometry
from sidflow.metrics.geometry import (
    nearest_neighbours,
    neighbour_recall,
    shared_neighbours,
    sparse_nearest_neighbours,
    tau_over_histories,
    tau_over_triples,
    unit_rows,
)


def test_rows_are_of_length_one_or_absent():
    rows = unit_rows(np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), np.array([True, False, True]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]])
    assert rows.dtype == np.float32


def test_without_a_mask_all_rows_are_kept():
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    np.testing.assert_allclose((unit_rows(rows) ** 2).sum(1), 1, rtol=1e-6)


def test_sparse_rows_are_scaled_as_dense_ones_are():
    rows = np.round(np.random.default_rng(0).normal(size=(9, 5)))
    rows[4] = 0
    present = np.arange(9) != 2
    for mask in (None, present):
        found = unit_rows(csr_matrix(rows), mask)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.toarray(), unit_rows(rows, mask), rtol=1e-6)


def test_nearest_equals_brute_force():
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    distances = ((values[:, None].astype(float) - values[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(nearest_neighbours(values, 5), np.argsort(distances, axis=1)[:, :5])


@pytest.mark.parametrize("block", [1, 4, 1024])
def test_neighbours_of_sparse_rows_equal_brute_force(block):
    """Rows 3 and 8 are the same, row 5 is empty, row 7 alone uses the last dimension: -1 where nothing more is near."""
    draw = np.random.default_rng(0)
    values = draw.uniform(0.1, 1, size=(11, 7)) * (draw.random((11, 7)) < 0.4)
    values[:, -1] = 0
    values[5], values[7], values[8] = 0, np.eye(7)[-1], values[3]
    lengths = np.linalg.norm(values, axis=1)
    expected = []
    for row in range(11):
        cosines = [values[row] @ values[other] / max(lengths[row] * lengths[other], 1e-9) for other in range(11)]
        near = [other for other in range(11) if other != row and cosines[other] > 0]
        near.sort(key=lambda other: (-round(cosines[other], 5), other))
        expected.append([*near, *[-1] * 11][:6])
    found = sparse_nearest_neighbours(csr_matrix(values), 6, block)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert expected[5] == expected[7] == [-1] * 6 and 0 < sum(one[-1] >= 0 for one in expected) < 9
    assert sparse_nearest_neighbours(csr_matrix(values), 6).tolist() == expected


def test_cosine_does_not_see_lengths():
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    scaled = values * np.random.default_rng(1).uniform(0.5, 20, size=(30, 1)).astype(np.float32)
    np.testing.assert_array_equal(nearest_neighbours(values, 4, "cosine"), nearest_neighbours(scaled, 4, "cosine"))
    assert neighbour_recall(values, scaled, 4) < 1


def test_an_item_is_never_its_own_neighbour_even_among_duplicates():
    values = np.ones((9, 3), dtype=np.float32)
    found = nearest_neighbours(values, 3)
    assert found.shape == (9, 3)
    assert not (found == np.arange(9)[:, None]).any()


def test_kept_is_one_for_itself_and_k_over_n_for_noise():
    values = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32)
    assert neighbour_recall(values, values, 10) == 1
    assert neighbour_recall(values, noise, 10) == pytest.approx(10 / 399, abs=0.01)


def test_of_few_items_all_others_are_neighbours_and_one_has_none():
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert neighbour_recall(values, values[::-1], 5) == 1
    assert np.isnan(neighbour_recall(values[:1], values[:1], 5))


def test_shared_neighbours_are_counted_row_by_row_and_absent_ones_are_not():
    first, second = np.array([[1, 2], [0, -1], [1, 0]]), np.array([[2, -1], [2, -1], [0, 1]])
    assert shared_neighbours(first, second) == 3 / 6


def test_a_k_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="1 to 3"):
        nearest_neighbours(np.eye(4, dtype=np.float32), 4)


def _space(n: int = 40, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_the_same_space_has_tau_one_and_a_rotation_changes_nothing():
    space = _space()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    histories = [np.arange(10), np.array([4, 9, 30, 31])]
    for changed in (space, 3 * space, (space.astype(np.float64) @ rotation)):
        found = tau_over_histories(space, changed, histories, np.array([20, 5]))
        assert found.value == pytest.approx(1.0)
        assert (found.references, found.pairs) == (2, 45 + 6)


def test_equals_scipy_on_each_query():
    space, changed = _space(seed=2), _space(seed=3)
    history, target = np.arange(12), 20
    before = np.linalg.norm(space[history] - space[target], axis=1)
    after = np.linalg.norm(changed[history] - changed[target], axis=1)
    expected = kendalltau(before, after).statistic
    assert tau_over_histories(space, changed, [history], np.array([target])).value == pytest.approx(expected)


def test_a_collapsed_space_has_tau_zero_and_a_reversed_line_minus_one():
    line = np.arange(8, dtype=np.float32)[:, None]
    folded = np.array([0, 7, 6, 5, 4, 3, 2, 1], dtype=np.float32)[:, None]
    histories, targets = [np.arange(1, 8)], np.array([0])
    assert tau_over_histories(line, np.zeros_like(line), histories, targets).value == 0
    assert tau_over_histories(line, folded, histories, targets).value == -1
    assert tau_over_triples(line, np.zeros_like(line), np.random.default_rng(0)).value == 0


def test_absent_items_repeats_and_the_target_itself_are_left_out():
    space = _space()
    present = np.ones(40, dtype=bool)
    present[[3, 7]] = False
    found = tau_over_histories(
        space, space, [np.array([1, 1, 2, 3, 9]), np.array([1, 2, 3]), np.array([5])], np.array([9, 7, 2]), present
    )
    assert (found.references, found.pairs) == (1, 1)


def test_no_pair_is_nan_not_a_number_that_looks_real():
    space = _space()
    assert np.isnan(tau_over_histories(space, space, [np.array([1])], np.array([2])).value)
    for items in (0, 2):
        without = tau_over_triples(space, space, np.random.default_rng(0), np.arange(40) < items)
        assert np.isnan(without.value) and without[1:] == (0, 0)
    without = tau_over_triples(space, space, np.random.default_rng(0), triples=0)
    assert np.isnan(without.value) and without[1:] == (0, 0)
    assert tau_over_triples(space, space, np.random.default_rng(0), np.arange(40) < 3).value == 1


def test_triples_agree_with_brute_force_over_all_of_them():
    space, changed = _space(15, 3, 4), _space(15, 3, 5) * 0.4 + _space(15, 3, 4)
    d0 = ((space[:, None] - space[None]) ** 2).sum(-1)
    d1 = ((changed[:, None] - changed[None]) ** 2).sum(-1)
    signs = [
        np.sign(d0[i, a] - d0[i, b]) * np.sign(d1[i, a] - d1[i, b])
        for i in range(15)
        for a in range(15)
        for b in range(15)
        if len({i, a, b}) == 3
    ]
    found = tau_over_triples(space, changed, np.random.default_rng(6), triples=60_000)
    assert found.value == pytest.approx(np.mean(signs), abs=0.02)
    assert found == tau_over_triples(space, changed, np.random.default_rng(6), triples=60_000)


@pytest.mark.parametrize("shape", [(80, 12), (12, 80), (20, 20)])
def test_singular_values_equal_numpys(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32) + 1
    expected = np.linalg.svd(values, compute_uv=False)
    np.testing.assert_allclose(geometry.singular_values(values), expected, atol=1e-4)


def test_blocks_of_rows_change_nothing(monkeypatch):
    values = np.random.default_rng(0).normal(size=(80, 12))
    whole = geometry.singular_values(values)
    monkeypatch.setattr(geometry, "_ROWS_PER_BLOCK", 7)
    np.testing.assert_allclose(geometry.singular_values(values), whole)


def test_an_orthogonal_table_uses_every_dimension():
    found = geometry.compute_spectrum(np.vstack([np.eye(8), -np.eye(8)]).astype(np.float32))
    assert found.effective_rank == pytest.approx(8)
    assert found.information_abundance == pytest.approx(8)
    assert found.alive_share == 1
    assert found.isotropy == pytest.approx(1)


def test_a_projection_from_few_dimensions_is_seen_to_have_collapsed():
    generator = np.random.default_rng(0)
    low = generator.normal(size=(500, 4)).astype(np.float32) @ generator.normal(size=(4, 64)).astype(np.float32)
    found = geometry.compute_spectrum(low)
    assert found.alive_share == 4 / 64
    assert 1 < found.effective_rank <= 4.01


def test_a_cone_is_not_isotropic():
    generator = np.random.default_rng(0)
    round_ = generator.normal(size=(2_000, 16))
    assert geometry.isotropy(round_) > 0.8
    assert geometry.isotropy(round_ + 5) < 0.2
    assert geometry.mean_cosine(round_) == pytest.approx(0, abs=0.01)
    assert geometry.mean_cosine(round_ + 5) > 0.9


def test_mean_cosine_equals_the_double_loop():
    values = np.random.default_rng(0).normal(size=(9, 3)) + 0.5
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    pairs = [rows[i] @ rows[j] for i in range(9) for j in range(9) if i != j]
    assert geometry.mean_cosine(values) == pytest.approx(np.mean(pairs))


def test_an_all_zero_table_is_no_division_by_zero():
    found = geometry.compute_spectrum(np.zeros((5, 3), dtype=np.float32))
    assert (found.effective_rank, found.information_abundance, found.alive_share) == (0, 0, 0)


def test_alive_dimensions_are_counted_on_singular_values_themselves():
    """By hand: 0.02 of the largest 10 is above a thousandth, its square is not above a thousandth of the square."""
    singular = np.array([10.0, 0.5, 0.02, 0.009])
    assert geometry.alive_share(singular, 4) == 3 / 4
    assert geometry.alive_share(singular, 6) == 3 / 6  # of dimensions, not of singular values
    assert geometry.alive_share(np.array([10.0, 0.01]), 2) == 1 / 2  # at the threshold is not above it
    rows = np.diag(singular)
    np.testing.assert_allclose(geometry.singular_values(rows), singular, rtol=1e-6)
    assert geometry.compute_spectrum(rows).alive_share == 3 / 4


def test_rank_and_abundance_by_hand():
    singular = np.array([2.0, 1.0, 1.0])
    assert geometry.information_abundance(singular) == 2
    assert geometry.effective_rank(singular) == pytest.approx(2 ** (0.5 * 1 + 0.25 * 2 + 0.25 * 2))
