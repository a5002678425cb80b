from pathlib import Path

import numpy as np
import pytest

from sidflow.core.errors import InputError
from sidflow.features.modality import ModalityParams, fit_rows, make_modality


def params(**knobs):
    return ModalityParams(source=Path("x.safetensors"), **knobs)


def normalise_rows(rows, method):
    return fit_rows(rows, method).apply(rows)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(50, 6)) * [10, 3, 1, 1, 0.2, 0.1] + 5).astype(np.float32)


def test_scale_keeps_the_order_of_distances(rows):
    made = normalise_rows(rows, "scale")
    assert np.square(made).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-5)
    before, after = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (rows, made))
    np.testing.assert_allclose(after, before * (after[0, 1] / before[0, 1]), rtol=1e-3, atol=1e-4)


def test_length_is_scale_divided_by_the_root_of_the_width(rows):
    made = normalise_rows(rows, "length")
    assert np.square(made).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(made * 6**0.5, normalise_rows(rows, "scale"), rtol=1e-5, atol=1e-6)


def test_l2_standardise_whiten_and_none(rows):
    np.testing.assert_allclose(np.linalg.norm(normalise_rows(rows, "l2"), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(normalise_rows(rows, "standardise").std(axis=0), 1, rtol=1e-3)
    white = normalise_rows(rows, "whiten")
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(6), atol=1e-3)
    np.testing.assert_array_equal(normalise_rows(rows, "none"), rows)


def test_only_present_rows_count_and_missing_items_are_absent(rows):
    present = np.arange(50) % 3 != 0
    noisy = rows.copy()
    noisy[~present] = 0
    values, mask, _ = make_modality(noisy, present, 60, params())
    np.testing.assert_array_equal(values[mask], normalise_rows(rows[present], "scale"))
    np.testing.assert_array_equal(mask[:50], present)
    assert not mask[50:].any()
    assert not values[~mask].any()


def test_more_rows_than_items_are_refused(rows):
    with pytest.raises(InputError, match="50 rows"):
        make_modality(rows, np.ones(50, dtype=bool), 49, params())


@pytest.mark.parametrize("how", ["scale", "length", "l2", "standardise", "whiten", "none"])
@pytest.mark.parametrize("dim", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_rows_are_no_trouble(how, dim, count):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    made, mask, _ = make_modality(values, np.arange(4) < count, 5, params(normalise=how, dim=dim))
    assert made.shape[0] == 5
    assert mask.sum() == count
    assert np.isfinite(made).all()


def test_dim_keeps_the_directions_of_most_variance(rows):
    made, *_ = make_modality(rows, np.ones(50, dtype=bool), 50, params(normalise="none", dim=2))
    assert made.shape == (50, 2)
    reference = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(made), np.abs(reference[0][:, :2] * reference[1][:2]), rtol=1e-2, atol=1e-3)
