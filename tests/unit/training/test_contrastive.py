import math

import pytest
import torch

from sidflow.training.losses import info_nce


def test_known_value_of_two_orthogonal_pairs():
    rows = torch.eye(2)
    assert info_nce(rows, rows * 5, temperature=0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_equals_a_float64_loop():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    cosine = [[float(x @ y / x.norm() / y.norm()) / 0.2 for y in b] for x in a]
    expected = 0.0
    for i in range(7):
        expected += math.log(sum(math.exp(cosine[i][j]) for j in range(7))) - cosine[i][i]
        expected += math.log(sum(math.exp(cosine[j][i]) for j in range(7))) - cosine[i][i]
    assert info_nce(a, b, 0.2).item() == pytest.approx(expected / 14, rel=1e-12)


def test_symmetric_and_blind_to_scale_but_not_to_matching():
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(16, 8, generator=generator)
    b = a + 0.1 * torch.randn(16, 8, generator=generator)
    assert info_nce(a, b).item() == pytest.approx(info_nce(b, 3 * a).item(), rel=1e-5)
    assert info_nce(a, b).item() < 0.1 < info_nce(a, b.roll(1, 0)).item()


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_give_zero_with_a_gradient(rows):
    a = torch.ones(rows, 3, requires_grad=True)
    loss = info_nce(a, torch.ones(rows, 3))
    loss.backward()
    assert loss.item() == 0 and a.grad is not None and not a.grad.any()
