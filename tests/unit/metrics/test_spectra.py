import numpy as np
import pytest

from sidflow.metrics import geometry


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
