import numpy as np

from sidflow.metrics.geometry import unit_rows


def test_rows_are_of_length_one_or_absent():
    rows = unit_rows(np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), np.array([True, False, True]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]])
    assert rows.dtype == np.float32


def test_without_a_mask_all_rows_are_kept():
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    np.testing.assert_allclose((unit_rows(rows) ** 2).sum(1), 1, rtol=1e-6)
