import numpy as np
import pytest

from sidflow.metrics.geometry import nearest_neighbours, neighbour_recall


def test_nearest_equals_brute_force():
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    distances = ((values[:, None].astype(float) - values[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(nearest_neighbours(values, 5), np.argsort(distances, axis=1)[:, :5])


def test_cosine_does_not_see_lengths():
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    scaled = values * np.random.default_rng(1).uniform(0.5, 20, size=(30, 1)).astype(np.float32)
    np.testing.assert_array_equal(nearest_neighbours(values, 4, "cosine"), nearest_neighbours(scaled, 4, "cosine"))
    assert neighbour_recall(values, scaled, 4, metric="cosine").recall == 1
    assert neighbour_recall(values, scaled, 4).recall < 1


def test_an_item_is_never_its_own_neighbour_even_among_duplicates():
    values = np.ones((9, 3), dtype=np.float32)
    found = nearest_neighbours(values, 3)
    assert found.shape == (9, 3)
    assert not (found == np.arange(9)[:, None]).any()


def test_kept_is_one_for_itself_and_k_over_n_for_noise():
    values = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32)
    assert neighbour_recall(values, values, 10).recall == 1
    assert neighbour_recall(values, noise, 10).recall == pytest.approx(10 / 399, abs=0.01)


def test_kept_looks_at_present_rows_only():
    values = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    present = np.arange(40) < 20
    broken = values.copy()
    broken[20:] = 0
    assert neighbour_recall(values, broken, 5, present) == (1.0, 20, 5)
    assert np.isnan(neighbour_recall(values, broken, 5, np.zeros(40, dtype=bool)).recall)


def test_a_k_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="1 to 3"):
        nearest_neighbours(np.eye(4, dtype=np.float32), 4)
