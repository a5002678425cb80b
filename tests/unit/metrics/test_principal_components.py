import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sidflow.metrics.principal_components import principal_components


@pytest.mark.parametrize("shape", [(30, 7), (7, 30)])
def test_components_agree_with_the_svd_whichever_side_is_longer(shape):
    rows = np.random.default_rng(1).normal(size=shape)
    fitted = principal_components(rows, 4)
    reference = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(fitted.directions.T), np.abs(reference[2][:4]), atol=1e-6)
    np.testing.assert_allclose(fitted.variances, reference[1][:4] ** 2 / len(rows), rtol=1e-6)
    assert (fitted.directions[np.abs(fitted.directions).argmax(axis=0), np.arange(4)] > 0).all()


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(1, 6),
)
def test_projections_are_orthonormal_and_no_wider_than_asked(rows, dim):
    fitted = principal_components(rows, dim)
    width = fitted.directions.shape[1]
    assert 1 <= width <= min(dim, rows.shape[1])
    np.testing.assert_allclose(fitted.directions.T @ fitted.directions, np.eye(width), atol=1e-6)
    assert (np.diff(fitted.variances) <= 1e-9).all()
    assert np.isfinite(fitted.apply(rows, whiten=True)).all()
