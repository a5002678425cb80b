"""InfoNCE and MMD against their formulas, pair by pair."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sidflow.training.losses import info_nce, mmd


def mmd_reference(x, y, bandwidths=(1.0,), estimator="published"):
    """The formula, pair by pair, in float64."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    b = len(x)
    pooled = np.concatenate([x, y])
    distances = np.array([[np.sum((u - v) ** 2) for v in pooled] for u in pooled])
    mean = distances.sum() / (2 * b * (2 * b - 1))
    k = np.mean([np.exp(-distances / (w * mean)) for w in bandwidths], axis=0)
    xx, yy, xy = k[:b, :b], k[b:, b:], k[:b, b:]
    off = ~np.eye(b, dtype=bool)
    cross = xy.mean() if estimator == "published" else xy[off].mean()
    return xx[off].mean() + yy[off].mean() - 2 * cross


def rows(seed, b, d, shift=0.0, dtype=torch.float32):
    return torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=dtype) + shift


@pytest.mark.parametrize("estimator", ["published", "u_statistic"])
@pytest.mark.parametrize("bandwidths", [(1.0,), (0.25, 1.0, 4.0)])
def test_mmd_equals_the_float64_reference(estimator, bandwidths):
    x, y = rows(0, 24, 7), rows(1, 24, 7, shift=0.4)
    expected = mmd_reference(x, y, bandwidths, estimator)
    assert mmd(x, y, bandwidths, estimator).item() == pytest.approx(expected, abs=1e-6)
    assert mmd(x.double(), y.double(), bandwidths, estimator).item() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 99), st.floats(-1e3, 1e3))
def test_mmd_of_a_set_with_itself(b, d, seed, shift):
    x = rows(seed, b, d, shift, torch.float64)
    assert abs(mmd(x, x, estimator="u_statistic").item()) < 1e-9
    assert mmd(x, x).item() <= 1e-9  # the published form counts each row's match with itself
    assert mmd(x, x[torch.randperm(b)], (0.5, 2.0)).item() == pytest.approx(mmd(x, x, (0.5, 2.0)).item(), abs=1e-9)


def test_far_from_the_origin_float32_still_holds():
    x, y = rows(0, 32, 16), rows(1, 32, 16, shift=0.3)
    near, far = mmd(x, y).item(), mmd(x + 1000, y + 1000).item()
    assert far == pytest.approx(near, abs=1e-4)


def test_the_gradient_of_mmd_equals_finite_differences_at_a_fixed_bandwidth():
    x, y = rows(0, 6, 3, dtype=torch.float64), rows(1, 6, 3, dtype=torch.float64)
    leaf = y.clone().requires_grad_()
    mmd(x, leaf).backward()
    pooled = torch.cat([x, y])
    mean = torch.cdist(pooled, pooled).square().sum() / (12 * 11)

    def fixed(moved):
        def k(u, v):
            return torch.exp(-torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist").square() / mean)

        off = ~torch.eye(6, dtype=torch.bool)
        return k(x, x)[off].mean() + k(moved, moved)[off].mean() - 2 * k(x, moved).mean()

    for i, j in [(0, 0), (3, 2), (5, 1)]:
        step = torch.zeros_like(y)
        step[i, j] = 1e-6
        slope = (fixed(y + step) - fixed(y - step)) / 2e-6
        assert leaf.grad is not None
        assert leaf.grad[i, j].item() == pytest.approx(slope.item(), rel=1e-5)


@pytest.mark.parametrize("b", [0, 1])
def test_mmd_of_too_few_rows_is_zero_with_a_gradient(b):
    y = torch.ones(b, 2, requires_grad=True)
    loss = mmd(torch.zeros(b, 2), y)
    loss.backward()
    assert loss.item() == 0 and y.grad is not None and not y.grad.any()


def test_mmd_of_one_point_for_all_rows_is_zero_and_finite():
    y = torch.full((4, 3), 2.0, requires_grad=True)
    loss = mmd(torch.full((4, 3), 2.0), y)
    loss.backward()
    assert loss.item() == 0 and y.grad is not None and torch.isfinite(y.grad).all()


def test_mmd_grows_with_the_shift():
    x = rows(0, 200, 4)
    values = [mmd(x, rows(1, 200, 4, shift)).item() for shift in (0.0, 0.5, 1.0, 2.0)]
    assert abs(values[0]) < 0.02 and values == sorted(values)


def test_info_nce_of_two_orthogonal_pairs():
    rows = torch.eye(2)
    assert info_nce(rows, rows * 5, temperature=0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_info_nce_equals_a_float64_loop():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    cosine = [[float(x @ y / x.norm() / y.norm()) / 0.2 for y in b] for x in a]
    expected = 0.0
    for i in range(7):
        expected += math.log(sum(math.exp(cosine[i][j]) for j in range(7))) - cosine[i][i]
        expected += math.log(sum(math.exp(cosine[j][i]) for j in range(7))) - cosine[i][i]
    assert info_nce(a, b, 0.2).item() == pytest.approx(expected / 14, rel=1e-12)


def test_info_nce_is_symmetric_and_depends_on_matching_but_not_on_scale():
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 8, generator=generator)
    b = a + 0.1 * torch.randn(16, 8, generator=generator)
    assert info_nce(a, b).item() == pytest.approx(info_nce(b, 3 * a).item(), rel=1e-5)
    assert info_nce(a, b).item() < 0.1 < info_nce(a, b.roll(1, 0)).item()


@pytest.mark.parametrize("rows", [0, 1])
def test_info_nce_of_too_few_rows_is_zero_with_a_gradient(rows):
    a = torch.ones(rows, 3, requires_grad=True)
    loss = info_nce(a, torch.ones(rows, 3))
    loss.backward()
    assert loss.item() == 0 and a.grad is not None and not a.grad.any()


def test_the_discrepancy_is_the_same_under_autocast():
    """In bf16 rows that are near one another would be one point."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 32, generator=generator)
    y = x + 0.1 * torch.randn(64, 32, generator=generator)
    expected = mmd(y.requires_grad_(), x)
    (slope,) = torch.autograd.grad(expected, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = mmd(y, x)
        (found,) = torch.autograd.grad(value, y)
        rounded = mmd(y.detach().bfloat16(), x)
    assert torch.equal(value, expected) and torch.equal(found, slope)
    assert rounded.dtype == torch.float32
